//! Shapes of records, the same as `flink/Shapes.java`: each makes a record from a key, and the word
//! of a record for the checksum.
//!
//! Making a record is cheap beside sending it: long ones are copies of a template with the key at
//! their start. The word covers the key, the length, and a value at a place that the key chooses.

use crate::records::{GOLDEN, fold, pair};
use millstream::Data;
use std::collections::HashMap;

/// A way to make records and to read them.
pub trait Shape: Clone + Send + Sync + 'static {
    /// The type of the records.
    type Record: Data;

    /// The record of a key; keys are `scramble` of the index.
    fn make(&self, key: u64) -> Self::Record;

    /// The part of a record that is in the checksum.
    fn word(record: &Self::Record) -> u64;
}

/// An action on a shape of any type.
pub trait Visitor {
    /// The result.
    type Out;

    /// Does it.
    fn visit<S: Shape>(self, shape: S) -> Self::Out;
}

/// A shape in the list of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The value of the programs' `--shape`.
    pub name: &'static str,
    /// Bytes of one record's content.
    pub bytes: usize,
    /// Records of a round.
    pub records: u64,
}

macro_rules! shapes {
    ($($name:literal, $bytes:expr, $records:expr => $shape:expr;)*) => {
        /// All shapes.
        pub const ALL: &[Listed] =
            &[$(Listed { name: $name, bytes: $bytes, records: $records }),*];

        /// Visits the shape of this name, if there is one.
        pub fn visit<V: Visitor>(name: &str, visitor: V) -> Option<V::Out> {
            match name {
                $($name => Some(visitor.visit($shape)),)*
                _ => None,
            }
        }
    };
}

const M: u64 = 1_000_000;

shapes! {
    "fixed-16", 16, 40 * M => Pair;
    "fixed-100", 100, 16 * M => Wide;
    "fixed-1k", 1_024, 2 * M => Block;
    "numbers-9", 40, 12 * M => Numbers;
    "text-16", 16, 10 * M => Text::new(16);
    "text-100", 100, 6 * M => Text::new(100);
    "text-1k", 1_024, 2 * M => Text::new(1_024);
    "text-64k", 65_536, 40_000 => Text::new(65_536);
    "text-cyrillic-100", 100, 4 * M => Cyrillic;
    "bytes-100", 100, 8 * M => Bytes::new(100);
    "bytes-1k", 1_024, 3 * M => Bytes::new(1_024);
    "bytes-10k", 10_240, 400_000 => Bytes::new(10_240);
    "bytes-1m", 1 << 20, 4_000 => Bytes::new(1 << 20);
    "bytes-4m", 4 << 20, 1_000 => Bytes::new(4 << 20);
    "bytes-in-field", 1_036, 3 * M => Upload(Bytes::new(1_024));
    "f64-1k", 1_024, 2 * M => Floats::new(128);
    "f64-64k", 65_536, 40_000 => Floats::new(8_192);
    "u64-1k", 1_024, 2 * M => Words::new(128);
    "texts-8", 128, 1_500_000 => Texts;
    "text-tuple", 48, 3 * M => TextTuple;
    "map-8", 192, 800_000 => Counts;
    "nested", 120, 1_500_000 => Nested;
    "options", 60, 4 * M => Options;
    "enum", 20, 5 * M => Enum;
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The key as 16 hexadecimal digits.
fn hex(key: u64) -> [u8; 16] {
    std::array::from_fn(|digit| HEX[(key >> (60 - 4 * digit)) as usize & 15])
}

fn hex_text(key: u64) -> String {
    String::from_utf8_lossy(&hex(key)).into_owned()
}

/// The place below `len` that a key chooses.
fn place(key: u64, len: usize) -> usize {
    ((key >> 8) % (len as u64).max(1)) as usize
}

/// Key, length and one value.
fn sample<T: Copy + Default>(key: u64, all: &[T], value: impl Fn(T) -> u64) -> u64 {
    let chosen = all.get(place(key, all.len())).copied().unwrap_or_default();
    pair(key, all.len() as u64) ^ value(chosen)
}

/// The word of a text that starts with eight ASCII characters or more.
fn text_word(text: &str) -> u64 {
    let bytes = text.as_bytes();
    sample(bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)), bytes, u64::from)
}

/// A tuple of two numbers.
#[derive(Clone)]
pub struct Pair;

impl Shape for Pair {
    type Record = (u64, u64);

    fn make(&self, key: u64) -> (u64, u64) {
        (key, !key)
    }

    fn word(record: &(u64, u64)) -> u64 {
        pair(record.0, record.1)
    }
}

/// The record of the rows p3: twelve numbers and a half.
#[derive(Clone)]
pub struct Wide;

impl Shape for Wide {
    type Record = crate::records::Wide;

    fn make(&self, key: u64) -> Self::Record {
        crate::records::Wide::of_key(key, !key)
    }

    fn word(record: &Self::Record) -> u64 {
        record.word()
    }
}

/// 128 numbers of a fixed count.
#[derive(Clone)]
pub struct Block;

impl Shape for Block {
    type Record = [[u64; 32]; 4];

    fn make(&self, key: u64) -> Self::Record {
        let mut record = [[!key; 32]; 4];
        record[0][0] = key;
        record
    }

    fn word(record: &Self::Record) -> u64 {
        sample(record[0][0], record.as_flattened(), |value| value)
    }
}

/// Numbers of nine types.
#[derive(Clone)]
pub struct Numbers;

/// A record of [`Numbers`].
#[millstream::record]
pub struct Reading {
    id: u64,
    sensor: u32,
    channel: u16,
    flags: u8,
    valid: bool,
    at: i64,
    delta: i32,
    value: f64,
    error: f32,
}

impl Shape for Numbers {
    type Record = Reading;

    fn make(&self, key: u64) -> Reading {
        Reading {
            id: key,
            sensor: key as u32,
            channel: key as u16 & 0x7FFF,
            flags: key as u8 & 0x7F,
            valid: key & 1 == 0,
            at: (key >> 1) as i64,
            delta: (key >> 40) as i32,
            value: (key >> 12) as f64,
            error: (key >> 48) as f32,
        }
    }

    fn word(record: &Reading) -> u64 {
        let small = u64::from(record.sensor)
            ^ u64::from(record.channel)
            ^ u64::from(record.flags)
            ^ u64::from(record.valid)
            ^ record.delta as u64;
        let floats = record.value.to_bits() ^ u64::from(record.error.to_bits());
        pair(record.id, record.at as u64) ^ small ^ floats
    }
}

/// ASCII text of one length, sixteen characters or more.
#[derive(Clone)]
pub struct Text(String);

impl Text {
    /// Of this many characters.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self((16..len).map(|at| char::from(b'a' + (at % 26) as u8)).collect())
    }
}

impl Shape for Text {
    type Record = String;

    fn make(&self, key: u64) -> String {
        let mut text = String::with_capacity(16 + self.0.len());
        text.push_str(str::from_utf8(&hex(key)).unwrap_or_default());
        text.push_str(&self.0);
        text
    }

    fn word(record: &String) -> u64 {
        text_word(record)
    }
}

/// Fifty letters of two bytes each.
#[derive(Clone)]
pub struct Cyrillic;

const CYRILLIC_A: u32 = 0x430;

impl Shape for Cyrillic {
    type Record = String;

    fn make(&self, key: u64) -> String {
        let letter = |at: u64| if at < 16 { (key >> (60 - 4 * at)) & 15 } else { at % 32 };
        let mut text = String::with_capacity(100);
        text.extend((0..50).filter_map(|at| char::from_u32(CYRILLIC_A + letter(at) as u32)));
        text
    }

    fn word(record: &String) -> u64 {
        let first = record.chars().take(16);
        let key = first.fold(0, |key, letter| key << 4 | u64::from(u32::from(letter) & 15));
        let last = record.chars().next_back().map_or(0, u32::from);
        pair(key, record.len() as u64) ^ u64::from(last)
    }
}

/// Bytes of one length, eight or more.
#[derive(Clone)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// Of this many bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self((0..len).map(|at| (at * 31 + (at >> 8)) as u8).collect())
    }
}

impl Shape for Bytes {
    type Record = Vec<u8>;

    fn make(&self, key: u64) -> Vec<u8> {
        let mut bytes = self.0.clone();
        if let Some(first) = bytes.first_chunk_mut() {
            *first = key.to_le_bytes();
        }
        bytes
    }

    fn word(record: &Vec<u8>) -> u64 {
        let key = record.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        sample(key, record, u64::from)
    }
}

/// Bytes as one of several fields.
#[derive(Clone)]
pub struct Upload(Bytes);

/// A record of [`Upload`].
#[millstream::record]
pub struct UploadRecord {
    id: u64,
    part: u32,
    content: Vec<u8>,
}

impl Shape for Upload {
    type Record = UploadRecord;

    fn make(&self, key: u64) -> UploadRecord {
        UploadRecord { id: !key, part: key as u32, content: self.0.make(key) }
    }

    fn word(record: &UploadRecord) -> u64 {
        Bytes::word(&record.content) ^ pair(record.id, u64::from(record.part))
    }
}

/// Floating-point numbers.
#[derive(Clone)]
pub struct Floats(Vec<f64>);

impl Floats {
    /// This many.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self((0..len).map(|at| at as f64 * 0.5 + 1.0).collect())
    }
}

impl Shape for Floats {
    type Record = Vec<f64>;

    fn make(&self, key: u64) -> Vec<f64> {
        let mut numbers = self.0.clone();
        if let Some(first) = numbers.first_mut() {
            *first = (key >> 12) as f64;
        }
        numbers
    }

    fn word(record: &Vec<f64>) -> u64 {
        sample(record.first().map_or(0, |first| *first as u64), record, f64::to_bits)
    }
}

/// Whole numbers.
#[derive(Clone)]
pub struct Words(Vec<u64>);

impl Words {
    /// This many.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self((0..len as u64).map(|at| at.wrapping_mul(GOLDEN)).collect())
    }
}

impl Shape for Words {
    type Record = Vec<u64>;

    fn make(&self, key: u64) -> Vec<u64> {
        let mut numbers = self.0.clone();
        if let Some(first) = numbers.first_mut() {
            *first = key;
        }
        numbers
    }

    fn word(record: &Vec<u64>) -> u64 {
        sample(record.first().copied().unwrap_or(0), record, |value| value)
    }
}

/// A list of eight texts of sixteen characters.
#[derive(Clone)]
pub struct Texts;

impl Shape for Texts {
    type Record = Vec<String>;

    fn make(&self, key: u64) -> Vec<String> {
        (0..8).map(|at| hex_text(key.wrapping_add(at))).collect()
    }

    fn word(record: &Vec<String>) -> u64 {
        record.iter().fold(0, |word, text| pair(word, text_word(text)))
    }
}

/// A tuple of three texts.
#[derive(Clone)]
pub struct TextTuple;

impl Shape for TextTuple {
    type Record = (String, String, String);

    fn make(&self, key: u64) -> Self::Record {
        (hex_text(key), hex_text(!key), hex_text(key.wrapping_mul(3)))
    }

    fn word((first, second, third): &Self::Record) -> u64 {
        pair(pair(text_word(first), text_word(second)), text_word(third))
    }
}

/// A map of eight entries.
#[derive(Clone)]
pub struct Counts;

impl Shape for Counts {
    type Record = HashMap<String, u64>;

    fn make(&self, key: u64) -> Self::Record {
        (0..8).map(|at| (hex_text(key.wrapping_add(at)), key ^ at)).collect()
    }

    fn word(record: &Self::Record) -> u64 {
        let word = |(text, count): (&String, &u64)| fold(pair(text_word(text), *count));
        record.iter().map(word).fold(0, u64::wrapping_add)
    }
}

/// A record in a record, and a list of records.
#[derive(Clone)]
pub struct Nested;

/// A record of [`Nested`].
#[millstream::record]
pub struct Order {
    id: u64,
    customer: Customer,
    items: Vec<Item>,
}

/// In an [`Order`].
#[millstream::record]
pub struct Customer {
    name: String,
    country: String,
    since: u64,
}

/// In an [`Order`].
#[millstream::record]
pub struct Item {
    article: String,
    count: u32,
    price: f64,
}

impl Shape for Nested {
    type Record = Order;

    fn make(&self, key: u64) -> Order {
        let item = |at| Item {
            article: hex_text(key.wrapping_add(at)),
            count: at as u32 + 1,
            price: (key >> 40) as f64 * 0.25,
        };
        let customer =
            Customer { name: hex_text(!key), country: "Iceland!".to_owned(), since: key >> 7 };
        Order { id: key, customer, items: (0..3).map(item).collect() }
    }

    fn word(record: &Order) -> u64 {
        let Customer { name, country, since } = &record.customer;
        let customer = pair(text_word(name), *since) ^ text_word(country);
        record.items.iter().fold(pair(record.id, customer), |word, item| {
            let number = u64::from(item.count) ^ item.price.to_bits();
            pair(word, text_word(&item.article) ^ number)
        })
    }
}

/// Fields that may be absent; half of them are.
#[derive(Clone)]
pub struct Options;

/// A record of [`Options`].
#[millstream::record]
pub struct Profile {
    id: u64,
    name: Option<String>,
    mail: Option<String>,
    age: Option<u32>,
    visits: Option<u64>,
    score: Option<f64>,
    active: Option<bool>,
    parent: Option<u64>,
}

impl Shape for Options {
    type Record = Profile;

    fn make(&self, key: u64) -> Profile {
        let has = |bit: u32| key >> bit & 1 == 1;
        Profile {
            id: key,
            name: has(0).then(|| hex_text(key)),
            mail: has(1).then(|| hex_text(!key)),
            age: has(2).then_some(key as u32 >> 25),
            visits: has(3).then_some(key >> 9),
            score: has(4).then_some((key >> 12) as f64),
            active: has(5).then_some(has(6)),
            parent: has(7).then_some(!key),
        }
    }

    fn word(record: &Profile) -> u64 {
        let text = |text: &Option<String>| text.as_deref().map_or(1, text_word);
        let words = [
            text(&record.name),
            text(&record.mail),
            record.age.map_or(1, u64::from),
            record.visits.unwrap_or(1),
            record.score.map_or(1, f64::to_bits),
            record.active.map_or(2, u64::from),
            record.parent.unwrap_or(1),
        ];
        words.into_iter().fold(record.id, pair)
    }
}

/// One of four kinds of event.
#[derive(Clone)]
pub struct Enum;

/// A record of [`Enum`].
#[millstream::record]
pub enum Event {
    /// Nothing but that it happened.
    Tick,
    /// Two numbers.
    Click {
        /// The horizontal place.
        x: u32,
        /// The vertical place.
        y: u32,
    },
    /// A text.
    View(String),
    /// A number and a text.
    Purchase {
        /// The price.
        cents: u64,
        /// The article.
        article: String,
    },
}

impl Shape for Enum {
    type Record = Event;

    fn make(&self, key: u64) -> Event {
        match key & 3 {
            0 => Event::Tick,
            1 => Event::Click { x: key as u32, y: (key >> 32) as u32 },
            2 => Event::View(hex_text(key)),
            _ => Event::Purchase { cents: key >> 5, article: hex_text(!key) },
        }
    }

    fn word(record: &Event) -> u64 {
        match record {
            Event::Tick => pair(0, 0),
            Event::Click { x, y } => pair(1, u64::from(*x) << 32 | u64::from(*y)),
            Event::View(page) => pair(2, text_word(page)),
            Event::Purchase { cents, article } => pair(3, *cents ^ text_word(article)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;

    impl Visitor for Check {
        type Out = ();

        fn visit<S: Shape>(self, shape: S) {
            let word = |key| S::word(&shape.make(key));
            assert_eq!(word(4), word(4));
            let words: std::collections::HashSet<u64> =
                (0..64).map(|index| word(crate::records::scramble(42, index))).collect();
            assert!(words.len() > 40, "{}", words.len());
        }
    }

    #[test]
    fn records_of_every_shape_differ_by_their_words() {
        for listed in ALL {
            visit(listed.name, Check).unwrap();
        }
        assert!(visit("no-shape", Check).is_none());
    }

    #[test]
    fn long_records_have_their_length() {
        assert_eq!(Text::new(100).make(7).len(), 100);
        assert_eq!(Cyrillic.make(7).len(), 100);
        assert_eq!(Bytes::new(1 << 20).make(7).len(), 1 << 20);
    }
}
