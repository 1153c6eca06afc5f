//! Uploaded programs: what Flink's web page and its other clients do with them.

use serde_json::json;

use crate::world::{Response, World};

async fn upload(world: &World, parts: &[(&str, &str, &[u8])]) -> Response {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/x-java-archive\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    let kind = [("Content-Type", "multipart/form-data; boundary=XX")];
    world.send("POST", "/jars/upload", &kind, &body).await
}

pub async fn uploaded(world: &World) -> String {
    let answer = upload(world, &[("jarfile", "../../word_count", b"program")]).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(answer["status"], "success");
    answer["filename"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_is_listed_under_a_name_made_here_and_deleted() {
    let world = World::start().await;
    let id = uploaded(&world).await;
    let list = world.get("/jars").await.json();
    let file = &list["files"][0];
    assert_eq!(list["address"], format!("http://{}", world.address));
    assert_eq!(file["id"], id);
    assert_eq!(file["name"], "../../word_count");
    assert!(file["uploaded"].is_i64());
    assert!(file["entry"][0]["name"].is_string());
    assert!(!id.contains("word_count"), "{id}");

    let answer = world.send("DELETE", &format!("/jars/{id}"), &[], b"").await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    assert_eq!(world.get("/jars").await.json()["files"], json!([]));
}

#[tokio::test]
async fn a_run_takes_arguments_from_body_or_query_as_flink_does() {
    let world = World::configured(&[("parallelism.default", "3")], Default::default()).await;
    let id = uploaded(&world).await;
    let body = json!({
        "entryClass": "main",
        "programArgs": "--input 'a b' c",
        "parallelism": 2,
        "jobId": "0000000000000000000000000000002a",
        "flinkConfiguration": { "pipeline.max-parallelism": "64" },
    });
    let run = format!("/v1/jars/{id}/run");
    let answer = world.send("POST", &run, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json(), json!({ "jobid": "0000000000000000000000000000002a" }));
    let query = "entry-class=other&program-args=x+y&parallelism=5";
    let answer = world.get(&format!("/jars/{id}/plan?{query}")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["plan"]["nodes"].is_array());
    let answer = world.send("POST", &format!("{run}?programArg=p&programArg=q"), &[], b"").await;
    assert_eq!(answer.status, 200);

    let asked = world.planner.asked.lock().unwrap().clone();
    let args: Vec<_> = asked.iter().map(|(_, settings)| settings.args.clone()).collect();
    let expected: [&[&str]; 3] = [&["--input", "a b", "c"], &["x", "y"], &["p", "q"]];
    assert_eq!(args, expected);
    let parallelism: Vec<_> = asked.iter().map(|(_, settings)| settings.parallelism).collect();
    assert_eq!(parallelism, [2, 5, 3]);
    assert_eq!(asked[0].1.max_parallelism.map(|max| max.get()), Some(64));
    let entries: Vec<_> = asked.iter().map(|(_, settings)| settings.entry.as_deref()).collect();
    assert_eq!(entries, [Some("main"), Some("other"), None]);
    assert_eq!(std::fs::read(&asked[0].0).unwrap(), b"program");
}

#[tokio::test]
async fn a_run_starts_from_a_savepoint_of_body_query_or_configuration() {
    const PATH: &str = "execution.state-recovery.path";
    const IGNORE: &str = "execution.state-recovery.ignore-unclaimed-state";
    const CLAIM: &str = "execution.state-recovery.claim-mode";
    let world = World::start().await;
    let id = uploaded(&world).await;
    let by_body = json!({
        "savepointPath": "hdfs:///s/1",
        "allowNonRestoredState": true,
        "claimMode": "CLAIM",
        "flinkConfiguration": { PATH: "/ignored", CLAIM: "NO_CLAIM" },
    });
    let older = json!({ "restoreMode": "NO_CLAIM", "allowNonRestoredState": false });
    let nulls = json!({ "savepointPath": null, "claimMode": null, "restoreMode": null });
    let configured = json!({ "savepointPath": "", "flinkConfiguration": { PATH: "/c" } });
    let query = "?savepointPath=%2Fq&allowNonRestoredState=true&claimMode=CLAIM";
    let settings = |path, ignore, claim| [(PATH, path), (IGNORE, ignore), (CLAIM, claim)];
    for (body, query, wanted) in [
        (by_body, query, settings(Some("hdfs:///s/1"), Some("true"), Some("CLAIM"))),
        (json!({}), query, settings(Some("/q"), Some("true"), Some("CLAIM"))),
        (json!({}), "?restoreMode=NO_CLAIM", settings(None, None, Some("NO_CLAIM"))),
        (older, query, settings(Some("/q"), Some("false"), Some("NO_CLAIM"))),
        (nulls, "", settings(None, None, None)),
        (configured, "", settings(Some("/c"), None, None)),
    ] {
        let body = body.to_string();
        let run = format!("/jars/{id}/run{query}");
        let answer = world.send("POST", &run, &[], body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let asked = world.planner.asked.lock().unwrap();
        let config = &asked.last().unwrap().1.config;
        for (key, value) in wanted {
            assert_eq!(config.get(key).map(String::as_str), value, "{key} of {body} {query}");
        }
    }
    for query in ["allowNonRestoredState=1", "claimMode=LEGACY", "restoreMode=x"] {
        let answer = world.send("POST", &format!("/jars/{id}/run?{query}"), &[], b"").await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test]
async fn bad_runs_and_bad_uploads_are_refused_with_a_sentence() {
    let world = World::start().await;
    let id = uploaded(&world).await;
    let run = format!("/jars/{id}/run");
    let deep = "[".repeat(1_000_000);
    for (body, text) in [
        (r#"{"entryClass":"broken"}"#, "the program panicked\nhere"),
        (r#"{"programArgs":"a","programArgsList":["b"]}"#, "programArgsList alone"),
        (r#"{"savepointPath":7}"#, "not as expected"),
        (r#"{"allowNonRestoredState":"perhaps"}"#, "not as expected"),
        (r#"{"claimMode":"LEGACY"}"#, "LEGACY is not supported: use NO_CLAIM or CLAIM"),
        (r#"{"restoreMode":"LEGACY"}"#, "LEGACY is not supported: use NO_CLAIM or CLAIM"),
        (r#"{"claimMode":"BORROW"}"#, "claimMode is NO_CLAIM or CLAIM, not \"BORROW\""),
        (
            r#"{"flinkConfiguration":{"execution.state-recovery.claim-mode":"LEGACY"}}"#,
            "LEGACY is not supported",
        ),
        (r#"{"parallelism":0}"#, "must be 1 to 32768"),
        (r#"{"parallelism":2147483647}"#, "must be 1 to 32768"),
        (r#"{"parallelism":-1}"#, "not as expected"),
        (r#"{"parallelism":1e999}"#, "not as expected"),
        (r#"{"jobId":"x"}"#, "Cannot resolve field of the body (jobId) from value"),
        (r#"{"flinkConfiguration":{"pipeline.max-parallelism":"40000"}}"#, "max-parallelism"),
        (
            r#"{"flinkConfiguration":{"pipeline.max-parallelism":"x"}}"#,
            "flinkConfiguration of the request: pipeline.max-parallelism",
        ),
        (r#"{"entryClass":"\ud800"}"#, "not as expected"),
        ("not json", "not as expected"),
        (deep.as_str(), "not as expected"),
    ] {
        let answer = world.send("POST", &run, &[], body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{}", &body[..body.len().min(80)]);
        let error = answer.error();
        assert!(error.contains(text), "{error}");
    }
    for (parts, status, text) in [
        (&[][..], 400, "no file"),
        (&[("a", "a", &b"1"[..]), ("b", "b", b"2")][..], 400, "exactly one file"),
        (&[("a", "a", &b""[..])][..], 400, "empty"),
        (&[("a", "a", &vec![0; 5 << 20][..])][..], 413, "larger than 4 mb"),
    ] {
        let answer = upload(&world, parts).await;
        assert_eq!(answer.status, status, "{text}");
        assert!(answer.error().contains(text), "{}", answer.error());
    }
    let kind = [("Content-Type", "multipart/form-data; boundary=XX")];
    let cut = b"--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a\"\r\n\r\nabc";
    assert_eq!(world.send("POST", "/jars/upload", &kind, cut).await.status, 400);
    for endless in ["", "--XX\r\n", "--XX\r\nContent-Disposition: form-data; name=\"a"] {
        let body = [endless.as_bytes(), &vec![b'x'; 3 << 20]].concat();
        assert_eq!(world.send("POST", "/jars/upload", &kind, &body).await.status, 400, "{endless}");
    }
    let parts = std::fs::read_dir(world.directory.path().join("artifacts")).unwrap();
    let left: Vec<_> = parts.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
}

const MULTIPART: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=XX");

fn file_part(name: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("--XX\r\nContent-Disposition: form-data; name=\"f\"; {name}\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    let head = "--XX\r\nContent-Disposition: form-data; name=\"request\"\r\n\
                content-type: text/plain; charset=UTF-8\r\n\r\n";
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

const END: &[u8] = b"--XX--\r\n";

#[tokio::test]
async fn parts_that_are_no_file_are_skipped_as_flinks_client_sends_them() {
    let world = World::start().await;
    let file = file_part("filename=\"job\"", b"program");
    for body in [
        [&field(b"{}"), &file, END].concat(),
        [&file, &field(b"{}"), END].concat(),
        [&field(b""), &field(&[b'x'; 500_000]), &file, &field(b""), END].concat(),
        [&file_part("filename=\"\"", b""), &file, END].concat(),
        [b"a preamble\r\n", file.as_slice(), END, b"an epilogue"].concat(),
    ] {
        let answer = world.send("POST", "/v1/jars/upload", &[MULTIPART], &body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{text} to {}", String::from_utf8_lossy(&body[..60]));
    }
    let refusals: [(Vec<u8>, &str); 5] = [
        ([&field(b"{}"), END].concat(), "no file in it"),
        ([&file_part("filename=\"\"", b"x"), END].concat(), "no file in it"),
        ([&file, &field(b"{}"), &file, END].concat(), "exactly one file"),
        ([&field(&vec![b'x'; 3 << 20]), &file, END].concat(), "not well-formed"),
        ([field(b"").repeat(20_000), file.clone(), END.to_vec()].concat(), "not well-formed"),
    ];
    for (body, text) in refusals {
        let answer = world.send("POST", "/jars/upload", &[MULTIPART], &body).await;
        assert_eq!(answer.status, 400, "{text}");
        assert!(answer.error().contains(text), "{}", answer.error());
    }
    let unended = [file.as_slice(), b"--XX\r\n"].concat();
    assert_eq!(world.send("POST", "/jars/upload", &[MULTIPART], &unended).await.status, 400);
}

#[tokio::test]
async fn file_names_are_only_ever_shown() {
    let world = World::start().await;
    for (name, shown) in [
        ("filename=job", "job"),
        ("filename=\"a b;c\"", "a b;c"),
        ("filename=\"a\\\"b\"", "a\"b"),
        ("filename=\"../../../etc/passwd\"", "../../../etc/passwd"),
        ("filename=\"C:\\temp\\x.exe\"", "C:\\temp\\x.exe"),
        ("filename=\"na\u{ef}ve \u{1f600}\"", "na\u{ef}ve \u{1f600}"),
        ("filename=\"<script>alert(1)</script>\"", "<script>alert(1)</script>"),
    ] {
        let body = [&file_part(name, b"program"), END].concat();
        let answer = world.send("POST", "/jars/upload", &[MULTIPART], &body).await;
        assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
        let list = world.get("/jars").await.json();
        let names: Vec<_> = list["files"].as_array().unwrap().iter().collect();
        assert!(names.iter().any(|file| file["name"] == shown), "{name}: {list}");
        let path = answer.json()["filename"].as_str().unwrap().to_owned();
        let place = std::path::Path::new(&path).parent().unwrap();
        assert_eq!(place, world.directory.path().join("jars"));
    }
}

/// Sends an upload of many megabytes in pieces, as a client that reads the answer at the end.
async fn large_upload(world: &World, path: &str, headers: &str, mib: usize) -> Response {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{headers}\
         Content-Type: multipart/form-data; boundary=XX\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut pieces = vec![file_part("filename=\"big\"", &[])];
    pieces.extend(std::iter::repeat_n(vec![b'x'; 1 << 20], mib));
    pieces.push(b"\r\n--XX--\r\n".to_vec());
    for piece in pieces {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.write_all(&piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Response::parse(&answer).unwrap()
}

/// A client that still writes when the connection closes sees a reset instead of the answer.
#[tokio::test]
async fn a_refused_upload_is_read_to_its_end_so_that_its_client_hears_why() {
    let world = World::start().await;
    assert_eq!(large_upload(&world, "/jars/upload", "", 30).await.status, 413);
    assert_eq!(large_upload(&world, "/nothing", "", 30).await.status, 404);
    assert_eq!(large_upload(&world, "/overview", "", 30).await.status, 405);
    assert_eq!(large_upload(&world, "/jobs", "", 30).await.status, 400);
    assert_eq!(large_upload(&world, "/jars/none/run", "", 30).await.status, 404);
    let evil = "Origin: http://evil.example\r\n";
    assert_eq!(large_upload(&world, "/jars/upload", evil, 30).await.status, 403);
    let off = [("web.submit.enable", "false")];
    let world = World::configured(&off, Default::default()).await;
    assert_eq!(large_upload(&world, "/jars/upload", "", 30).await.status, 403);
}

/// A client that asks first is refused before it sends the file.
#[tokio::test]
async fn a_client_that_waits_to_continue_is_refused_at_once() {
    let world = World::start().await;
    let head = "POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\
                Expect: 100-continue\r\n\r\n";
    let answer = world.raw(head.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn the_web_can_be_switched_off() {
    let off = [("web.submit.enable", "false"), ("web.cancel.enable", "false")];
    let world = World::configured(&off, Default::default()).await;
    let job = world.job(1).await;
    assert_eq!(upload(&world, &[("jarfile", "x", b"1")]).await.status, 403);
    assert_eq!(world.get("/jars").await.status, 403);
    assert_eq!(world.get(&format!("/jobs/{job}/yarn-cancel")).await.status, 403);
    assert_eq!(world.get(&format!("/jobs/{job}/yarn-stop")).await.status, 403);
    let features = &world.get("/config").await.json()["features"];
    assert_eq!(features["web-submit"], false);
}
