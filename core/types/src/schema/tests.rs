//! Schemas of types, beside what serde writes of them.

use super::*;

fn text<T: State>() -> String {
    Schema::of::<T>().to_string()
}

/// A type as two versions of a program have it.
macro_rules! click {
    ($module:ident, $($field:ident: $type:ty),*) => {
        mod $module {
            use super::super::*;

            #[derive(Serialize, Deserialize)]
            pub(super) struct Click {
                $($field: $type,)*
            }

            impl State for Click {
                fn schema(builder: &mut SchemaBuilder) -> Kind {
                    builder.structure::<Self>("Click", |fields| {
                        $(fields.add::<$type>(stringify!($field));)*
                    })
                }
            }
        }
    };
}
click!(first, page: u32, user: String);
click!(same, page: u32, user: String);
click!(moved, user: String, page: u32);
click!(other, page: u64, user: String);

#[derive(Serialize, Deserialize)]
struct Tree<T> {
    value: T,
    left: Option<Box<Tree<T>>>,
    others: Vec<Tree<T>>,
}

impl<T: State> State for Tree<T> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.structure::<Self>("Tree", |fields| {
            fields.add::<T>("value");
            fields.add::<Option<Box<Self>>>("left").or_default();
            fields.add::<Vec<Self>>("others").alias("children").alias("more");
        })
    }
}

#[test]
fn schemas_are_equal_if_names_and_kinds_are() {
    let first = Schema::of::<first::Click>();
    assert_eq!(first, Schema::of::<same::Click>());
    assert_ne!(first, Schema::of::<moved::Click>());
    assert_ne!(first, Schema::of::<other::Click>());
    assert_eq!(Schema::of::<Tree<first::Click>>(), Schema::of::<Tree<same::Click>>());
    assert_ne!(Schema::of::<Tree<first::Click>>(), Schema::of::<Tree<other::Click>>());
}

#[test]
fn a_recursive_type_is_described_once() {
    let schema = Schema::of::<Tree<u8>>();
    assert_eq!(schema.types().len(), 1);
    assert_eq!(*schema.root(), Kind::Named(0));
    assert_eq!(
        schema.to_string(),
        "Tree { value: u8, left: Tree? = default, others (or children) (or more): [Tree] }"
    );
}

#[test]
fn types_of_one_name_are_told_apart() {
    assert_eq!(
        text::<(first::Click, other::Click, first::Click)>(),
        "(Click { page: u32, user: string }, Click#2 { page: u64, user: string }, Click)"
    );
}

#[test]
fn types_of_the_standard_library_have_schemas() {
    use std::collections::{BTreeMap, HashSet};
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, SystemTime};

    assert_eq!(
        text::<(u8, i128, usize, f32, bool, char, ())>(),
        "(u8, i128, u64, f32, bool, char, ())"
    );
    assert_eq!(text::<HashMap<String, Option<Vec<Box<str>>>>>(), "map<string, [string]?>");
    assert_eq!(text::<BTreeMap<[u8; 4], HashSet<u16>>>(), "map<[u8; 4], [u16]>");
    assert_eq!(text::<Duration>(), "Duration { secs: u64, nanos: u32 }");
    assert_eq!(text::<Result<u8, String>>(), "enum Result { Ok(u8), Err(string) }");
    assert_eq!(text::<IpAddr>(), "enum IpAddr { V4([u8; 4]), V6([u8; 16]) }");
    assert_eq!(text::<SocketAddr>(), "enum SocketAddr { V4(([u8; 4], u16)), V6(([u8; 16], u16)) }");
    assert_eq!(
        text::<SystemTime>(),
        "SystemTime { secs_since_epoch: u64, nanos_since_epoch: u32 }"
    );
    assert_eq!(text::<Opaque<Option<SystemTime>>>(), "opaque(Option<SystemTime>)");
}

#[test]
fn names_of_types_lose_their_modules() {
    for (name, short) in [
        ("u8", "u8"),
        ("a::b::C<d::E, [f::G; 4]>", "C<E, [G; 4]>"),
        ("(alloc::string::String, &str)", "(String, &str)"),
        ("", ""),
    ] {
        assert_eq!(short_name(name), short);
    }
}
