//! Handshakes in memory: accepted and refused peers.

use std::time::Duration;

use rustls::{ClientConnection, ServerConnection, version};

use super::*;
use crate::Authority;

const DAY: Duration = Duration::from_secs(86_400);

fn authority() -> Authority {
    Authority::generate("c").unwrap()
}

fn of(authority: &Authority, role: Role, name: &str) -> Credentials {
    authority.issue(role, name, DAY).unwrap()
}

fn client(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, server_name()).unwrap()
}

fn server(authority: &Authority) -> ServerConnection {
    let own = of(authority, Role::JobManager, "jm");
    ServerConnection::new(own.server_config(&[Role::Worker, Role::Host]).unwrap()).unwrap()
}

/// Carries what both sides say until neither says more, or one gives up.
fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        hear(&bytes, |rest| server.read_tls(rest).unwrap());
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        hear(&bytes, |rest| client.read_tls(rest).unwrap());
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking(), "they said all they had to say");
    Ok(())
}

fn hear(mut bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> usize) {
    while !bytes.is_empty() && read(&mut bytes) > 0 {}
}

fn refusal(of_client: &Credentials, server: &mut ServerConnection) -> String {
    let mut client = client(of_client.client_config(Role::JobManager, None).unwrap());
    shake(&mut client, server).unwrap_err().to_string()
}

#[test]
fn the_two_sides_know_who_the_other_is() {
    let authority = authority();
    let worker = of(&authority, Role::Worker, "tm/1");
    let config = worker.client_config(Role::JobManager, Some("jm")).unwrap();
    let (mut client, mut server) = (client(config), server(&authority));
    assert_eq!(peer_identity(&server), None);
    shake(&mut client, &mut server).unwrap();
    assert_eq!(peer_identity(&server).as_ref(), Some(worker.identity()));
    assert_eq!(peer_identity(&client).unwrap().to_string(), "millstream://c/jobmanager/jm");
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn a_client_of_another_authority_cluster_or_role_stays_outside() {
    let ours = authority();
    // That it has the same name says nothing.
    let text = refusal(&of(&authority(), Role::Worker, "tm"), &mut server(&ours));
    assert!(text.contains("BadSignature"), "{text}");
    let other = Authority::generate("d").unwrap();
    let text = refusal(&of(&other, Role::Worker, "tm"), &mut server(&ours));
    assert!(text.contains("UnknownIssuer"), "{text}");
    let text = refusal(&of(&ours, Role::Client, "me"), &mut server(&ours));
    assert!(text.contains("millstream://c/client/me is not let in here"), "{text}");
}

#[test]
fn a_certificate_of_the_right_authority_for_another_cluster_is_refused() {
    let ours = authority();
    let verifier = |cluster: &str| Verifier {
        cluster: cluster.to_owned(),
        ..Verifier::new(&of(&ours, Role::JobManager, "jm"), &[Role::Worker], None).unwrap()
    };
    let worker = of(&ours, Role::Worker, "tm");
    let verify = |verifier: &Verifier| {
        verifier.verify(&worker.certificate, UnixTime::now(), KeyUsage::client_auth())
    };
    assert!(verify(&verifier("c")).is_ok());
    assert!(verify(&verifier("d")).is_err());
}

#[test]
fn a_server_must_have_the_expected_role_and_name() {
    let ours = authority();
    let worker = of(&ours, Role::Worker, "tm");
    for (role, name, error) in [
        (Role::JobManager, Some("jm"), None),
        (Role::JobManager, Some("other"), Some("millstream://c/jobmanager/jm is not let in")),
        (Role::Worker, None, Some("millstream://c/jobmanager/jm is not let in")),
    ] {
        let mut client = client(worker.client_config(role, name).unwrap());
        let outcome = shake(&mut client, &mut server(&ours)).err().map(|it| it.to_string());
        match (outcome, error) {
            (None, None) => {}
            (Some(said), Some(expected)) => assert!(said.contains(expected), "{said}"),
            (said, expected) => panic!("{said:?}, not {expected:?}"),
        }
    }
    let mut client = client(worker.client_config(Role::JobManager, None).unwrap());
    let error = shake(&mut client, &mut server(&authority())).unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
}

#[test]
fn what_has_expired_is_refused() {
    let ours = authority();
    let old = of(&ours, Role::Worker, "tm");
    let verifier = Verifier::new(&old, &[Role::Worker], None).unwrap();
    let at = |duration: Duration| UnixTime::since_unix_epoch(duration);
    let now = Duration::from_secs(UnixTime::now().as_secs());
    let verify = |time| verifier.verify(&old.certificate, time, KeyUsage::client_auth());
    assert!(verify(at(now)).is_ok());
    assert!(verify(at(now + DAY * 2)).unwrap_err().to_string().contains("Expired"));
    assert!(verify(at(now - DAY)).unwrap_err().to_string().contains("NotValidYet"));
}

/// A client that accepts any server, with or without a certificate of its own.
fn naive(
    own: Option<&Credentials>,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConnection {
    #[derive(Debug)]
    struct Naive;
    impl ServerCertVerifier for Naive {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Naive));
    client(Arc::new(match own {
        None => config.with_no_client_auth(),
        Some(own) => config
            .with_client_auth_cert(vec![own.certificate.clone()], own.private_key().into())
            .unwrap(),
    }))
}

#[test]
fn nobody_gets_in_without_a_certificate_or_with_an_old_protocol() {
    let ours = authority();
    let error = shake(&mut naive(None, &version::TLS13), &mut server(&ours)).unwrap_err();
    assert_eq!(error, Error::NoCertificatesPresented);
    let worker = of(&ours, Role::Worker, "tm");
    shake(&mut naive(Some(&worker), &version::TLS13), &mut server(&ours)).unwrap();
    let error = shake(&mut naive(Some(&worker), &version::TLS12), &mut server(&ours)).unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error:?}");
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let ours = authority();
    let (worker, other) = (of(&ours, Role::Worker, "tm"), of(&ours, Role::Host, "h"));
    let stolen = Credentials { key: other.key.clone(), ..worker };
    assert!(stolen.client_config(Role::JobManager, None).is_err());
    // The authority's own certificate is not one of a peer.
    let own = Credentials { certificate: other.authority.clone(), ..other };
    let verifier = Verifier::new(&own, &[Role::Host], None).unwrap();
    assert!(verifier.verify(&own.certificate, UnixTime::now(), KeyUsage::client_auth()).is_err());
}

#[test]
fn plain_bytes_end_a_connection() {
    for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0xff; 64], &[0; 64]] {
        let mut server = server(&authority());
        hear(bytes, |rest| server.read_tls(rest).unwrap());
        assert!(server.process_new_packets().is_err());
    }
}
