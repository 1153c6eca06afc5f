//! Tokens and secrets, and the file in which a container finds them
//! (`HADOOP_TOKEN_FILE_LOCATION`).
//!
//! The file begins with `HDTS` and a format byte. Format 0 is what NodeManagers write: Hadoop's
//! own variable-length integers, strings and byte arrays. Format 1 is protobuf.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::proto::common::{CredentialsKvProto, CredentialsProto, TokenProto};

const MAGIC: &[u8; 4] = b"HDTS";
const FORMAT_WRITABLE: u8 = 0;
const FORMAT_PROTOBUF: u8 = 1;
/// Far above what any file holds.
const ENTRIES_MAX: usize = 10_000;

/// The kind of the token that an ApplicationMaster shows to the ResourceManager.
pub const AM_RM_TOKEN: &str = "YARN_AM_RM_TOKEN";

/// A proof of identity: an identifier, and a password that the issuer derives from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The identity and its rights; the layout depends on the kind.
    pub identifier: Vec<u8>,
    /// The secret.
    pub password: Vec<u8>,
    /// Name of the token's kind, like [`AM_RM_TOKEN`].
    pub kind: String,
    /// Address of the service that accepts it; empty in tokens from the ResourceManager to an
    /// ApplicationMaster.
    pub service: String,
}

impl fmt::Debug for Token {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("kind", &self.kind)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl From<TokenProto> for Token {
    fn from(token: TokenProto) -> Self {
        let TokenProto { identifier, password, kind, service } = token;
        Self { identifier, password, kind, service }
    }
}

impl From<Token> for TokenProto {
    fn from(token: Token) -> Self {
        let Token { identifier, password, kind, service } = token;
        Self { identifier, password, kind, service }
    }
}

impl Token {
    /// As REST requests and Hadoop's command lines carry it.
    #[must_use]
    pub fn to_url_string(&self) -> String {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn write(&self, out: &mut Vec<u8>) {
        for bytes in
            [&self.identifier, &self.password, self.kind.as_bytes(), self.service.as_bytes()]
        {
            write_bytes(bytes, out);
        }
    }
}

/// Tokens and secrets of a process, by alias.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HadoopCredentials {
    /// In the order of the file. Aliases may be empty and need not differ.
    pub tokens: Vec<(String, Token)>,
    /// Passwords and keys of the application itself.
    pub secrets: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for HadoopCredentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets: Vec<&str> = self.secrets.iter().map(|(alias, _)| alias.as_str()).collect();
        f.debug_struct("HadoopCredentials")
            .field("tokens", &self.tokens)
            .field("secrets", &secrets)
            .finish()
    }
}

/// Bytes that are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The bytes do not begin with the magic number.
    #[error("this is no credentials file: it does not begin with HDTS")]
    Magic,
    /// A format of the future.
    #[error("the credentials file has format {0}; formats 0 and 1 are known")]
    Format(u8),
    /// They end too early, or a length makes no sense.
    #[error("the credentials file is truncated or damaged: {0}")]
    Damaged(&'static str),
}

impl HadoopCredentials {
    /// The first token of this kind.
    #[must_use]
    pub fn token(&self, kind: &str) -> Option<&Token> {
        self.tokens.iter().map(|(_, token)| token).find(|token| token.kind == kind)
    }

    /// The secret under this alias.
    #[must_use]
    pub fn secret(&self, alias: &str) -> Option<&[u8]> {
        let secret = self.secrets.iter().find(|(name, _)| name == alias);
        secret.map(|(_, secret)| secret.as_slice())
    }

    /// Reads a file of either format.
    ///
    /// # Errors
    /// The bytes are no credentials file, or a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(CredentialsError::Magic);
        };
        if magic != MAGIC {
            return Err(CredentialsError::Magic);
        }
        match rest.split_first() {
            Some((&FORMAT_WRITABLE, rest)) => Self::read(rest),
            Some((&FORMAT_PROTOBUF, rest)) => Self::from_protobuf(rest),
            Some((other, _)) => Err(CredentialsError::Format(*other)),
            None => Err(CredentialsError::Damaged("it ends before its format")),
        }
    }

    /// In the format that every Hadoop reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(FORMAT_WRITABLE);
        write_count(self.tokens.len(), &mut out);
        for (alias, token) in &self.tokens {
            write_bytes(alias.as_bytes(), &mut out);
            token.write(&mut out);
        }
        write_count(self.secrets.len(), &mut out);
        for (alias, secret) in &self.secrets {
            write_bytes(alias.as_bytes(), &mut out);
            write_bytes(secret, &mut out);
        }
        out
    }

    fn read(mut bytes: &[u8]) -> Result<Self, CredentialsError> {
        let bytes = &mut bytes;
        let mut credentials = Self::default();
        for _ in 0..read_count(bytes)? {
            let alias = read_text(bytes)?;
            let identifier = read_bytes(bytes)?.to_vec();
            let password = read_bytes(bytes)?.to_vec();
            let (kind, service) = (read_text(bytes)?, read_text(bytes)?);
            credentials.tokens.push((alias, Token { identifier, password, kind, service }));
        }
        for _ in 0..read_count(bytes)? {
            credentials.secrets.push((read_text(bytes)?, read_bytes(bytes)?.to_vec()));
        }
        Ok(credentials)
    }

    fn from_protobuf(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let proto = CredentialsProto::decode_length_delimited(bytes)
            .map_err(|_| CredentialsError::Damaged("its protobuf cannot be decoded"))?;
        let token = |it: CredentialsKvProto| Some((it.alias, it.token?.into()));
        let secret = |it: CredentialsKvProto| Some((it.alias, it.secret?));
        Ok(Self {
            tokens: proto.tokens.into_iter().filter_map(token).collect(),
            secrets: proto.secrets.into_iter().filter_map(secret).collect(),
        })
    }
}

/// Hadoop's variable-length integer: one byte from -112 to 127 is itself; a lower one says how many
/// big-endian bytes follow, and below -120 they are the complement of a negative number.
fn write_count(count: usize, out: &mut Vec<u8>) {
    if let Ok(small) = u8::try_from(count)
        && small < 0x80
    {
        out.push(small);
        return;
    }
    let bytes = (count as u64).to_be_bytes();
    let significant = bytes.iter().skip_while(|byte| **byte == 0);
    out.push(0_u8.wrapping_sub(112 + significant.clone().count() as u8));
    out.extend(significant);
}

fn read_count(bytes: &mut &[u8]) -> Result<usize, CredentialsError> {
    let count = read_length(bytes)?;
    if count > ENTRIES_MAX {
        return Err(CredentialsError::Damaged("it has more entries than anybody needs"));
    }
    Ok(count)
}

fn read_length(bytes: &mut &[u8]) -> Result<usize, CredentialsError> {
    const CUT: CredentialsError = CredentialsError::Damaged("it ends within an entry");
    let (first, rest) = bytes.split_first().ok_or(CUT)?;
    *bytes = rest;
    match first.cast_signed() {
        small @ 0.. => Ok(usize::from(small.unsigned_abs())),
        // 113 to 116: one to four bytes follow. No length is longer, and none is negative.
        more @ -116..=-113 => {
            let count = usize::from((more + 112).unsigned_abs());
            let (taken, rest) = bytes.split_at_checked(count).ok_or(CUT)?;
            *bytes = rest;
            Ok(taken.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
        _ => Err(CredentialsError::Damaged("a length makes no sense")),
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], CredentialsError> {
    let length = read_length(bytes)?;
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or(CredentialsError::Damaged("it ends within an entry"))?;
    *bytes = rest;
    Ok(taken)
}

fn read_text(bytes: &mut &[u8]) -> Result<String, CredentialsError> {
    let text = str::from_utf8(read_bytes(bytes)?);
    text.map(str::to_owned).map_err(|_| CredentialsError::Damaged("a name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of hexadecimal digits and quoted text.
    fn bytes(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, part) in text.split('"').enumerate() {
            if number % 2 == 1 {
                bytes.extend_from_slice(part.as_bytes());
            } else {
                let digits: Vec<u8> = part.bytes().filter(u8::is_ascii_hexdigit).collect();
                bytes.extend(
                    digits
                        .chunks(2)
                        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()),
                );
            }
        }
        bytes
    }

    const IDENTIFIER: &str = "0a0d0a0908031080d095ffbc3110011007";
    const PASSWORD: &str = "e811ef34a6cf1fc4e2a3dc71ec5b7e3a12d10edf";

    /// Credentials as Hadoop 3.5.0 wrote them.
    fn example() -> HadoopCredentials {
        let token = Token {
            identifier: bytes(IDENTIFIER),
            password: bytes(PASSWORD),
            kind: AM_RM_TOKEN.to_owned(),
            service: String::new(),
        };
        HadoopCredentials {
            tokens: vec![(String::new(), token)],
            secrets: vec![("mykey".to_owned(), vec![1, 2, 3])],
        }
    }

    #[test]
    fn both_formats_are_read_as_hadoop_writes_them() {
        let writable = bytes(&format!(
            "48445453 00 01 00 11 {IDENTIFIER} 14 {PASSWORD} 10 \"YARN_AM_RM_TOKEN\" 00 01 05 \
             \"mykey\" 03 010203"
        ));
        let protobuf = bytes(&format!(
            "48445453 01 51 0a41 0a00 123d 0a11 {IDENTIFIER} 1214 {PASSWORD} 1a10 \
             \"YARN_AM_RM_TOKEN\" 2200 120c 0a05 \"mykey\" 1a03 010203"
        ));
        assert_eq!(HadoopCredentials::decode(&writable), Ok(example()));
        assert_eq!(HadoopCredentials::decode(&protobuf), Ok(example()));
        assert_eq!(example().encode(), writable);
        assert_eq!(example().secret("mykey"), Some([1, 2, 3].as_slice()));
        assert_eq!(example().token(AM_RM_TOKEN).unwrap().identifier, bytes(IDENTIFIER));
    }

    #[test]
    fn a_token_in_a_url_is_as_hadoop_has_it() {
        let expected =
            "EQoNCgkIAxCA0JX_vDEQARAHFOgR7zSmzx_E4qPccexbfjoS0Q7fEFlBUk5fQU1fUk1fVE9LRU4A";
        assert_eq!(example().tokens[0].1.to_url_string(), expected);
    }

    #[test]
    fn lengths_of_every_size_survive() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 24] {
            let mut out = Vec::new();
            write_count(length, &mut out);
            let mut rest = out.as_slice();
            assert_eq!(read_length(&mut rest), Ok(length));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_truncated_or_foreign_is_refused() {
        let whole = example().encode();
        for end in 0..whole.len() {
            assert!(HadoopCredentials::decode(&whole[..end]).is_err(), "cut off at {end}");
        }
        assert_eq!(HadoopCredentials::decode(b"JKS\0\0"), Err(CredentialsError::Magic));
        assert_eq!(HadoopCredentials::decode(b"HDTS\x07"), Err(CredentialsError::Format(7)));
    }

    #[test]
    fn nothing_secret_is_in_the_debug_form() {
        let shown = format!("{:?}", example());
        assert!(shown.contains("mykey") && !shown.contains("232") && !shown.contains("[1, 2, 3]"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            format in 0u8..3,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut file = b"HDTS".to_vec();
            file.push(format);
            file.extend(bytes);
            let _ = HadoopCredentials::decode(&file);
        }
    }
}
