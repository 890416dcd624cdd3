//! Output that is kept on disk (`docs/extensions.md`): read from the first byte, also after everything else ended.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use codex_e2e::client::start_params;
use codex_e2e::{Server, ServerBuilder, TestClient, bytes_of};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What prints numbered lines, far more than memory retains.
const MANY_LINES: &str = "seq 1 400000";

/// How often something is looked at that nobody tells.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// A server that keeps its logs here.
    fn server(&self) -> ServerBuilder {
        Server::builder().args(["-c".to_owned(), format!("exec_server.state_dir={:?}", self.path())])
    }
}

/// Starts a shell's script with a log on disk; the log's id.
async fn start(client: &mut TestClient, id: &str, script: &str) -> String {
    let params = start_params(id, ["/bin/sh", "-c", script], json!({"log": "disk"}));
    let started = client.ok("process/start", params).await;
    started["logId"].as_str().unwrap_or_else(|| panic!("no log: {started}")).to_owned()
}

/// All output of a log, page by page, with the last answer.
async fn read_log(client: &mut TestClient, log: &str, max_bytes: u64) -> (Vec<u8>, Value) {
    let (mut output, mut after) = (Vec::new(), 0);
    loop {
        let params = json!({"processId": "", "logId": log, "afterSeq": after, "maxBytes": max_bytes, "waitMs": 20_000});
        let read = client.ok("process/read", params).await;
        let chunks = read["chunks"].as_array().unwrap();
        chunks.iter().for_each(|chunk| output.extend(bytes_of(&chunk["chunk"])));
        after = read["nextSeq"].as_u64().unwrap() - 1;
        if chunks.is_empty() && read["closed"] == true {
            return (output, read);
        }
    }
}

fn lines(last: u64) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[tokio::test]
async fn every_byte_is_there_after_the_program_and_the_session_and_the_server() {
    let place = Place::new();
    let mut server = place.server().start().await;
    let mut client = server.client().await;
    assert_eq!(client.ok("environment/info", Value::Null).await["capabilities"]["diskLogs"], true);
    let log = start(&mut client, "p", MANY_LINES).await;
    client.ok("process/wait", json!({"processId": "p"})).await;
    let (output, end) = read_log(&mut client, &log, 1 << 20).await;
    assert!(output == lines(400_000), "{} bytes", output.len());
    assert_eq!((&end["exitCode"], &end["failure"], &end["lostBytes"]), (&json!(0), &Value::Null, &json!(0)));
    // The session, and with it the process.
    client.ok("session/end", Value::Null).await;
    let mut other = server.client().await;
    assert!(read_log(&mut other, &log, 300_000).await.0 == output);
    server.stop().await;
    let server = place.server().start().await;
    let mut client = server.client().await;
    let (again, end) = read_log(&mut client, &log, 1 << 20).await;
    assert!(again == output, "{} bytes of {}", again.len(), output.len());
    assert_eq!((&end["exited"], &end["exitCode"]), (&json!(true), &json!(0)));
    assert_eq!(end["totals"]["stdout"], output.len());
    let listed = client.ok("process/listLogs", json!({})).await;
    let [listed_log] = &listed["logs"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&listed_log["logId"], &listed_log["processId"]), (&json!(log), &json!("p")));
    assert_eq!(listed_log["outputBytes"], output.len());
    assert!(listed_log["startedMs"].as_u64() <= listed_log["endedMs"].as_u64());
}

#[tokio::test]
async fn a_read_by_process_finds_on_disk_what_memory_has_lost() {
    let place = Place::new();
    let server = place.server().limit("retained_output_bytes", 4096).start().await;
    let mut client = server.client().await;
    let log = start(&mut client, "p", "seq 1 50000; exec sleep 1000").await;
    let expected = lines(50_000);
    let (mut output, mut after) = (Vec::new(), 0);
    while output.len() < expected.len() {
        let params = json!({"processId": "p", "afterSeq": after, "maxBytes": 3000, "waitMs": 20_000});
        let read = client.ok("process/read", params).await;
        assert_eq!(read["lostBytes"], 0, "{read}");
        for chunk in read["chunks"].as_array().unwrap() {
            output.extend(bytes_of(&chunk["chunk"]));
        }
        after = read["nextSeq"].as_u64().unwrap() - 1;
    }
    assert!(output == expected);
    // By offset, of what is on disk only and of what is in memory.
    for offset in [0, 7, 50_000, expected.len() - 5] {
        let read =
            client.ok("process/read", json!({"processId": "p", "fromOffset": offset, "maxBytes": 1})).await;
        let bytes = bytes_of(&read["chunks"][0]["chunk"]);
        assert!(expected[offset..].starts_with(&bytes) && !bytes.is_empty(), "{offset}: {read}");
        assert_eq!(read["nextOffset"], offset + bytes.len());
    }
    let listed = client.ok("process/list", json!({})).await;
    assert_eq!(listed["processes"][0]["logId"], log);
}

#[tokio::test]
async fn a_log_in_memory_is_read_by_offset_too() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.run("p", "printf hello; printf ' world'").await;
    for (offset, expected) in [(0, "hello world"), (3, "lo world"), (7, "orld"), (11, ""), (99, "")] {
        let read = client.ok("process/read", json!({"processId": "p", "fromOffset": offset})).await;
        let chunks = read["chunks"].as_array().unwrap();
        let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| bytes_of(&chunk["chunk"])).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{offset}");
        assert_eq!(read["nextOffset"], 11);
    }
    let read = client.ok("process/read", json!({"processId": "p"})).await;
    assert_eq!(read.get("nextOffset"), None, "released clients get what they always got");
}

#[tokio::test]
async fn a_program_that_died_with_its_server_has_no_exit_code() {
    let place = Place::new();
    let mut server = place.server().alone().start().await;
    let mut client = server.client().await;
    let log = start(&mut client, "p", "echo begun; exec sleep 1000").await;
    client.ok("process/read", json!({"processId": "p", "waitMs": 20_000})).await;
    client.ok("process/read", json!({"processId": "", "logId": log, "waitMs": 20_000})).await;
    server.signal(Signal::KILL);
    server.ended().await;
    let server = place.server().start().await;
    let mut client = server.client().await;
    let (output, end) = read_log(&mut client, &log, 1000).await;
    assert_eq!(output, b"begun\n");
    assert_eq!(
        (&end["exited"], &end["closed"], &end["exitCode"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(end["failure"].as_str().unwrap().contains("server died"), "{end}");
    let listed = client.ok("process/listLogs", json!({})).await;
    assert_eq!(listed["logs"][0]["exitCode"], Value::Null);
    assert_eq!(listed["logs"][0]["failure"], end["failure"]);
}

#[tokio::test]
async fn logs_are_listed_in_pages_and_go_when_all_are_too_much() {
    let place = Place::new();
    let server =
        place.server().limit("all_log_bytes", 1 << 20).limit("log_segment_bytes", 64 << 10).start().await;
    let mut client = server.client().await;
    for number in 0..5 {
        start(&mut client, &format!("p{number}"), &format!("echo {number}")).await;
        client.ok("process/wait", json!({"processId": format!("p{number}")})).await;
    }
    let running = start(&mut client, "runs", "head -c 200000 /dev/zero; exec sleep 1000").await;
    let ended = |list: &Value| {
        let logs = list["logs"].as_array().unwrap();
        logs.iter().filter(|log| !log["endedMs"].is_null()).count()
    };
    // The ends are written a moment after they are told.
    let first = loop {
        let all = client.ok("process/listLogs", json!({})).await;
        if ended(&all) == 5 {
            break client.ok("process/listLogs", json!({"limit": 3})).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    assert_eq!(first["logs"][0]["logId"], running);
    let names = |list: &Value| -> Vec<String> {
        let logs = list["logs"].as_array().unwrap();
        logs.iter().map(|log| log["processId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first), ["runs", "p4", "p3"]);
    let second = client.ok("process/listLogs", json!({"limit": 3, "before": first["next"]})).await;
    assert_eq!(names(&second), ["p2", "p1", "p0"]);
    assert_eq!(second["next"], Value::Null);
    // One that takes more than all may: what ended goes first, then its own beginning.
    let large = start(&mut client, "large", "head -c 4000000 /dev/zero").await;
    client.ok("process/wait", json!({"processId": "large"})).await;
    loop {
        let list = client.ok("process/listLogs", json!({})).await;
        if names(&list) == ["runs"] || names(&list) == ["runs", "large"] {
            break;
        }
    }
    assert_eq!(
        client.refused("process/read", json!({"processId": "", "logId": "0".repeat(32)})).await,
        -32600
    );
    assert_eq!(client.refused("process/read", json!({"processId": "", "logId": "../open"})).await, -32600);
    drop(large);
}

#[tokio::test]
async fn only_the_user_may_read_what_is_kept() {
    let place = Place::new();
    let server = place.server().start().await;
    let mut client = server.client().await;
    start(&mut client, "p", "echo secret; exec sleep 1000").await;
    client.ok("process/read", json!({"processId": "p", "waitMs": 20_000})).await;
    let mut waiting = vec![place.path()];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 2, "{files} files");
}

#[tokio::test]
async fn a_place_that_is_a_link_or_can_not_be_made_fails_the_start_with_a_sentence() {
    let place = Place::new();
    let elsewhere = place.0.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.path()).unwrap();
    let server = place.server().start().await;
    let mut client = server.client().await;
    let (code, message) = client.call("process/start", disk_start()).await.unwrap_err();
    assert_eq!(code, -32603);
    assert!(message.contains("can't be kept on disk") && message.contains("state"), "{message}");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    // The id is free, and the place can be mended without a restart.
    std::fs::remove_file(place.path()).unwrap();
    client.ok("process/start", disk_start()).await;
}

fn disk_start() -> Value {
    json!({"processId": "p", "argv": ["true"], "cwd": "file:///", "env": {}, "tty": false, "log": "disk"})
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_log() {
    let place = Place::new();
    let server = place.server().start().await;
    let mut client = server.client().await;
    let mut params = disk_start();
    params["argv"] = json!(["/no/such/program"]);
    client.refused("process/start", params.clone()).await;
    params["log"] = json!("tape");
    assert_eq!(client.refused("process/start", params).await, -32602);
    assert_eq!(client.ok("process/listLogs", json!({})).await["logs"], json!([]));
    assert_eq!(names(&place.path().join("open")), 0);
}

fn names(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[tokio::test]
async fn a_full_disk_ends_the_log_and_not_the_program() {
    let place = Place::new();
    // No file may become larger: what a full disk says, and no other program notices.
    let full = ["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=300000"];
    let server = place.server().under(full).start().await;
    let mut client = server.client().await;
    let log = start(&mut client, "p", "seq 1 300000; exit 3").await;
    let ended = client.finish("p").await;
    assert_eq!(ended.code(), 3);
    let expected = lines(300_000);
    assert!(ended.bytes("stdout") == expected, "the client that follows gets every byte");
    let (output, end) = read_log(&mut client, &log, 1 << 20).await;
    assert!(expected.starts_with(&output) && output.len() > 100_000, "{} bytes", output.len());
    assert_eq!(end["exitCode"], 3);
    let read = client.ok("process/read", json!({"processId": "", "logId": log, "fromOffset": 0})).await;
    assert_eq!(read["lostBytes"], expected.len() - output.len());
    assert!(server.told().contains("not kept on disk from here on"), "{}", server.told());
}
