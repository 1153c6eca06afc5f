//! The client's part of SASL DIGEST-MD5 as Hadoop uses it with tokens (RFC 2831): user and password
//! are the token's identifier and password in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, StreamCipher};
use des::TdesEde2;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use rc4::Rc4;
use rc4::consts::U16;

use crate::credentials::Token;

/// The longest challenge that the RFC allows.
const CHALLENGE_BYTES_MAX: usize = 2048;
const URI: &str = "/default";
const NONCE_COUNT: &str = "00000001";
/// Length of the code at the end of a protected message; a version and a sequence number follow.
const CODE_BYTES: usize = 10;
const TRAILER_BYTES: usize = 6;
const VERSION: [u8; 2] = [0, 1];
const DES_BLOCK: usize = 8;

/// Protection of the frames after the handshake. The strongest that both sides allow is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// `authentication`: nothing.
    Authentication,
    /// `integrity`: a code per message.
    Integrity,
    /// `privacy`: a code, and encryption.
    Privacy,
}

impl Protection {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "auth" => Some(Self::Authentication),
            "auth-int" => Some(Self::Integrity),
            "auth-conf" => Some(Self::Privacy),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "auth",
            Self::Integrity => "auth-int",
            Self::Privacy => "auth-conf",
        }
    }
}

/// Failure of the handshake by DIGEST-MD5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The server's text is not a challenge.
    #[error("the server's challenge is malformed: {0}")]
    Challenge(&'static str),
    /// Neither side is wrong, but they do not match.
    #[error("the server offers {offered}; {allowed}")]
    NothingInCommon {
        /// The server's offer.
        offered: String,
        /// The choices that the client accepts, or the reason why it accepts none.
        allowed: &'static str,
    },
    /// The system's source of random numbers failed.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The server does not know the token's password.
    #[error("the server could not prove that it knows the token")]
    Impostor,
    /// A protected message was changed, lost or sent again.
    #[error("a protected message of the server is damaged")]
    Damaged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Rc4,
    TripleDes,
}

#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    nonce: String,
    protections: Vec<Protection>,
    ciphers: Vec<Cipher>,
}

impl Challenge {
    fn parse(bytes: &[u8]) -> Result<Self, DigestError> {
        if bytes.len() > CHALLENGE_BYTES_MAX {
            return Err(DigestError::Challenge("it is too long"));
        }
        let text = str::from_utf8(bytes).map_err(|_| DigestError::Challenge("it is not UTF-8"))?;
        let (mut realm, mut nonce, mut algorithm) = (String::new(), None, None);
        let (mut protections, mut ciphers) = (vec![Protection::Authentication], Vec::new());
        for (name, value) in directives(text)? {
            match name {
                "realm" => realm = value,
                "nonce" => nonce = Some(value),
                "algorithm" => algorithm = Some(value),
                "qop" => {
                    let names = value.split(',').map(str::trim);
                    protections = names.filter_map(Protection::from_name).collect();
                }
                "cipher" => {
                    let names = value.split(',').map(str::trim);
                    ciphers = names
                        .filter_map(|name| match name {
                            "rc4" => Some(Cipher::Rc4),
                            "3des" => Some(Cipher::TripleDes),
                            _ => None,
                        })
                        .collect();
                }
                _ => {}
            }
        }
        if algorithm.as_deref() != Some("md5-sess") {
            return Err(DigestError::Challenge("its algorithm is not md5-sess"));
        }
        let nonce = nonce.ok_or(DigestError::Challenge("it has no nonce"))?;
        Ok(Self { realm, nonce, protections, ciphers })
    }
}

/// `name=value` or `name="value"` with commas between; a backslash quotes within quotes.
fn directives(text: &str) -> Result<Vec<(&str, String)>, DigestError> {
    const MALFORMED: DigestError = DigestError::Challenge("it is no list of name=value");
    let mut found = Vec::new();
    let mut rest = text.trim_matches([' ', ',']);
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').ok_or(MALFORMED)?;
        if let Some(quoted) = value.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut content = String::new();
            let end = loop {
                match chars.next().ok_or(MALFORMED)? {
                    (at, '"') => break at,
                    (_, '\\') => content.push(chars.next().ok_or(MALFORMED)?.1),
                    (_, other) => content.push(other),
                }
            };
            found.push((name.trim(), content));
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else {
            let (content, behind) = value.split_once(',').unwrap_or((value, ""));
            found.push((name.trim(), content.trim().to_owned()));
            rest = behind;
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    Ok(found)
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An answer that was sent, and what its reply must prove.
pub(super) struct Exchange {
    /// The response to the challenge.
    pub(super) response: Vec<u8>,
    proof: String,
    session: [u8; 16],
    protection: Protection,
    cipher: Option<Cipher>,
}

/// Answers the server's first challenge with at most this protection.
pub(super) fn respond(
    challenge: &[u8],
    token: &Token,
    most: Protection,
) -> Result<Exchange, DigestError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| DigestError::NoRandomness)?;
    respond_with(challenge, token, most, &STANDARD.encode(random))
}

fn respond_with(
    challenge: &[u8],
    token: &Token,
    most: Protection,
    client_nonce: &str,
) -> Result<Exchange, DigestError> {
    let Challenge { realm, nonce, protections, ciphers } = Challenge::parse(challenge)?;
    let offered = protections.iter().copied().filter(|it| *it <= most);
    let cipher = [Cipher::Rc4, Cipher::TripleDes].into_iter().find(|it| ciphers.contains(it));
    let usable = offered.filter(|it| *it != Protection::Privacy || cipher.is_some());
    let Some(protection) = usable.max() else {
        let names: Vec<&str> = protections.iter().map(|it| it.name()).collect();
        return Err(DigestError::NothingInCommon {
            offered: format!("the protections {}", names.join(", ")),
            allowed: "hadoop.rpc.protection of this side allows none of them",
        });
    };
    let user = STANDARD.encode(&token.identifier);
    let password = STANDARD.encode(&token.password);
    let secret = md5(&[user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()]);
    let session = md5(&[&secret, b":", nonce.as_bytes(), b":", client_nonce.as_bytes()]);
    let digest = |method: &str| {
        let body = match protection {
            Protection::Authentication => "",
            Protection::Integrity | Protection::Privacy => ":00000000000000000000000000000000",
        };
        let action = hex(&md5(&[method.as_bytes(), b":", URI.as_bytes(), body.as_bytes()]));
        let name = protection.name();
        let all = [&hex(&session), &nonce, NONCE_COUNT, client_nonce, name, &action].join(":");
        hex(&md5(&[all.as_bytes()]))
    };
    let cipher = cipher.filter(|_| protection == Protection::Privacy);
    let mut response = format!(
        "charset=utf-8,username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",nc={NONCE_COUNT},\
         cnonce=\"{client_nonce}\",digest-uri=\"{URI}\",response={},qop={}",
        digest("AUTHENTICATE"),
        protection.name()
    );
    response.push_str(match cipher {
        Some(Cipher::Rc4) => ",cipher=rc4",
        Some(Cipher::TripleDes) => ",cipher=3des",
        None => "",
    });
    let proof = digest("");
    Ok(Exchange { response: response.into_bytes(), proof, session, protection, cipher })
}

impl Exchange {
    /// Checks the server's reply; what protects all that follows, if anything does.
    pub(super) fn finish(self, reply: &[u8]) -> Result<Option<Layer>, DigestError> {
        let proof = reply.strip_prefix(b"rspauth=").ok_or(DigestError::Impostor)?;
        if proof != self.proof.as_bytes() {
            return Err(DigestError::Impostor);
        }
        if self.protection == Protection::Authentication {
            return Ok(None);
        }
        let to_server = Direction::new(&self.session, self.cipher, "client-to-server");
        let to_client = Direction::new(&self.session, self.cipher, "server-to-client");
        Ok(Some(Layer { to_server, to_client }))
    }
}

/// Wraps and unwraps protected messages in both directions.
pub(super) struct Layer {
    to_server: Direction,
    to_client: Direction,
}

impl Layer {
    pub(super) fn wrap(&mut self, message: &[u8]) -> Vec<u8> {
        self.to_server.wrap(message)
    }

    pub(super) fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, DigestError> {
        self.to_client.unwrap(message)
    }
}

enum Sealing {
    None,
    Rc4(Box<Rc4<U16>>),
    /// The key; the last block of a message is the start of the next.
    TripleDes {
        key: [u8; 16],
        chain: [u8; DES_BLOCK],
    },
}

struct Direction {
    signing: [u8; 16],
    sealing: Sealing,
    sequence: u32,
}

impl Direction {
    fn new(session: &[u8; 16], cipher: Option<Cipher>, direction: &str) -> Self {
        let key = |purpose: &str| {
            let text = match purpose {
                "signing" => {
                    format!("Digest session key to {direction} signing key magic constant")
                }
                _ => format!("Digest H(A1) to {direction} sealing key magic constant"),
            };
            md5(&[session, text.as_bytes()])
        };
        let sealing = match cipher {
            None => Sealing::None,
            Some(Cipher::Rc4) => {
                Sealing::Rc4(Box::new(<Rc4<U16> as rc4::KeyInit>::new(&key("sealing").into())))
            }
            Some(Cipher::TripleDes) => {
                let seal = key("sealing");
                let [.., a, b, c, d, e, f, g, h] = seal;
                Sealing::TripleDes { key: des_keys(&seal), chain: [a, b, c, d, e, f, g, h] }
            }
        };
        Self { signing: key("signing"), sealing, sequence: 0 }
    }

    fn code(&self, message: &[u8]) -> [u8; CODE_BYTES] {
        // An HMAC takes keys of every length.
        let Ok(mut mac) = Hmac::<Md5>::new_from_slice(&self.signing) else {
            return [0; CODE_BYTES];
        };
        mac.update(&self.sequence.to_be_bytes());
        mac.update(message);
        let code: [u8; 16] = mac.finalize().into_bytes().into();
        code.first_chunk().copied().unwrap_or_default()
    }

    fn wrap(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = message.to_vec();
        let code = self.code(message);
        if let Sealing::TripleDes { .. } = self.sealing {
            let padding = DES_BLOCK - (message.len() + CODE_BYTES) % DES_BLOCK;
            out.resize(message.len() + padding, padding as u8);
        }
        out.extend(code);
        match &mut self.sealing {
            Sealing::None => {}
            Sealing::Rc4(stream) => stream.apply_keystream(&mut out),
            Sealing::TripleDes { key, chain } => {
                let length = out.len();
                let cipher = cbc::Encryptor::<TdesEde2>::new((&*key).into(), (&*chain).into());
                // It is a whole number of blocks.
                let _ = cipher.encrypt_padded_mut::<NoPadding>(&mut out, length);
                *chain = out.last_chunk().copied().unwrap_or_default();
            }
        }
        out.extend(VERSION);
        out.extend(self.sequence.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        out
    }

    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, DigestError> {
        let (sealed, trailer) =
            message.split_last_chunk::<TRAILER_BYTES>().ok_or(DigestError::Damaged)?;
        let [v0, v1, sequence @ ..] = *trailer;
        if [v0, v1] != VERSION || u32::from_be_bytes(sequence) != self.sequence {
            return Err(DigestError::Damaged);
        }
        let mut open = sealed.to_vec();
        match &mut self.sealing {
            Sealing::None => {}
            Sealing::Rc4(stream) => stream.apply_keystream(&mut open),
            Sealing::TripleDes { key, chain } => {
                let cipher = cbc::Decryptor::<TdesEde2>::new((&*key).into(), (&*chain).into());
                cipher
                    .decrypt_padded_mut::<NoPadding>(&mut open)
                    .map_err(|_| DigestError::Damaged)?;
                *chain = sealed.last_chunk().copied().ok_or(DigestError::Damaged)?;
            }
        }
        let (message, code) = open.split_last_chunk::<CODE_BYTES>().ok_or(DigestError::Damaged)?;
        let mut message = message.to_vec();
        if let Sealing::TripleDes { .. } = self.sealing {
            let padding = usize::from(*message.last().ok_or(DigestError::Damaged)?);
            if !(1..=DES_BLOCK).contains(&padding) || padding > message.len() {
                return Err(DigestError::Damaged);
            }
            message.truncate(message.len() - padding);
        }
        let expected = self.code(&message);
        if expected.iter().zip(code).fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
            return Err(DigestError::Damaged);
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(message)
    }
}

/// Two DES keys of 8 bytes from the first 14: 7 bits of key in each byte, the last is parity.
fn des_keys(key: &[u8; 16]) -> [u8; 16] {
    let mut spread = [0; 16];
    for (half, part) in spread.chunks_exact_mut(8).zip(key.chunks_exact(7)) {
        let bits = part.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for (number, byte) in half.iter_mut().enumerate() {
            *byte = (bits >> (49 - 7 * number)) as u8 & 0x7f;
            *byte <<= 1;
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::credentials::AM_RM_TOKEN;

    fn token() -> Token {
        Token {
            identifier: vec![
                0x0a, 0x0d, 0x0a, 0x09, 0x08, 0x03, 0x10, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31, 0x10,
                0x01, 0x10, 0x07,
            ],
            password: vec![
                0xe8, 0x11, 0xef, 0x34, 0xa6, 0xcf, 0x1f, 0xc4, 0xe2, 0xa3, 0xdc, 0x71, 0xec, 0x5b,
                0x7e, 0x3a, 0x12, 0xd1, 0x0e, 0xdf,
            ],
            kind: AM_RM_TOKEN.to_owned(),
            service: String::new(),
        }
    }

    fn challenge(qop: &str, nonce: &str, rest: &str) -> String {
        format!(
            "realm=\"default\",nonce=\"{nonce}\",qop=\"{qop}\",charset=utf-8,algorithm=md5-sess\
             {rest}"
        )
    }

    /// A handshake that Hadoop 3.5.0 accepted, with its answer.
    fn agrees(qop: &str, nonce: &str, client_nonce: &str, response: &str, proof: &str) -> Layer {
        let text = challenge(qop, nonce, ",cipher=\"3des,rc4\"");
        let most = Protection::Privacy;
        let exchange = respond_with(text.as_bytes(), &token(), most, client_nonce).unwrap();
        let sent = str::from_utf8(&exchange.response).unwrap();
        let user = "charset=utf-8,username=\"Cg0KCQgDEIDQlf+8MRABEAc=\",";
        assert!(sent.starts_with(user), "{sent}");
        assert!(sent.contains(&format!("\"/default\",response={response},qop=")), "{sent}");
        let layer = exchange.finish(format!("rspauth={proof}").as_bytes()).unwrap();
        let none = Direction { signing: [0; 16], sealing: Sealing::None, sequence: 0 };
        let other = Direction { signing: [0; 16], sealing: Sealing::None, sequence: 0 };
        layer.unwrap_or(Layer { to_server: none, to_client: other })
    }

    #[test]
    fn answers_are_as_hadoop_computes_them() {
        agrees(
            "auth",
            "85AI/HWltGgNG3aAbv3b9vaFbQ52Wg4Wpuh4C2IS",
            "fDAMmiOcWLpgiQPjcBi2rg==",
            "2fe3d4bdf85d4575fba08bc857be9f0b",
            "09b7521114f2410010eac78418293563",
        );
        agrees(
            "auth-int",
            "hn+q5CCudWnZt5lSsh6UrsWE31efyonmUsZKsb5q",
            "Lol4JSEwLbAyJMAq6XC/5w==",
            "f805ca6cf108a5a58ccec92faf47f371",
            "1c6188a1348e7799a52c1ed26d033057",
        );
        agrees(
            "auth-conf",
            "z7lIBtgc2UrN0T4Mp2iAbHmBcukDMOsQ2jsE2JMi",
            "gbXpmksKD3vVdPptBqRihw==",
            "b22115b9f2cc2b7b72ae75ee249a14f1",
            "8a05fdf25edd13e548df8a702f5b8cb7",
        );
    }

    #[test]
    fn the_strongest_common_protection_is_taken() {
        let offered = challenge("auth-conf,auth-int,auth", "n", ",cipher=\"3des,rc4,des\"");
        let taken = |most, text: &str| {
            respond_with(text.as_bytes(), &token(), most, "c").map(|it| (it.protection, it.cipher))
        };
        let rc4 = Some(Cipher::Rc4);
        assert_eq!(taken(Protection::Privacy, &offered), Ok((Protection::Privacy, rc4)));
        assert_eq!(taken(Protection::Integrity, &offered), Ok((Protection::Integrity, None)));
        let only_private = challenge("auth-conf", "n", ",cipher=\"3des\"");
        let des = Some(Cipher::TripleDes);
        assert_eq!(taken(Protection::Privacy, &only_private), Ok((Protection::Privacy, des)));
        let error = taken(Protection::Integrity, &only_private).unwrap_err();
        assert!(error.to_string().contains("the protections auth-conf"), "{error}");
    }

    #[test]
    fn a_server_without_proof_is_an_impostor() {
        let text = challenge("auth", "n", "");
        for reply in ["", "rspauth=", "rspauth=00000000000000000000000000000000"] {
            let most = Protection::Privacy;
            let exchange = respond_with(text.as_bytes(), &token(), most, "c").unwrap();
            assert_eq!(exchange.finish(reply.as_bytes()).err(), Some(DigestError::Impostor));
        }
    }

    /// Both ends of one direction.
    fn ends(cipher: Option<Cipher>) -> (Direction, Direction) {
        let end = || Direction::new(&[7; 16], cipher, "client-to-server");
        (end(), end())
    }

    #[test]
    fn protected_messages_arrive_and_changed_ones_do_not() {
        for cipher in [None, Some(Cipher::Rc4), Some(Cipher::TripleDes)] {
            let (mut from, mut to) = ends(cipher);
            for length in 0..40 {
                let message = vec![length; usize::from(length)];
                let wrapped = from.wrap(&message);
                assert_eq!(to.unwrap(&wrapped), Ok(message), "{cipher:?} {length}");
            }
            let (mut from, _) = ends(cipher);
            let wrapped = from.wrap(b"message");
            for at in 0..wrapped.len() {
                let mut changed = wrapped.clone();
                changed[at] ^= 1;
                let (_, mut to) = ends(cipher);
                assert_eq!(to.unwrap(&changed), Err(DigestError::Damaged), "{cipher:?} {at}");
            }
            let (_, mut to) = ends(cipher);
            assert!(to.unwrap(&wrapped).is_ok());
            assert_eq!(to.unwrap(&wrapped), Err(DigestError::Damaged), "sent again");
        }
    }

    #[test]
    fn challenges_are_parsed_with_quotes_and_refused_without_sense() {
        let parsed = directives("a=\"x,\\\"y\", b=c ,,d=\"\"").unwrap();
        let expected = [("a", "x,\"y"), ("b", "c"), ("d", "")];
        assert_eq!(parsed, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(directives("a=\"x").is_err());
        assert!(Challenge::parse(b"realm=\"r\",nonce=\"n\",algorithm=md5").is_err());
        assert!(Challenge::parse(b"algorithm=md5-sess").is_err());
        assert!(Challenge::parse(&[b'a'; 3000]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Challenge::parse(&bytes);
            for cipher in [None, Some(Cipher::Rc4), Some(Cipher::TripleDes)] {
                let _ = ends(cipher).1.unwrap(&bytes);
            }
        }
    }
}
