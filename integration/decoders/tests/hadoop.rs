//! Messages of Hadoop's daemons, and the files that containers and clients read.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::time::Duration;

use millstream_hadoop_config::HadoopConfiguration;
use millstream_rm_yarn::credentials::{AM_RM_TOKEN, HadoopCredentials, Token};
use millstream_rm_yarn::ids::{ApplicationId, ContainerId};
use millstream_rm_yarn::ipc::{Connection, Identity, Options, Protocol};
use millstream_rm_yarn::proto::common::rpc_sasl_proto::{SaslAuth, SaslState};
use millstream_rm_yarn::proto::common::{
    CredentialsKvProto, CredentialsProto, RpcResponseHeaderProto, RpcSaslProto, RpcStatusProto,
};
use millstream_rm_yarn::proto::container::{Master, Worker};
use millstream_rm_yarn::proto::yarn::{
    ApplicationIdProto, GetNewApplicationRequestProto, GetNewApplicationResponseProto,
};
use prost::Message;
use tokio::io::AsyncWriteExt;

use millstream_decoders::run;

fn token() -> Token {
    Token {
        identifier: vec![0x0a, 0x0d, 0x0a, 0x09],
        password: vec![0xe8; 20],
        kind: AM_RM_TOKEN.to_owned(),
        service: String::new(),
    }
}

#[test]
fn credentials_files() {
    let credentials = HadoopCredentials {
        tokens: vec![(String::new(), token()), ("other".to_owned(), token())],
        secrets: vec![("key".to_owned(), vec![5; 300])],
    };
    let entry = CredentialsKvProto {
        alias: "a".to_owned(),
        token: Some(token().into()),
        secret: Some(vec![1, 2, 3]),
    };
    let protobuf = CredentialsProto { tokens: vec![entry.clone()], secrets: vec![entry] };
    let protobuf = [b"HDTS\x01".as_slice(), &protobuf.encode_length_delimited_to_vec()].concat();
    let good = [credentials.encode(), protobuf];
    run("credentials files", 300, &good, |bytes| {
        if let Ok(credentials) = HadoopCredentials::decode(bytes) {
            let _ = HadoopCredentials::decode(&credentials.encode());
        }
    });
}

#[test]
fn configuration_files() {
    let good = [
        "<?xml version=\"1.0\"?>\n<configuration>\n<property><name>fs.defaultFS</name>\
         <value>hdfs://${host}:${port}/</value><final>true</final></property>\n\
         <property><name>host</name><value>${other}</value></property>\n\
         <property><name>other</name><value>${host}${env.HOME}</value></property>\n\
         </configuration>\n",
        "<configuration xmlns:xi=\"http://www.w3.org/2001/XInclude\">\
         <xi:include href=\"other.xml\"/><!-- a word --><property><name>a</name>\
         <value><![CDATA[b &amp; c]]></value><description>d</description></property>\
         </configuration>",
        "<!DOCTYPE configuration [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">\
         <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;\">]><configuration><property><name>n</name>\
         <value>&c;&c;&c;</value></property></configuration>",
    ];
    let good: Vec<_> = good.iter().map(|text| text.as_bytes().to_vec()).collect();
    run("configuration files", 100, &good, |bytes| {
        let mut configuration = HadoopConfiguration::new();
        if configuration.add_xml(&String::from_utf8_lossy(bytes)).is_ok() {
            for key in ["fs.defaultFS", "host", "n"] {
                let _ = configuration.get(key);
            }
            let _ = configuration.to_xml();
        }
    });
}

#[test]
fn names_of_containers() {
    let names = [
        "application_1700000000000_0001",
        "container_e17_1700000000000_0001_02_000003",
        "container_1700000000000_0001_01_000001",
    ];
    let good: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    run("names of containers", 100, &good, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = text.parse::<ApplicationId>();
        let _ = text.parse::<ContainerId>();
    });
}

#[test]
fn what_containers_are_told() {
    let master = Master {
        version: 1,
        configuration: [("a".to_owned(), "b".to_owned())].into(),
        staging_dir: "hdfs:///x".to_owned(),
        ..Master::default()
    };
    let worker = Worker { version: 1, user: "alice".to_owned(), ..Worker::default() };
    let good = [master.encode_to_vec(), worker.encode_to_vec()];
    run("what containers are told", 60, &good, |bytes| {
        let _ = Master::decode(bytes);
        let _ = Worker::decode(bytes);
    });
}

/// A frame of the server.
fn frame(header: &RpcResponseHeaderProto, body: &[u8]) -> Vec<u8> {
    let mut frame = header.encode_length_delimited_to_vec();
    frame.extend_from_slice(body);
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

fn header(call: i32, status: RpcStatusProto) -> RpcResponseHeaderProto {
    RpcResponseHeaderProto {
        call_id: call.cast_unsigned(),
        status: status.into(),
        ..RpcResponseHeaderProto::default()
    }
}

fn sasl(message: &RpcSaslProto) -> Vec<u8> {
    frame(&header(-33, RpcStatusProto::Success), &message.encode_length_delimited_to_vec())
}

/// Messages of servers: offers and challenges, answers, refusals.
fn speeches() -> Vec<Vec<u8>> {
    let challenge = "realm=\"default\",nonce=\"n+/=\",qop=\"auth,auth-int,auth-conf\",\
                     charset=utf-8,cipher=\"3des,rc4\",algorithm=md5-sess";
    let offer = |challenge: &str| SaslAuth {
        method: "TOKEN".to_owned(),
        mechanism: "DIGEST-MD5".to_owned(),
        protocol: Some(String::new()),
        server_id: Some("default".to_owned()),
        challenge: Some(challenge.as_bytes().to_vec()),
    };
    let message = |state: SaslState, token: Option<&[u8]>, auths| {
        let (state, token) = (state.into(), token.map(<[u8]>::to_vec));
        sasl(&RpcSaslProto { version: None, state, token, auths })
    };
    let negotiate = message(SaslState::Negotiate, None, vec![offer(challenge)]);
    let success = message(SaslState::Success, Some(b"rspauth=00"), vec![]);
    let wrapped = message(SaslState::Wrap, Some(&[1; 40]), vec![]);
    let id = ApplicationIdProto { id: Some(7), cluster_timestamp: Some(1_700_000_000_000) };
    let answer = GetNewApplicationResponseProto { application_id: Some(id), ..Default::default() };
    let answer =
        frame(&header(0, RpcStatusProto::Success), &answer.encode_length_delimited_to_vec());
    let refusal = RpcResponseHeaderProto {
        exception_class_name: Some("org.apache.hadoop.ipc.StandbyException".to_owned()),
        error_msg: Some("not active\n\tat a.b".to_owned()),
        ..header(0, RpcStatusProto::Fatal)
    };
    vec![
        [negotiate.clone(), success.clone()].concat(),
        [negotiate.clone(), wrapped.clone()].concat(),
        negotiate,
        success,
        answer.clone(),
        [answer.clone(), answer].concat(),
        frame(&refusal, &[]),
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\n".to_vec(),
    ]
}

#[test]
fn the_ipc_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // None of them is waited for: the server hangs up.
    let after = Duration::from_secs(30);
    let options = Options { connect_timeout: after, call_timeout: after, ..Options::default() };
    run("the IPC client", 300, &speeches(), |bytes| {
        runtime.block_on(async {
            for identity in [Identity::User("alice".to_owned()), Identity::Token(token())] {
                let (client, mut server) = tokio::io::duplex(64 << 10);
                let talk = async {
                    let protocol = Protocol::APPLICATION_CLIENT;
                    let connection =
                        Connection::over(client, "rm:8032", protocol, identity, &options).await?;
                    let request = GetNewApplicationRequestProto::default();
                    let method = "getNewApplication";
                    connection.call::<_, GetNewApplicationResponseProto>(method, &request).await
                };
                // In two pieces, so that it stops in the middle of a message.
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let speak = async {
                    let _ = server.write_all(first).await;
                    tokio::task::yield_now().await;
                    let _ = server.write_all(second).await;
                    drop(server);
                };
                let _ = tokio::join!(talk, speak);
            }
        });
    });
}
