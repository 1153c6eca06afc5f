//! The one Java object that a Flink client cannot do without: a serialized `SerializedThrowable`.
//!
//! Flink's client reads the cause of a failed job by Java deserialization and throws a
//! `NullPointerException` when it is missing. The stream's format is the Java Object Serialization
//! Protocol, version 5; ours holds text alone, no cause and no stack elements.

const OBJECT: u8 = 0x73;
const CLASS: u8 = 0x72;
const REFERENCE: u8 = 0x71;
const NULL: u8 = 0x70;
const STRING: u8 = 0x74;
const LONG_STRING: u8 = 0x7c;
const END: u8 = 0x78;

/// The bytes of a `SerializedThrowable` of this class name, message and stack trace.
pub(crate) fn serialized_throwable(class: &str, message: &str, trace: &str) -> Vec<u8> {
    let mut out = vec![0xac, 0xed, 0, 5, OBJECT];
    let version = 7_284_183_123_441_947_635_i64.to_be_bytes();
    class_header(&mut out, "org.apache.flink.util.SerializedThrowable", version, 2, 3);
    field(&mut out, b'L', "fullStringifiedStackTrace", Some("Ljava/lang/String;"));
    field(&mut out, b'L', "originalErrorClassName", None);
    field(&mut out, b'[', "serializedException", Some("[B"));
    out.push(END);
    let version = [0xd0, 0xfd, 0x1f, 0x3e, 0x1a, 0x3b, 0x1c, 0xc4];
    class_header(&mut out, "java.lang.Exception", version, 2, 0);
    out.push(END);
    let version = [0xd5, 0xc6, 0x35, 0x27, 0x39, 0x77, 0xb8, 0xcb];
    class_header(&mut out, "java.lang.Throwable", version, 3, 4);
    field(&mut out, b'L', "cause", Some("Ljava/lang/Throwable;"));
    field(&mut out, b'L', "detailMessage", None);
    field(&mut out, b'[', "stackTrace", Some("[Ljava/lang/StackTraceElement;"));
    field(&mut out, b'L', "suppressedExceptions", Some("Ljava/util/List;"));
    // No further parent; then the values, the uppermost class first.
    out.extend([END, NULL]);
    out.push(NULL);
    string(&mut out, message);
    out.extend([NULL, NULL, END]);
    string(&mut out, trace);
    string(&mut out, class);
    out.push(NULL);
    out
}

fn class_header(out: &mut Vec<u8>, name: &str, version: [u8; 8], flags: u8, fields: u16) {
    out.push(CLASS);
    short(out, name);
    out.extend(version);
    out.push(flags);
    out.extend(fields.to_be_bytes());
}

/// A field and its type; no type is that of the first field, by reference.
fn field(out: &mut Vec<u8>, code: u8, name: &str, kind: Option<&str>) {
    out.push(code);
    short(out, name);
    match kind {
        Some(kind) => {
            out.push(STRING);
            short(out, kind);
        }
        None => out.extend([REFERENCE, 0, 0x7e, 0, 1]),
    }
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend(text.as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = modified_utf8(text);
    match u16::try_from(bytes.len()) {
        Ok(length) => {
            out.push(STRING);
            out.extend(length.to_be_bytes());
        }
        Err(_) => {
            out.push(LONG_STRING);
            out.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    out.extend(bytes);
}

/// Java's UTF-8: NUL in two bytes, characters beyond U+FFFF as two surrogates of three bytes each.
fn modified_utf8(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        let low = |shift: u16| u8::try_from(unit >> shift & 0x3f).unwrap_or(0) | 0x80;
        match unit {
            1..=0x7f => bytes.push(u8::try_from(unit).unwrap_or(b'?')),
            0 | 0x80..=0x7ff => {
                bytes.extend([0xc0 | u8::try_from(unit >> 6).unwrap_or(0), low(0)]);
            }
            0x800.. => {
                bytes.extend([0xe0 | u8::try_from(unit >> 12).unwrap_or(0), low(6), low(0)]);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throwable_has_javas_layout() {
        let bytes = serialized_throwable("UserError", "it broke", "UserError: it broke");
        assert_eq!(&bytes[..6], [0xac, 0xed, 0, 5, OBJECT, CLASS]);
        assert_eq!(bytes.last(), Some(&NULL));
        let text = String::from_utf8_lossy(&bytes);
        for part in ["java.lang.Throwable", "it broke", "UserError: it broke"] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn text_is_in_javas_utf_8() {
        assert_eq!(modified_utf8("a\0é€"), [b'a', 0xc0, 0x80, 0xc3, 0xa9, 0xe2, 0x82, 0xac]);
        assert_eq!(modified_utf8("𝄞"), [0xed, 0xa0, 0xb4, 0xed, 0xb4, 0x9e]);
    }
}
