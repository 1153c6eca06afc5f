//! The schemas of the standard library's types, as serde writes them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128, NonZeroUsize, Wrapping,
};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Kind, SchemaBuilder, State};

macro_rules! plain {
    ($($type:ty: $kind:expr),* $(,)?) => {
        $(impl State for $type {
            fn schema(_builder: &mut SchemaBuilder) -> Kind {
                $kind
            }
        })*
    };
}

macro_rules! integers {
    ($($signed:literal $bits:literal: $($type:ty)*),* $(,)?) => {
        $($(plain!($type: Kind::Integer { bits: $bits, signed: $signed });)*)*
    };
}

integers! {
    false 8: u8 NonZeroU8, true 8: i8 NonZeroI8,
    false 16: u16 NonZeroU16, true 16: i16 NonZeroI16,
    false 32: u32 NonZeroU32, true 32: i32 NonZeroI32,
    false 64: u64 NonZeroU64 usize NonZeroUsize, true 64: i64 NonZeroI64 isize,
    false 128: u128 NonZeroU128, true 128: i128 NonZeroI128,
}

plain! {
    (): Kind::Unit,
    bool: Kind::Bool,
    char: Kind::Char,
    f32: Kind::Float { bits: 32 },
    f64: Kind::Float { bits: 64 },
    String: Kind::Text,
    Box<str>: Kind::Text,
    PathBuf: Kind::Text,
    Ipv4Addr: Kind::Array(Box::new(Kind::Integer { bits: 8, signed: false }), 4),
    Ipv6Addr: Kind::Array(Box::new(Kind::Integer { bits: 8, signed: false }), 16),
}

impl<T: Send + 'static> State for PhantomData<T> {
    fn schema(_builder: &mut SchemaBuilder) -> Kind {
        Kind::Unit
    }
}

/// Types that serde writes as what they contain.
macro_rules! wrappers {
    ($($wrapper:ident)*) => {
        $(impl<T: State> State for $wrapper<T> {
            fn schema(builder: &mut SchemaBuilder) -> Kind {
                T::schema(builder)
            }
        })*
    };
}
wrappers!(Box Reverse Wrapping);

impl<T: State> State for Option<T> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        Kind::Optional(Box::new(T::schema(builder)))
    }
}

macro_rules! sequences {
    ($($type:ty: [$($bound:path),*]),* $(,)?) => {
        $(impl<T: State $(+ $bound)*> State for $type {
            fn schema(builder: &mut SchemaBuilder) -> Kind {
                Kind::Sequence(Box::new(T::schema(builder)))
            }
        })*
    };
}
sequences! {
    Vec<T>: [],
    VecDeque<T>: [],
    LinkedList<T>: [],
    Box<[T]>: [],
    BTreeSet<T>: [Ord],
    BinaryHeap<T>: [Ord],
}

impl<T, S> State for HashSet<T, S>
where
    T: State + Eq + Hash,
    S: BuildHasher + Default + Send + 'static,
{
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        Kind::Sequence(Box::new(T::schema(builder)))
    }
}

impl<K, V, S> State for HashMap<K, V, S>
where
    K: State + Eq + Hash,
    V: State,
    S: BuildHasher + Default + Send + 'static,
{
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        Kind::Map(Box::new(K::schema(builder)), Box::new(V::schema(builder)))
    }
}

impl<K: State + Ord, V: State> State for BTreeMap<K, V> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        Kind::Map(Box::new(K::schema(builder)), Box::new(V::schema(builder)))
    }
}

impl<T: State, const N: usize> State for [T; N]
where
    Self: Serialize + DeserializeOwned,
{
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        Kind::Array(Box::new(T::schema(builder)), N)
    }
}

macro_rules! tuples {
    ($(($($part:ident)+)),* $(,)?) => {
        $(impl<$($part: State),+> State for ($($part,)+) {
            fn schema(builder: &mut SchemaBuilder) -> Kind {
                Kind::Tuple(vec![$($part::schema(builder)),+])
            }
        })*
    };
}
tuples! {
    (A),
    (A B),
    (A B C),
    (A B C D),
    (A B C D E),
    (A B C D E F),
    (A B C D E F G),
    (A B C D E F G H),
    (A B C D E F G H I),
    (A B C D E F G H I J),
    (A B C D E F G H I J K),
    (A B C D E F G H I J K L),
}

/// Structs that serde writes with their fields.
macro_rules! structs {
    ($($name:ident $(<$parameter:ident>)? { $($field:ident: $type:ty),* }),* $(,)?) => {
        $(impl $(<$parameter: State>)? State for $name $(<$parameter>)? {
            fn schema(builder: &mut SchemaBuilder) -> Kind {
                builder.structure::<Self>(stringify!($name), |fields| {
                    $(fields.add::<$type>(stringify!($field));)*
                })
            }
        })*
    };
}
structs! {
    Duration { secs: u64, nanos: u32 },
    SystemTime { secs_since_epoch: u64, nanos_since_epoch: u32 },
    Range<T> { start: T, end: T },
    RangeInclusive<T> { start: T, end: T },
}

/// Enums whose variants have one value each.
macro_rules! enums {
    ($($name:ident $(<$($parameter:ident),+>)? { $($variant:ident($type:ty)),* }),* $(,)?) => {
        $(impl $(<$($parameter: State),+>)? State for $name $(<$($parameter),+>)? {
            fn schema(builder: &mut SchemaBuilder) -> Kind {
                builder.enumeration::<Self>(stringify!($name), |variants| {
                    $(variants.add(stringify!($variant), |fields| {
                        fields.add::<$type>("0");
                    });)*
                })
            }
        })*
    };
}
enums! {
    Result<T, E> { Ok(T), Err(E) },
    IpAddr { V4(Ipv4Addr), V6(Ipv6Addr) },
    SocketAddr { V4(SocketAddrV4), V6(SocketAddrV6) },
}

impl State for SocketAddrV4 {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(Ipv4Addr, u16)>()
    }
}

impl State for SocketAddrV6 {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(Ipv6Addr, u16)>()
    }
}
