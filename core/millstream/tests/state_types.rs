//! Types of every shape as state and as keys, in jobs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, HashMap};

use millstream::prelude::*;
use millstream::schema::Schema;
use millstream::testing::run_on;
use millstream::{Data, State};

/// A type of another crate, with serde's traits alone.
mod foreign {
    use millstream::serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(crate = "millstream::serde")]
    pub(super) struct Uuid(pub(super) u128);
}

#[millstream::record]
#[derive(PartialEq, Eq, Key)]
enum Path {
    Root,
    Below { parent: Box<Path>, name: String },
}

#[millstream::record]
#[derive(PartialEq, Eq, Key)]
struct Pair<A, B = u8> {
    left: A,
    right: Option<B>,
}

#[millstream::record]
#[derive(PartialEq, Eq, Key)]
#[serde(rename_all = "camelCase", rename = "Customer")]
struct Client {
    #[serde(alias = "id")]
    client_number: u32,
    #[serde(rename = "since", default)]
    first_year: u16,
    labels: BTreeMap<String, Vec<u16>>,
}

/// A foreign key has its words by hand.
#[millstream::record]
#[derive(PartialEq, Eq)]
struct Order(Opaque<foreign::Uuid>);

impl Key for Order {
    fn write(&self, hasher: &mut millstream::KeyHasher) {
        hasher.write_bytes(&self.0.0.0.to_le_bytes());
    }
}

#[millstream::record]
#[derive(PartialEq)]
struct Event {
    #[state(opaque)]
    id: foreign::Uuid,
    kind: Kind,
    sizes: [f32; 3],
}

#[millstream::record]
#[derive(PartialEq, Eq, Key)]
struct Nothing;

#[millstream::record]
#[derive(PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Opened,
    MovedTo(i64, Option<Box<Kind>>),
    #[serde(rename = "end")]
    Closed {
        why: HashMap<String, Nothing>,
    },
}

fn path(names: &[&str]) -> Path {
    names.iter().fold(Path::Root, |parent, name| Path::Below {
        parent: Box::new(parent),
        name: (*name).to_owned(),
    })
}

fn client(number: u32) -> Client {
    let labels = BTreeMap::from([("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]);
    Client { client_number: number, first_year: 1999, labels }
}

fn event(number: u128) -> Event {
    let why = HashMap::from([("because".to_owned(), Nothing)]);
    let kind = match number % 3 {
        0 => Kind::Opened,
        1 => Kind::MovedTo(-1, Some(Box::new(Kind::Closed { why }))),
        _ => Kind::Closed { why },
    };
    Event { id: foreign::Uuid(number), kind, sizes: [1.5, 2.5, 3.5] }
}

/// A job keeps `values` as value, list and map entry of each key, and gives them back; a job counts
/// them by key.
fn survives<K, V>(keys: [K; 2], values: [V; 2])
where
    K: Key + Data + Sync + std::fmt::Debug,
    V: State + Data + Clone + Sync + PartialEq + std::fmt::Debug,
{
    let records = [(0, 0), (1, 1), (0, 1)].map(|(k, v)| (keys[k].clone(), values[v].clone()));
    let kept = run_on(records.clone(), |records| {
        records
            .key_by_ref(|(key, _)| key)
            .map_with_state("last", |last: &mut Option<V>, (_, v)| Ok(last.replace(v)))
    });
    assert_eq!(kept.unwrap(), [None, None, Some(values[0].clone())]);
    let all = run_on(records.clone(), |records| {
        records.key_by(|(key, _)| key.clone()).aggregate("all", Vec::new, |all, (_, value)| {
            all.push(value);
            Ok(())
        })
    });
    assert_eq!(all.unwrap()[2], (keys[0].clone(), values.to_vec()));
    let counts = run_on(records, |records| records.key_by_ref(|(key, _)| key).count("count"));
    let [first, second] = keys;
    assert_eq!(counts.unwrap(), [(first.clone(), 1), (second, 1), (first, 2)]);
}

#[test]
fn types_of_every_shape_are_state_and_keys() {
    survives([path(&[]), path(&["a", "b"])], [path(&["c"]), path(&[])]);
    let pair = |left: &str, right| Pair { left: left.to_owned(), right };
    survives([pair("a", Some(1u64)), pair("a", None)], [pair("b", None), pair("c", Some(2))]);
    survives([client(1), client(2)], [client(3), client(4)]);
    let order = |number| Order(Opaque(foreign::Uuid(number)));
    survives([order(1), order(2)], [Opaque(foreign::Uuid(3)), Opaque(foreign::Uuid(4))]);
    survives([vec![Nothing], vec![]], [event(0), event(1)]);
    survives([[1u16, 2], [2, 1]], [event(2), event(1)]);
}

#[test]
fn schemas_have_the_names_of_serde() {
    fn text<T: State>() -> String {
        Schema::of::<T>().to_string()
    }
    assert_eq!(text::<Path>(), "enum Path { Root, Below { parent: Path, name: string } }");
    assert_eq!(
        text::<Pair<Pair<u16>, Client>>(),
        "Pair { left: Pair#2 { left: u16, right: u8? }, right: Customer { clientNumber (or id): \
         u32, since: u16 = default, labels: map<string, [u16]> }? }"
    );
    assert_eq!(text::<Order>(), "Order(opaque(Uuid))");
    assert_eq!(
        text::<Event>(),
        "Event { id: opaque(Uuid), kind: enum Kind { opened, moved_to(i64, Kind?), end { why: \
         map<string, Nothing> } }, sizes: [f32; 3] }"
    );
}
