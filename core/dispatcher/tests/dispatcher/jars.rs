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

async fn uploaded(world: &World) -> String {
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
    assert_eq!(asked[0].1.max_parallelism.get(), 64);
    let entries: Vec<_> = asked.iter().map(|(_, settings)| settings.entry.as_deref()).collect();
    assert_eq!(entries, [Some("main"), Some("other"), None]);
    assert_eq!(std::fs::read(&asked[0].0).unwrap(), b"program");
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
        (r#"{"savepointPath":"hdfs:///x"}"#, "savepoint"),
        (r#"{"parallelism":0}"#, "must be 1 to 32768"),
        (r#"{"parallelism":2147483647}"#, "must be 1 to 32768"),
        (r#"{"parallelism":-1}"#, "not as expected"),
        (r#"{"parallelism":1e999}"#, "not as expected"),
        (r#"{"jobId":"x"}"#, "jobId"),
        (r#"{"flinkConfiguration":{"pipeline.max-parallelism":"40000"}}"#, "max-parallelism"),
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

#[tokio::test]
async fn the_web_can_be_switched_off() {
    let off = [("web.submit.enable", "false"), ("web.cancel.enable", "false")];
    let world = World::configured(&off, Default::default()).await;
    let job = world.job(1).await;
    assert_eq!(upload(&world, &[("jarfile", "x", b"1")]).await.status, 403);
    assert_eq!(world.get("/jars").await.status, 403);
    assert_eq!(world.get(&format!("/jobs/{job}/yarn-cancel")).await.status, 403);
    let features = &world.get("/config").await.json()["features"];
    assert_eq!(features["web-submit"], false);
}
