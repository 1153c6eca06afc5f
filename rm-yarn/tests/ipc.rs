//! Behaviour that a real server does not show on demand: answers out of order, refusals, silence
//! and nonsense.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_hadoop_config::HadoopConfiguration;
use millstream_rm_yarn::credentials::{AM_RM_TOKEN, Token};
use millstream_rm_yarn::decline;
use millstream_rm_yarn::ids::AttemptId;
use millstream_rm_yarn::ipc::{Connection, Identity, IpcError, Options, Protocol};
use millstream_rm_yarn::proto::common::{
    IpcConnectionContextProto, RequestHeaderProto, RpcRequestHeaderProto, RpcResponseHeaderProto,
    RpcStatusProto,
};
use millstream_rm_yarn::proto::yarn::{
    FinalApplicationStatusProto, FinishApplicationMasterRequestProto,
    FinishApplicationMasterResponseProto, GetClusterMetricsRequestProto,
    GetNewApplicationResponseProto, RegisterApplicationMasterRequestProto,
    RegisterApplicationMasterResponseProto,
};
use millstream_rm_yarn::resource_manager::{ResourceManager, Service};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PROTOCOL: Protocol = Protocol::APPLICATION_CLIENT;

/// The server's end of a connection.
struct Server {
    stream: TcpStream,
}

impl Server {
    /// A server that does as `behave` says with the first connection, and its address.
    async fn start<F: Future<Output = ()> + Send>(
        behave: impl FnOnce(Self) -> F + Send + 'static,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            behave(Self { stream }).await;
        });
        address
    }

    async fn frame(&mut self) -> Bytes {
        let length = self.stream.read_u32().await.unwrap() as usize;
        let mut bytes = BytesMut::zeroed(length);
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes.freeze()
    }

    /// Reads all that comes before the first call; returns the user's name.
    async fn greet(&mut self) -> String {
        let mut preamble = [0; 7];
        self.stream.read_exact(&mut preamble).await.unwrap();
        assert_eq!(preamble, *b"hrpc\x09\0\0");
        let mut frame = self.frame().await;
        let header = RpcRequestHeaderProto::decode_length_delimited(&mut frame).unwrap();
        assert_eq!(header.call_id, -3);
        let context = IpcConnectionContextProto::decode_length_delimited(&mut frame).unwrap();
        assert_eq!(context.protocol(), PROTOCOL.0);
        context.user_info.unwrap().effective_user().to_owned()
    }

    /// The next call: its number and method.
    async fn call(&mut self) -> (i32, String) {
        let mut frame = self.frame().await;
        let header = RpcRequestHeaderProto::decode_length_delimited(&mut frame).unwrap();
        let request = RequestHeaderProto::decode_length_delimited(&mut frame).unwrap();
        GetClusterMetricsRequestProto::decode_length_delimited(&mut frame).unwrap();
        assert!(!frame.has_remaining());
        (header.call_id, request.method_name)
    }

    /// The next call with its request.
    async fn request<Q: Message + Default>(&mut self) -> (i32, String, Q) {
        let mut frame = self.frame().await;
        let header = RpcRequestHeaderProto::decode_length_delimited(&mut frame).unwrap();
        let request = RequestHeaderProto::decode_length_delimited(&mut frame).unwrap();
        let body = Q::decode_length_delimited(&mut frame).unwrap();
        (header.call_id, request.method_name, body)
    }

    async fn succeed(&mut self, call: i32, answer: &impl Message) {
        let header = RpcResponseHeaderProto {
            call_id: call.cast_unsigned(),
            status: RpcStatusProto::Success.into(),
            ..RpcResponseHeaderProto::default()
        };
        self.write(header, &answer.encode_length_delimited_to_vec()).await;
    }

    async fn write(&mut self, header: RpcResponseHeaderProto, body: &[u8]) {
        let mut frame = BytesMut::from(header.encode_length_delimited_to_vec().as_slice());
        frame.extend_from_slice(body);
        let mut out = BytesMut::new();
        out.put_u32(u32::try_from(frame.len()).unwrap());
        out.unsplit(frame);
        self.stream.write_all(&out).await.unwrap();
    }

    /// Answers with the number that the call asked for by its method.
    async fn answer(&mut self, (call, method): (i32, String)) {
        let answer = GetNewApplicationResponseProto {
            application_id: Some(millstream_rm_yarn::proto::yarn::ApplicationIdProto {
                id: Some(method.parse().unwrap()),
                cluster_timestamp: None,
            }),
            maximum_capability: None,
        };
        let header = RpcResponseHeaderProto {
            call_id: call.cast_unsigned(),
            status: RpcStatusProto::Success.into(),
            ..RpcResponseHeaderProto::default()
        };
        self.write(header, &answer.encode_length_delimited_to_vec()).await;
    }

    async fn refuse(&mut self, call: i32, status: RpcStatusProto, class: &str, message: &str) {
        let header = RpcResponseHeaderProto {
            call_id: call.cast_unsigned(),
            status: status.into(),
            exception_class_name: Some(class.to_owned()),
            error_msg: Some(message.to_owned()),
            ..RpcResponseHeaderProto::default()
        };
        self.write(header, &[]).await;
    }
}

fn options() -> Options {
    Options { call_timeout: Duration::from_secs(10), ..Options::default() }
}

async fn open(address: &str) -> Connection {
    let user = Identity::User("alice".to_owned());
    Connection::open(address, PROTOCOL, user, &options()).await.unwrap()
}

/// Calls a method whose name is a number; the server answers with it.
async fn ask(connection: &Connection, number: i32) -> Result<i32, IpcError> {
    let request = GetClusterMetricsRequestProto {};
    let answer: GetNewApplicationResponseProto =
        connection.call(&number.to_string(), &request).await?;
    Ok(answer.application_id.unwrap().id())
}

/// Its protocol is not looked at here.
async fn greeted(server: &mut Server) {
    server.stream.read_exact(&mut [0; 7]).await.unwrap();
    let _ = server.frame().await;
}

#[tokio::test]
async fn another_attempt_of_a_master_ends_its_application_as_failed() {
    let address = Server::start(|mut server| async move {
        greeted(&mut server).await;
        let (call, method, register) =
            server.request::<RegisterApplicationMasterRequestProto>().await;
        assert_eq!((method.as_str(), register.rpc_port()), ("registerApplicationMaster", 0));
        server.succeed(call, &RegisterApplicationMasterResponseProto::default()).await;
        for unregistered in [false, true] {
            let (call, method, finish) =
                server.request::<FinishApplicationMasterRequestProto>().await;
            assert_eq!(method, "finishApplicationMaster");
            assert_eq!(finish.final_application_status(), FinalApplicationStatusProto::AppFailed);
            let diagnostics = finish.diagnostics();
            assert!(diagnostics.contains("attempt 2"), "{diagnostics}");
            assert!(diagnostics.contains("without high availability"), "{diagnostics}");
            let is_unregistered = Some(unregistered);
            let answer = FinishApplicationMasterResponseProto { is_unregistered };
            server.succeed(call, &answer).await;
        }
    })
    .await;
    let mut hadoop = HadoopConfiguration::new();
    hadoop.set("yarn.resourcemanager.scheduler.address", address);
    let identity = Identity::User("alice".to_owned());
    let patience = Duration::from_secs(30);
    let mut manager =
        ResourceManager::new(&hadoop, Service::Scheduler, identity, options(), patience).unwrap();
    let application = "application_1_0001".parse().unwrap();
    decline(&mut manager, AttemptId { application, number: 2 }, "node").await.unwrap();
}

#[tokio::test]
async fn a_frozen_resource_manager_does_not_keep_the_next_from_being_asked() {
    let frozen = Server::start(|server| async move {
        std::future::pending::<()>().await;
        drop(server);
    })
    .await;
    let active = Server::start(|mut server| async move {
        greeted(&mut server).await;
        let call = server.call().await;
        server.answer(call).await;
    })
    .await;
    let mut hadoop = HadoopConfiguration::new();
    hadoop.set("yarn.resourcemanager.ha.enabled", "true");
    hadoop.set("yarn.resourcemanager.ha.rm-ids", "a,b");
    hadoop.set("yarn.resourcemanager.address.a", frozen);
    hadoop.set("yarn.resourcemanager.address.b", active);
    let identity = Identity::User("alice".to_owned());
    // The usual time for an answer is longer than the caller is patient.
    let patience = Duration::from_millis(10);
    let mut manager =
        ResourceManager::new(&hadoop, Service::Client, identity, options(), patience).unwrap();
    let request = GetClusterMetricsRequestProto {};
    let asked = manager.call::<_, GetNewApplicationResponseProto>("7", &request);
    let answer = tokio::time::timeout(Duration::from_secs(9), asked).await.unwrap().unwrap();
    assert_eq!(answer.application_id.unwrap().id(), 7);
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let address = Server::start(|mut server| async move {
        assert_eq!(server.greet().await, "alice");
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(server.call().await);
        }
        for call in calls.into_iter().rev() {
            server.answer(call).await;
        }
    })
    .await;
    let connection = open(&address).await;
    let (a, b, c) = tokio::join!(ask(&connection, 1), ask(&connection, 2), ask(&connection, 3));
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (1, 2, 3));
}

#[tokio::test]
async fn an_exception_concerns_its_call_alone() {
    let address = Server::start(|mut server| async move {
        server.greet().await;
        let (call, _) = server.call().await;
        let class = "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException";
        server.refuse(call, RpcStatusProto::Error, class, "no such thing\n\tat a.b(C.java)").await;
        let call = server.call().await;
        server.answer(call).await;
    })
    .await;
    let connection = open(&address).await;
    let error = ask(&connection, 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} refused: no such thing"));
    assert_eq!(ask(&connection, 2).await.unwrap(), 2);
}

#[tokio::test]
async fn a_fatal_refusal_is_told_to_all() {
    let address = Server::start(|mut server| async move {
        server.greet().await;
        server.call().await;
        server.call().await;
        let class = "org.apache.hadoop.security.AccessControlException";
        server.refuse(-1, RpcStatusProto::Fatal, class, "SIMPLE is not enabled").await;
    })
    .await;
    let connection = open(&address).await;
    let (one, other) = tokio::join!(ask(&connection, 1), ask(&connection, 2));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        let IpcError::Remote(error) = error else { unreachable!("{error}") };
        assert!(error.fatal && error.is("AccessControlException"), "{error}");
    }
    let error = ask(&connection, 3).await.unwrap_err();
    assert!(matches!(error, IpcError::Remote(_) | IpcError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn silence_and_a_lost_connection_are_told_apart() {
    let address = Server::start(|mut server| async move {
        server.greet().await;
        server.call().await;
        server.call().await;
    })
    .await;
    let limit = Duration::from_millis(100);
    let user = Identity::User("alice".to_owned());
    let impatient = Options { call_timeout: limit, ..Options::default() };
    let connection = Connection::open(&address, PROTOCOL, user, &impatient).await.unwrap();
    let error = ask(&connection, 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} did not answer 1 within 100ms"));
    let error = ask(&connection, 2).await.unwrap_err();
    assert!(matches!(error, IpcError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_hadoop_server_is_told() {
    for nonsense in [&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], &[0, 0, 0, 2, 0xff, 0xff], &[0; 8]] {
        let address = Server::start(move |mut server| async move {
            server.greet().await;
            server.call().await;
            server.stream.write_all(nonsense).await.unwrap();
            // The connection stays open until the client has had enough.
            let _ = server.stream.read(&mut [0; 1]).await;
        })
        .await;
        let error = ask(&open(&address).await, 1).await.unwrap_err();
        assert!(matches!(error, IpcError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("is it the right port?"), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_shown_to_those_alone_who_take_tokens() {
    let address = Server::start(|mut server| async move {
        let mut preamble = [0; 7];
        server.stream.read_exact(&mut preamble).await.unwrap();
        assert_eq!(preamble[6], 0xdf);
        server.frame().await;
        let class = "org.apache.hadoop.security.AccessControlException";
        server.refuse(-33, RpcStatusProto::Fatal, class, "no tokens here").await;
    })
    .await;
    let token = Token {
        identifier: vec![1],
        password: b"secret".to_vec(),
        kind: AM_RM_TOKEN.to_owned(),
        service: String::new(),
    };
    let identity = Identity::Token(token);
    let error = Connection::open(&address, PROTOCOL, identity, &options()).await.unwrap_err();
    assert!(error.to_string().ends_with("refused: no tokens here"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let user = Identity::User("alice".to_owned());
    let error = Connection::open(&address, PROTOCOL, user, &options()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("failed to connect to {address}")), "{error}");
}

#[tokio::test]
async fn a_frozen_resource_manager_gives_way_to_the_next() {
    let frozen = Server::start(|mut server| async move {
        server.greet().await;
        std::future::pending().await
    })
    .await;
    let awake = Server::start(|mut server| async move {
        server.greet().await;
        loop {
            let call = server.call().await;
            server.answer(call).await;
        }
    })
    .await;
    let mut hadoop = HadoopConfiguration::new();
    hadoop.set("yarn.resourcemanager.ha.enabled", "true");
    hadoop.set("yarn.resourcemanager.ha.rm-ids", "rm1,rm2");
    hadoop.set("yarn.resourcemanager.address.rm1", &frozen);
    hadoop.set("yarn.resourcemanager.address.rm2", &awake);
    let options = Options { call_timeout: Duration::from_millis(100), ..Options::default() };
    let user = Identity::User("alice".to_owned());
    let patience = Duration::from_secs(10);
    let mut manager =
        ResourceManager::new(&hadoop, Service::Client, user, options, patience).unwrap();
    for number in [1, 2] {
        let request = GetClusterMetricsRequestProto {};
        let answer: GetNewApplicationResponseProto =
            manager.call(&number.to_string(), &request).await.unwrap();
        assert_eq!(answer.application_id.unwrap().id(), number);
    }
}
