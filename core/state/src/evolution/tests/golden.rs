//! A value as the first release with schemas wrote it, pinned.

use super::*;

/// The schema of a tree, shapes and a click, as postcard writes it.
const SCHEMA: &str = "\
    09030b00070b010b0203045472656500030576616c75650004080000046c65667400060b0000046d6f726500 \
    070b00000553686170650104074e6f7468696e67000005526f756e6400010130000540000653717561726500 \
    0204736964650004080000046e616d65000300044c696e650002013000040800000131000b020005436c6963 \
    6b0003047061676500042000000475736572000300026174000604400100";

/// A value of these.
const VALUE: &str = "0101c800000001020302c3a9ac0203616e6e0109";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn bytes_of_an_old_snapshot_are_read() {
    let tree = v1::Tree {
        value: 1,
        left: Some(Box::new(v1::Tree { value: 200, left: None, more: Vec::new() })),
        more: Vec::new(),
    };
    let value = (tree, vec![v1::Shape::Square { side: 3, name: "é".to_owned() }], click());
    type Was = (v1::Tree, Vec<v1::Shape>, v1::Click);
    type Is = (v2::Tree, Vec<v2::Shape>, v2::Click);
    assert_eq!(hex(&postcard::to_stdvec(&Schema::of::<Was>()).unwrap()), hex(&bytes(SCHEMA)));
    assert_eq!(hex(&postcard::to_stdvec(&value).unwrap()), hex(&bytes(VALUE)));
    let written: Schema = postcard::from_bytes(&bytes(SCHEMA)).unwrap();
    let Ok(Compatibility::Converts(conversion)) = compare(&written, &Schema::of::<Is>()) else {
        panic!("the second version reads the first one's values");
    };
    let (tree, shapes, read): Is = conversion.take(&mut &bytes(VALUE)[..]).unwrap();
    assert_eq!(tree.first.unwrap().value, 200);
    let name = "é".to_owned();
    assert_eq!(shapes, [v2::Shape::Rectangle { name, side: 3, other: 0 }]);
    assert_eq!(read, new_click());
}
