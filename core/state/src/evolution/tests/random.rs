//! Random values and random bytes.

use millstream_types::schema::{Body, Field, Kind, NamedType};
use proptest::prelude::*;

use super::*;
use crate::evolution::reading::Input;
use crate::evolution::{Conversion, Node};

types! {
    enum Part {
        Empty,
        Number(u64),
        Pair(i16, Option<char>),
        Named { text: String, parts: Vec<Part>, unit: () },
        Nested(Box<All>),
    }

    struct Unit;

    struct Numbers { a: i8, b: i64, c: u128, d: i128, e: f32, f: f64, g: bool }

    struct All {
        parts: Vec<Part>,
        numbers: Numbers,
        map: BTreeMap<String, Option<Numbers>>,
        unit: Unit,
        array: [Option<u16>; 3],
        opaque: Opaque<(String, u8)>,
        result: Result<Box<str>, Vec<u8>>,
        wrapped: Wrapped,
    }

    struct Wrapped(BTreeSet<i32>);
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let all = any::<(i8, i64, u128, i128, u32, i32, bool)>();
    all.prop_map(|(a, b, c, d, e, f, g)| Numbers { a, b, c, d, e: e as f32, f: f64::from(f), g })
}

fn parts() -> impl Strategy<Value = Part> {
    let leaf = prop_oneof![
        Just(Part::Empty),
        any::<u64>().prop_map(Part::Number),
        any::<(i16, Option<char>)>().prop_map(|(number, letter)| Part::Pair(number, letter)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            ("\\PC{0,9}", parts()).prop_map(|(text, parts)| Part::Named { text, parts, unit: () }),
            all(parts()).prop_map(|all| Part::Nested(Box::new(all))),
        ]
    })
}

fn all(parts: impl Strategy<Value = Vec<Part>>) -> impl Strategy<Value = All> {
    let map = prop::collection::btree_map("[a-c]{0,2}", prop::option::of(numbers()), 0..3);
    let result =
        prop_oneof!["\\PC{0,5}".prop_map(|text| Ok(text.into())), any::<Vec<u8>>().prop_map(Err),];
    let opaque = any::<(String, u8)>().prop_map(Opaque);
    let wrapped = any::<BTreeSet<i32>>().prop_map(Wrapped);
    (parts, numbers(), map, any::<[Option<u16>; 3]>(), opaque, result, wrapped).prop_map(
        |(parts, numbers, map, array, opaque, result, wrapped)| All {
            parts,
            numbers,
            map,
            unit: Unit,
            array,
            opaque,
            result,
            wrapped,
        },
    )
}

fn values() -> impl Strategy<Value = All> {
    all(prop::collection::vec(parts(), 0..4))
}

/// Has the walk read bytes; the value, and the number of bytes left.
fn walk<T: State>(bytes: &[u8]) -> Option<(T, usize)> {
    let mut rest = bytes;
    let value = Conversion::identity(&Schema::of::<T>()).take(&mut rest).ok()?;
    Some((value, rest.len()))
}

fn postcard<T: State>(bytes: &[u8]) -> Option<(T, usize)> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    Some((value, rest.len()))
}

/// Converts bytes of `A` to a `B`; an error is fine.
fn convert<A: State, B: State>(bytes: &[u8]) {
    let Ok(Compatibility::Converts(conversion)) = compare(&Schema::of::<A>(), &Schema::of::<B>())
    else {
        panic!("these types are converted");
    };
    let mut rest = bytes;
    let _ = conversion.take::<B>(&mut rest);
}

fn skip<T: State>(bytes: &[u8]) -> Option<usize> {
    let (schema, mut input) = (Schema::of::<T>(), Input::new(bytes));
    input.skip(schema.types(), schema.root(), 0).ok()?;
    Some(input.left())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_walk_reads_what_postcard_reads(value in values(), more in any::<Vec<u8>>()) {
        let mut bytes = postcard::to_stdvec(&value).unwrap();
        let len = bytes.len();
        prop_assert_eq!(walk::<All>(&bytes), Some((value.clone(), 0)));
        bytes.extend(&more);
        prop_assert_eq!(walk::<All>(&bytes), Some((value, more.len())));
        prop_assert!(walk::<All>(&bytes[..len - 1]).is_none());
    }

    #[test]
    fn what_is_skipped_is_what_is_read(parts in prop::collection::vec(numbers(), 0..4)) {
        let value = (parts, "x", Some('y'), BTreeMap::from([(1_u8, ((), [0_u16; 2]))]));
        let bytes = postcard::to_stdvec(&value).unwrap();
        type Value = (Vec<Numbers>, String, Option<char>, BTreeMap<u8, ((), [u16; 2])>);
        prop_assert_eq!(skip::<Value>(&bytes), Some(0));
    }

    #[test]
    fn damaged_bytes_are_read_as_postcard_reads_them(
        value in values(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = postcard::to_stdvec(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let (walked, read) = (walk::<All>(&bytes), postcard::<All>(&bytes));
        prop_assert_eq!(walked.map(|(_, left)| left), read.map(|(_, left)| left));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let left = |read: Option<(Vec<Part>, usize)>| read.map(|(_, left)| left);
        prop_assert_eq!(left(walk(&bytes)), left(postcard(&bytes)));
        convert::<v1::Everywhere, v2::Everywhere>(&bytes);
        convert::<v1::Shape, v2::Shape>(&bytes);
        convert::<v1::Tree, v2::Tree>(&bytes);
        convert::<Vec<v1::Click>, Vec<v2::Click>>(&bytes);
        skip::<v1::Everywhere>(&bytes);
        skip::<Vec<v1::Shape>>(&bytes);
    }
}

#[test]
fn lengths_that_are_only_told_reserve_nothing() {
    types! {
        struct Empty {}
        struct Full { #[serde(default)] more: [u64; 4] }
        struct Holder { empty: Vec<Empty> }
        struct Without {}
    }
    let huge = postcard::to_stdvec(&u64::MAX).unwrap();
    convert::<Vec<v1::Click>, Vec<v2::Click>>(&huge);
    convert::<Vec<Empty>, Vec<Full>>(&huge);
    // Skipped lists of nothing take no time.
    convert::<Holder, Without>(&huge);
    assert_eq!(skip::<BTreeMap<(), ()>>(&huge), Some(0));
    check(vec![Empty {}, Empty {}], vec![Full { more: [0; 4] }, Full { more: [0; 4] }]);
}

#[test]
fn damaged_schemas_are_refused() {
    let bytes = postcard::to_stdvec(&Schema::of::<Vec<v1::Shape>>()).unwrap();
    let read = Schema::of::<Vec<v2::Shape>>();
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(schema) = postcard::from_bytes::<Schema>(&flipped) else { continue };
        if let Ok(Compatibility::Converts(conversion)) = compare(&schema, &read) {
            for value in 0..=u8::MAX {
                let _ = conversion.take::<Vec<v2::Shape>>(&mut &[1, value, 0, 0, 0, 0, 0, 0][..]);
            }
        }
    }
}

/// A list of so many types, each of which contains the next.
#[test]
fn a_schema_without_end_is_refused() {
    types! {
        struct Tree { left: Option<Box<Tree>>, #[serde(default)] more: u8 }
    }
    let field = |kind| Field { name: "left".to_owned(), aliases: vec![], kind, default: false };
    let types: Vec<_> = (1..=100_000_usize)
        .map(|next| NamedType {
            name: "Tree".to_owned(),
            body: Body::Struct(vec![field(Kind::Optional(Box::new(Kind::Named(next))))]),
        })
        .collect();
    let bytes = postcard::to_stdvec(&(Kind::Named(0), types)).unwrap();
    let schema: Schema = postcard::from_bytes(&bytes).unwrap();
    let said = compare(&schema, &Schema::of::<Tree>()).unwrap_err().to_string();
    assert!(said.contains("is nested deeper than 256 levels"), "{said}");
}

/// Types of which each contains the next one twice, and none has any bytes.
#[test]
fn a_schema_that_doubles_without_end_is_refused() {
    let twice = |next| Kind::Tuple(vec![Kind::Named(next), Kind::Named(next)]);
    let field = |kind| Field { name: "a".to_owned(), aliases: vec![], kind, default: false };
    let types = (1..100).map(|next| NamedType {
        name: "Twice".to_owned(),
        body: Body::Struct(vec![field(twice(next % 99))]),
    });
    let bytes = postcard::to_stdvec(&(Kind::Named(0), types.collect::<Vec<_>>())).unwrap();
    let schema: Schema = postcard::from_bytes(&bytes).unwrap();
    let skipped = Input::new(&[]).skip(schema.types(), schema.root(), 0);
    assert!(skipped.is_err());
}

#[test]
fn parts_that_are_the_same_are_left_to_postcard() {
    let (was, is) = (Schema::of::<v1::Everywhere>(), Schema::of::<v2::Everywhere>());
    let Ok(Compatibility::Converts(conversion)) = compare(&was, &is) else { panic!("converts") };
    assert_eq!(conversion.root, Node::Named(0));
    let all = format!("{conversion:?}");
    assert!(all.contains("Tuple([Same, Named(1), Same])"), "{all}");
}
