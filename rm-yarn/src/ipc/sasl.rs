//! Authentication of a connection by token: the handshake before the first call, without I/O.

use bytes::{Bytes, BytesMut};

use super::digest_md5::{self, DigestError, Exchange, Layer, Protection};
use super::frames::{SASL, put_frame, request_header};
use crate::credentials::Token;
use crate::proto::common::RpcSaslProto;
use crate::proto::common::rpc_sasl_proto::{SaslAuth, SaslState};

/// The handshake of a client that holds a token.
pub(super) struct Handshake<'a> {
    token: &'a Token,
    most: Protection,
    exchange: Option<Exchange>,
}

/// Next step of the handshake after a message of the server.
pub(super) enum Step {
    /// Send this and wait for the next message.
    Send(BytesMut),
    /// It is over; what protects everything that follows, if anything does.
    Done(Option<Layer>),
}

/// Why there is no next step.
pub(super) enum Refusal {
    Identify(DigestError),
    Foreign(String),
}

impl From<DigestError> for Refusal {
    fn from(error: DigestError) -> Self {
        Self::Identify(error)
    }
}

fn frame(message: &RpcSaslProto) -> BytesMut {
    let mut out = BytesMut::new();
    put_frame(&mut out, &request_header(SASL, &[], -1), &[message]);
    out
}

/// Protected bytes as a message.
pub(super) fn wrapped(bytes: Vec<u8>) -> BytesMut {
    frame(&RpcSaslProto {
        state: SaslState::Wrap.into(),
        token: Some(bytes),
        ..RpcSaslProto::default()
    })
}

impl<'a> Handshake<'a> {
    pub(super) fn new(token: &'a Token, most: Protection) -> Self {
        Self { token, most, exchange: None }
    }

    /// The message that opens it.
    pub(super) fn open() -> BytesMut {
        frame(&RpcSaslProto { state: SaslState::Negotiate.into(), ..RpcSaslProto::default() })
    }

    pub(super) fn on_message(&mut self, message: RpcSaslProto) -> Result<Step, Refusal> {
        match (message.state(), self.exchange.take()) {
            (SaslState::Negotiate, None) => self.initiate(message.auths),
            (SaslState::Success, Some(exchange)) => {
                let proof = message.token.unwrap_or_default();
                Ok(Step::Done(exchange.finish(&proof)?))
            }
            (SaslState::Success, None) => Err(Refusal::Foreign(
                "it lets everybody in by name alone, where a token was to be shown".to_owned(),
            )),
            (other, _) => Err(Refusal::Foreign(format!("it sent {other:?} in the handshake"))),
        }
    }

    /// Chooses authentication by token; its first challenge comes with the offer.
    fn initiate(&mut self, offers: Vec<SaslAuth>) -> Result<Step, Refusal> {
        let names = offers.iter().map(|it| it.method.as_str()).collect::<Vec<_>>().join(", ");
        let offer = offers.into_iter().find(|it| it.method == "TOKEN");
        let Some(mut offer) = offer else {
            return Err(Refusal::Identify(DigestError::NothingInCommon {
                offered: format!("the methods {names}"),
                allowed: "a token was to be shown",
            }));
        };
        if offer.mechanism != "DIGEST-MD5" {
            return Err(Refusal::Identify(DigestError::NothingInCommon {
                offered: format!("tokens by {}", offer.mechanism),
                allowed: "DIGEST-MD5 alone is supported (hadoop.security.sasl.mechanism)",
            }));
        }
        let challenge = offer.challenge.take().unwrap_or_default();
        let exchange = digest_md5::respond(&challenge, self.token, self.most)?;
        let response = exchange.response.clone();
        self.exchange = Some(exchange);
        // The chosen offer goes back as it came, empty fields included, without its challenge.
        Ok(Step::Send(frame(&RpcSaslProto {
            version: None,
            state: SaslState::Initiate.into(),
            token: Some(response),
            auths: vec![offer],
        })))
    }
}

/// Undoes the protection of what arrives: frames within messages, whole or in parts.
pub(super) struct Unwrapper {
    pub(super) open: BytesMut,
}

impl Unwrapper {
    pub(super) fn take(
        &mut self,
        layer: &mut Layer,
        message: &RpcSaslProto,
    ) -> Result<(), Refusal> {
        if message.state() != SaslState::Wrap {
            return Err(Refusal::Foreign("it sent an unprotected answer".to_owned()));
        }
        let bytes = Bytes::from(layer.unwrap(message.token())?);
        self.open.extend_from_slice(&bytes);
        Ok(())
    }
}
