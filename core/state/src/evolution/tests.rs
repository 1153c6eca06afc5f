//! Values of one version of a type, read as those of the next one, out of snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use millstream_macros::State;
use millstream_types::{Key, MaxParallelism, Opaque, Schema, State};
use serde::{Deserialize, Serialize};

use super::{Compatibility, compare};
use crate::backend::KeyedBackend;
use crate::snapshot::KeyedSnapshot;

mod golden;
mod random;
mod states;

/// Types with the traits that state needs.
macro_rules! types {
    ($($item:item)*) => {
        $(#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, State)]
        $item)*
    };
}
use types;

fn backend() -> KeyedBackend<u32> {
    let mut backend = KeyedBackend::new(0..128, MaxParallelism::DEFAULT);
    backend.set_key(7, 7_u32.stable_hash()).unwrap();
    backend
}

/// A snapshot in which the state `it` has this value.
fn snapshot_of<T: State>(value: T) -> KeyedSnapshot {
    let mut backend = backend();
    let state = backend.value("it").unwrap();
    state.set(&mut backend, value).unwrap();
    backend.snapshot().unwrap()
}

fn restored<T: State + Clone>(snapshot: KeyedSnapshot) -> Result<T, String> {
    let mut backend = backend();
    backend.restore(vec![snapshot]).unwrap();
    let state = backend.value::<T>("it").map_err(|error| error.to_string())?;
    Ok(state.get(&backend).unwrap().unwrap().clone())
}

/// A value that a state kept in one version of a program, in the next version.
fn upgraded<T: State + Clone>(before: impl State) -> Result<T, String> {
    restored(snapshot_of(before))
}

fn check<T: State + Clone + Debug + PartialEq>(before: impl State, after: T) {
    assert_eq!(upgraded::<T>(before), Ok(after));
}

fn refused<T: State + Clone + Debug>(before: impl State, reason: &str) {
    let said = upgraded::<T>(before).unwrap_err();
    assert_eq!(said, format!("state \"it\" cannot be restored: {reason}"));
}

fn same<A: State, B: State>() -> bool {
    compare(&Schema::of::<A>(), &Schema::of::<B>()) == Ok(Compatibility::Same)
}

mod v1 {
    use super::*;

    types! {
        #[derive(Eq, Hash)]
        pub(super) struct Click {
            pub(super) page: u32,
            pub(super) user: String,
            pub(super) at: Option<i64>,
        }

        pub(super) enum Shape {
            Nothing,
            Round(f64),
            Square { side: u8, name: String },
            Line(u8, Click),
        }

        pub(super) struct Tree {
            pub(super) value: u8,
            pub(super) left: Option<Box<Tree>>,
            pub(super) more: Vec<Tree>,
        }

        pub(super) struct Wrapper(pub(super) Click);

        pub(super) struct Everywhere {
            pub(super) list: Vec<Click>,
            pub(super) map: BTreeMap<String, Vec<Click>>,
            pub(super) optional: Option<Click>,
            pub(super) tuple: (u8, Click, u8),
            pub(super) array: [Click; 2],
            pub(super) wrapper: Wrapper,
            pub(super) result: Result<Click, u8>,
            pub(super) boxed: Box<Click>,
        }
    }
}

mod v2 {
    use super::*;

    types! {
        /// A field is new, one is renamed, one is gone, and the others are elsewhere.
        pub(super) struct Click {
            #[serde(alias = "user")]
            pub(super) visitor: String,
            #[serde(default = "seven")]
            pub(super) weight: u16,
            pub(super) page: u64,
            pub(super) note: Option<String>,
        }

        pub(super) enum Shape {
            Triangle,
            #[serde(alias = "Square")]
            Rectangle {
                name: String,
                side: u8,
                #[serde(default)]
                other: u8,
            },
            Line(u16, Click),
            Nothing {
                #[serde(default)]
                why: String,
            },
        }

        pub(super) struct Tree {
            pub(super) more: Vec<Tree>,
            #[serde(rename = "left")]
            pub(super) first: Option<Box<Tree>>,
            pub(super) value: u8,
        }

        pub(super) struct Wrapper(pub(super) Click);

        pub(super) struct Everywhere {
            pub(super) list: Vec<Click>,
            pub(super) map: HashMap<String, Vec<Click>>,
            pub(super) optional: Option<Click>,
            pub(super) tuple: (u8, Click, u8),
            pub(super) array: [Click; 2],
            pub(super) wrapper: Wrapper,
            pub(super) result: Result<Click, u8>,
            pub(super) boxed: Box<Click>,
        }
    }

    fn seven() -> u16 {
        7
    }
}

fn click() -> v1::Click {
    v1::Click { page: 300, user: "ann".to_owned(), at: Some(-5) }
}

fn new_click() -> v2::Click {
    v2::Click { visitor: "ann".to_owned(), weight: 7, page: 300, note: None }
}

#[test]
fn fields_are_added_removed_moved_renamed_and_widened() {
    check(click(), new_click());
}

#[test]
fn types_change_wherever_they_are() {
    let before = v1::Everywhere {
        list: vec![click(), click()],
        map: BTreeMap::from([("a".to_owned(), vec![click()])]),
        optional: Some(click()),
        tuple: (1, click(), 2),
        array: [click(), click()],
        wrapper: v1::Wrapper(click()),
        result: Ok(click()),
        boxed: Box::new(click()),
    };
    let after = v2::Everywhere {
        list: vec![new_click(), new_click()],
        map: HashMap::from([("a".to_owned(), vec![new_click()])]),
        optional: Some(new_click()),
        tuple: (1, new_click(), 2),
        array: [new_click(), new_click()],
        wrapper: v2::Wrapper(new_click()),
        result: Ok(new_click()),
        boxed: Box::new(new_click()),
    };
    check(before, after);
    check(Err::<v1::Click, u8>(3), Err::<v2::Click, u8>(3));
    check(None::<v1::Click>, None::<v2::Click>);
}

#[test]
fn types_that_contain_themselves_change() {
    let leaf = |value| v1::Tree { value, left: None, more: Vec::new() };
    let new_leaf = |value| v2::Tree { value, first: None, more: Vec::new() };
    check(
        v1::Tree { value: 1, left: Some(Box::new(leaf(2))), more: vec![leaf(3), leaf(4)] },
        v2::Tree {
            value: 1,
            first: Some(Box::new(new_leaf(2))),
            more: vec![new_leaf(3), new_leaf(4)],
        },
    );
}

#[test]
fn variants_are_added_moved_renamed_and_removed() {
    let name = || "s".to_owned();
    check(
        v1::Shape::Square { side: 3, name: name() },
        v2::Shape::Rectangle { name: name(), side: 3, other: 0 },
    );
    check(v1::Shape::Line(9, click()), v2::Shape::Line(9, new_click()));
    check(v1::Shape::Nothing, v2::Shape::Nothing { why: String::new() });
    refused::<v2::Shape>(
        v1::Shape::Round(1.5),
        "it has a value `Round` of enum Shape, and the program's Shape has no such variant",
    );
}

#[test]
fn a_variant_may_lose_its_fields() {
    types! {
        enum Shape { Line, Square {}, Nothing }
    }
    // A variant with named fields, and none without names.
    refused::<Shape>(
        v1::Shape::Line(1, click()),
        "variant `Line` of Shape has 2 fields without names in the snapshot and 0 fields with \
         names in the program",
    );
    mod before {
        use super::*;
        types! {
            pub(super) enum Shape { Nothing, Square { side: u8 } }
            pub(super) struct All { pub(super) side: u8 }
        }
    }
    check(before::Shape::Square { side: 1 }, Shape::Square {});
    types! {
        struct All;
    }
    check((before::All { side: 1 }, 2_u8), (All, 2_u8));
}

#[test]
fn a_new_field_needs_a_default_unless_it_is_optional() {
    types! {
        struct Click { page: u32, user: String, at: Option<i64>, weight: u8 }
    }
    refused::<Click>(
        click(),
        "field `weight` of Click is not in the snapshot: give it #[serde(default)] if it is new, \
         or #[serde(alias = \"..\")] with its name there if it was renamed",
    );
}

#[test]
fn a_type_that_has_changed_is_refused_with_both() {
    types! {
        struct Click { page: String, user: String, at: Option<i64> }
    }
    let reason = "field `page` of Click is u32 in the snapshot and string in the program";
    refused::<Click>(click(), reason);
    refused::<Vec<(u8, Click)>>(vec![(1_u8, click())], reason);
    refused::<(u8, u8)>(
        (1_u8, 2_u8, 3_u8),
        "it is (u8, u8, u8) in the snapshot and (u8, u8) in the program",
    );
    refused::<(u8, Vec<i8>)>(
        (1_u8, vec![Some(2_u8)]),
        "an element of part 1 of it is u8? in the snapshot and i8 in the program",
    );
    refused::<[u8; 3]>([1_u8; 2], "it is [u8; 2] in the snapshot and [u8; 3] in the program");
    refused::<v2::Shape>(
        click(),
        &format!(
            "it is Click {{ page: u32, user: string, at: i64? }} in the snapshot and {} in the \
             program",
            Schema::of::<v2::Shape>()
        ),
    );
    types! {
        struct Pair(u8, u16);
        struct Other(u8);
    }
    refused::<Other>(
        Pair(1, 2),
        "Other has 2 fields without names in the snapshot and 1 field without names in the \
         program",
    );
}

#[test]
fn integers_become_wider_and_nothing_else() {
    check(vec![250_u8], vec![250_u64]);
    check((u16::MAX, i32::MIN), (i32::from(u16::MAX), i64::from(i32::MIN)));
    check(u64::MAX, u128::from(u64::MAX));
    check(Some(i8::MIN), Some(i128::from(i8::MIN)));
    refused::<u32>(1_u64, "it is u64 in the snapshot and u32 in the program");
    refused::<u32>(1_u32 as i32, "it is i32 in the snapshot and u32 in the program");
    refused::<i32>(1_u32, "it is u32 in the snapshot and i32 in the program");
    refused::<u64>(1_i32, "it is i32 in the snapshot and u64 in the program");
    refused::<f64>(1_f32, "it is f32 in the snapshot and f64 in the program");
}

/// As a type of another crate is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Foreign(u8, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OtherForeign(u8, String);

#[test]
fn opaque_parts_stay_as_they_are() {
    mod before {
        use super::*;
        types! {
            pub(super) struct Holder {
                pub(super) first: u8,
                pub(super) foreign: Opaque<Foreign>,
                pub(super) last: u8,
            }
        }
    }
    types! {
        struct Holder { last: u16, #[state(opaque)] foreign: Foreign }
        struct Without { last: u8 }
        struct Another { first: u8, foreign: Opaque<OtherForeign>, last: u8 }
    }
    let foreign = || Foreign(7, "x".to_owned());
    let before = || before::Holder { first: 1, foreign: Opaque(foreign()), last: 3 };
    check(before(), Holder { last: 3, foreign: foreign() });
    refused::<Without>(
        before(),
        "field `foreign` of Without is not in the program, and cannot be left out because it has \
         opaque parts, which only their type can read: keep the field",
    );
    refused::<Another>(
        before(),
        "field `foreign` of Another is opaque(Foreign) in the snapshot and opaque(OtherForeign) \
         in the program",
    );
}

#[test]
fn names_are_those_of_serde() {
    mod before {
        use super::*;
        types! {
            #[serde(rename_all = "camelCase")]
            pub(super) struct Client { pub(super) client_number: u32, pub(super) old: u8 }
            #[serde(transparent)]
            pub(super) struct Cents { pub(super) value: i32 }
        }
    }
    types! {
        #[serde(rename_all = "SCREAMING-KEBAB-CASE", deny_unknown_fields, default)]
        struct Client {
            year: u16,
            #[serde(alias = "clientNumber")]
            client_number: u32,
        }
        struct Renamed {
            #[serde(default, rename(serialize = "clientNumber", deserialize = "number"))]
            client_number: u32,
        }
    }
    impl Default for Client {
        fn default() -> Self {
            Self { year: 1999, client_number: 0 }
        }
    }
    let before = || before::Client { client_number: 5, old: 1 };
    check(before(), Client { year: 1999, client_number: 5 });
    check(before::Cents { value: 3 }, 3_i64);
    check(4_i16, before::Cents { value: 4 });
    refused::<Renamed>(
        before(),
        "its Deserialize has no field `clientNumber`: give the field one name to write and read",
    );
}

#[test]
#[expect(unreachable_patterns, reason = "serde's derive finds the alias that is there twice")]
fn names_that_are_claimed_twice_are_refused() {
    types! {
        struct Click { #[serde(alias = "user")] name: String, #[serde(alias = "user")] of: String }
        struct Both { #[serde(alias = "page")] #[serde(alias = "at")] page_or_at: u64 }
    }
    refused::<Click>(
        click(),
        "field `user` of Click is the name or alias of two fields in the program",
    );
    mod before {
        use super::*;
        types! {
            pub(super) struct Two { pub(super) page: u32, pub(super) at: u32 }
        }
    }
    refused::<Both>(
        before::Two { page: 1, at: 2 },
        "field `at` of Both and `page` are both `page_or_at` in the program",
    );
}

#[test]
fn keys_of_maps_are_read_as_they_were_written() {
    let map = || BTreeMap::from([(1_u8, 1_u8)]);
    refused::<BTreeMap<u16, u8>>(
        map(),
        "a key of it has changed: keys of maps are read only as they were written",
    );
    check(map(), HashMap::from([(1_u8, 1_u32)]));
    check(BTreeSet::from([1_u8, 2]), BTreeSet::from([1_u32, 2]));
}

#[test]
fn elements_of_a_set_that_become_equal_are_one() {
    mod before {
        use super::*;
        types! {
            #[derive(Eq, PartialOrd, Ord)]
            pub(super) struct Tag { pub(super) name: String, pub(super) n: u8 }
        }
    }
    types! {
        #[derive(Eq, PartialOrd, Ord)]
        struct Tag { name: String }
    }
    let tag = |n| before::Tag { name: "a".to_owned(), n };
    check(BTreeSet::from([tag(1), tag(2)]), BTreeSet::from([Tag { name: "a".to_owned() }]));
}

#[test]
fn bytes_that_mean_the_same_are_not_converted() {
    types! {
        struct Visit { #[serde(alias = "page")] site: u32, user: String, at: Option<i64> }
        enum Longer { Nothing, Round(f64), Square { side: u8, name: String }, Line(u8, Visit), End }
    }
    assert!(same::<v1::Click, Visit>());
    assert!(same::<Vec<v1::Shape>, Vec<Longer>>());
    assert!(!same::<Longer, v1::Shape>());
    assert!(!same::<v1::Tree, v2::Tree>());
    types! {
        struct Tree { value: u8, #[serde(default)] left: Option<Box<Tree>>, more: Vec<Tree> }
    }
    assert!(same::<v1::Tree, Tree>());
    check(
        v1::Shape::Line(1, click()),
        Longer::Line(1, Visit { site: 300, user: "ann".to_owned(), at: Some(-5) }),
    );
}

#[test]
fn deep_values_are_converted_or_refused() {
    types! {
        enum Path { Root, Below { parent: Box<Path>, name: u8 } }
    }
    mod after {
        use super::*;
        types! {
            pub(super) enum Path { Below { name: u16, parent: Box<Path> }, Root }
            pub(super) struct Without { #[serde(default)] pub(super) n: u8 }
        }
    }
    let deep = |levels| {
        (0..levels).fold(Path::Root, |path, _| Path::Below { parent: Box::new(path), name: 1 })
    };
    assert!(upgraded::<after::Path>(deep(200)).is_ok());
    let reason = "a value is nested deeper than 256 levels";
    refused::<after::Path>(deep(5_000), reason);
    types! {
        struct With { path: Path }
    }
    check(With { path: deep(100) }, after::Without { n: 0 });
    refused::<after::Without>(With { path: deep(5_000) }, reason);
}
