//! The audit file (`docs/audit.md`): a line for each act, with the right words, and without a secret.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_e2e::client::start_params;
use codex_e2e::secrets::assert_none;
use codex_e2e::{Server, ServerBuilder, TestClient, base64, machine, secret};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// How often the file is looked at, of which nobody tells.
const LOOK_EVERY: Duration = Duration::from_millis(10);

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.at("audit.jsonl")
    }

    fn server(&self) -> ServerBuilder {
        Server::builder().args(["--audit".into(), self.file()])
    }

    /// The lines, once there are so many.
    async fn lines(&self, least: usize) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + codex_e2e::GUARD;
        loop {
            let lines = lines(&self.file());
            if lines.len() >= least {
                return lines;
            }
            assert!(tokio::time::Instant::now() < deadline, "{least} lines never came: {lines:#?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be under way.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// As `printf '%s\0' … | sha256sum` has it.
fn args_hash(args: &[&str]) -> String {
    let text: String = args.iter().map(|arg| format!("{arg}\0")).collect();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of<'l>(lines: &'l [Value], method: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["method"] == method).collect()
}

/// What is done 50 times in all, with secrets wherever a client can put one.
async fn fifty_acts(client: &mut TestClient, place: &Place) {
    client.ok("initialize", json!({"clientName": "auditor"})).await;
    client.notify("initialized", json!({})).await;
    let script = concat!("cat >/dev/null; : ", secret!("argument"));
    for number in 0..10 {
        let more = json!({"env": {"TOKEN": secret!("variable")}, "pipeStdin": true, "cwd": "/tmp"});
        let params = start_params(&format!("p{number}"), ["/bin/sh", "-c", script], more);
        client.ok("process/start", params).await;
        let chunk = base64(secret!("input"));
        client.ok("process/write", json!({"processId": format!("p{number}"), "chunk": chunk})).await;
        client.ok("process/terminate", json!({"processId": format!("p{number}")})).await;
        // What goes on with a start is no act of its own.
        client.ok("process/wait", json!({"processId": format!("p{number}")})).await;
        client.ok("process/read", json!({"processId": format!("p{number}")})).await;
        client.ok("environment/status", json!({})).await;
    }
    for number in 0..5 {
        let path = place.at(&format!("file {number}"));
        let data = base64(secret!("content"));
        client.ok("fs/writeFile", json!({"path": path, "dataBase64": data})).await;
        client.ok("fs/readFile", json!({"path": path})).await;
        client.ok("fs/remove", json!({"path": path})).await;
    }
    let url =
        concat!("http://user:", secret!("user"), "@127.0.0.1:9/", secret!("path"), "?k=", secret!("query"));
    let header = json!([{"name": "x-token", "value": secret!("header")}]);
    let http = json!({"requestId": "h", "method": "GET", "url": url, "headers": header, "timeoutMs": 20_000});
    client.refused("http/request", http).await;
    client.refused("made/up", json!({"token": secret!("unknown")})).await;
    client.refused("process/start", start_params("none", ["/no/such/program"], json!({}))).await;
    client.refused("process/start", json!({"processId": 5, "argv": ["/bin/true", secret!("wrong")]})).await;
}

#[tokio::test]
async fn fifty_acts_are_fifty_lines_with_the_right_words_and_no_secret() {
    let place = Place::new();
    let mut server = place.server().start().await;
    let mut client = server.connect().await;
    fifty_acts(&mut client, &place).await;
    drop(client);
    server.stop().await;
    let text = std::fs::read(place.file()).unwrap();
    assert_none("the audit file", &text);
    let lines = lines(&place.file());
    assert_eq!(lines.len(), 50, "{lines:#?}");
    assert_eq!(std::fs::metadata(place.file()).unwrap().mode() & 0o7777, 0o600);
    let session = lines[0]["session"].as_str().expect("a session");
    for line in &lines {
        assert_eq!((&line["event"], &line["client"]), (&json!("request"), &json!("auditor")), "{line}");
        assert_eq!((line["session"].as_str(), &line["connection"]), (Some(session), &json!(0)), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("tcp:127.0.0.1:"), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["milliseconds"].is_number(), "{line}");
        assert!(line["request_bytes"].as_u64().unwrap() > 20, "{line}");
        assert!(line["answer_bytes"].as_u64().unwrap() > 10, "{line}");
    }
    let script = concat!("cat >/dev/null; : ", secret!("argument"));
    let starts = of(&lines, "process/start");
    assert_eq!(starts.len(), 12);
    // A line is written when its act is over, which is no order between acts that go on beside each other.
    let start = |member: &str, value: Value| {
        *starts
            .iter()
            .find(|line| line[member] == value)
            .unwrap_or_else(|| panic!("{member} {value}: {starts:#?}"))
    };
    for number in 0..10 {
        let line = start("process", json!(format!("p{number}")));
        let expected = json!({
            "process": format!("p{number}"), "program": "/bin/sh", "args": 2, "args_sha256": args_hash(&["-c", script]),
            "directory": "/tmp", "decision": "allowed", "result": "success",
        });
        for (member, value) in expected.as_object().unwrap() {
            assert_eq!(&line[member], value, "{member} of {line}");
        }
    }
    let missing = start("program", json!("/no/such/program"));
    assert_eq!((&missing["decision"], &missing["error_code"]), (&json!("allowed"), &json!(-32603)));
    assert_eq!(start("error_code", json!(-32602))["decision"], "refused");
    for (method, count) in
        [("initialize", 1), ("process/write", 10), ("process/terminate", 10), ("fs/remove", 5)]
    {
        assert_eq!(of(&lines, method).len(), count, "{method}");
    }
    for (number, line) in of(&lines, "fs/writeFile").iter().enumerate() {
        assert_eq!(line["path"], json!(place.at(&format!("file {number}"))), "{line}");
    }
    assert_eq!(of(&lines, "http/request")[0]["target"], "http://127.0.0.1:9");
    let unknown = of(&lines, "made/up")[0];
    assert_eq!((&unknown["decision"], &unknown["error_code"]), (&json!("refused"), &json!(-32601)));
}

#[tokio::test]
async fn who_asks_is_told_by_the_carrier_and_who_is_refused_as_well() {
    let place = Place::new();
    std::fs::write(place.at("token"), secret!("of the door")).unwrap();
    let socket = place.at("socket");
    let server = place
        .server()
        .listen(format!("unix://{}", socket.display()))
        .args(["--ws-auth", "capability-token", "--ws-token-file"])
        .args([place.at("token")])
        .start()
        .await;
    let wrong = [("authorization", concat!("Bearer ", secret!("guess")))];
    assert_eq!(TestClient::try_unix_socket(&socket, &wrong).await.err(), Some(401));
    let right = [("authorization", concat!("Bearer ", secret!("of the door")))];
    let mut client = TestClient::try_unix_socket(&socket, &right).await.unwrap();
    client.handshake().await;
    let lines = place.lines(2).await;
    let peer = format!("unix:uid={},pid={}", rustix::process::getuid().as_raw(), std::process::id());
    assert_eq!((&lines[0]["event"], &lines[0]["decision"]), (&json!("connection"), &json!("refused")));
    assert_eq!(lines[0]["reason"], "invalid websocket bearer token");
    assert_eq!((&lines[1]["method"], &lines[1]["token"]), (&json!("initialize"), &json!("capability-token")));
    for line in &lines {
        // In a PID namespace of its own the test has another number than outside.
        let told = line["peer"].as_str().unwrap();
        assert!(told == peer || told.starts_with(peer.split(',').next().unwrap()), "{told}, not {peer}");
    }
    drop(server);
    assert_none("the audit file", &std::fs::read(place.file()).unwrap());
}

#[tokio::test]
async fn an_act_that_its_connection_does_not_outlive_is_recorded_as_one_without_answer() {
    let place = Place::new();
    let server = place.server().start().await;
    let mut owner = server.client().await;
    owner.start("sleeper", ["/bin/sleep", "60"]).await;
    let mut visitor = server.client().await;
    let wait = json!({"processId": "sleeper", "sessionId": owner.session_id});
    visitor.send("process/wait", wait).await;
    // It has begun once a later request is answered.
    visitor.ok("environment/info", json!({})).await;
    drop(visitor);
    let lines = place.lines(5).await;
    let wait = of(&lines, "process/wait")[0];
    assert_eq!((&wait["result"], &wait["of_session"]), (&json!("disconnected"), &json!(owner.session_id)));
}

#[tokio::test]
async fn a_file_that_can_not_be_used_keeps_the_server_from_starting() {
    let place = Place::new();
    std::fs::write(place.at("target"), "").unwrap();
    symlink(place.at("target"), place.file()).unwrap();
    let refused = place.server().refused().await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("a symbolic link"), "{refused:?}");
    assert_eq!(refused.stdout, "");
    let alone = Server::builder().args(["--audit-required"]).refused().await;
    assert_eq!(alone.code, Some(2), "{alone:?}");
}

/// A directory in the place of the file keeps it from being written, also for root: as a full disk does.
fn block(place: &Place) {
    std::fs::remove_file(place.file()).unwrap();
    std::fs::create_dir(place.file()).unwrap();
}

#[tokio::test]
async fn while_the_file_can_not_be_written_the_server_goes_on_and_counts() {
    let place = Place::new();
    let server = place.server().limit("audit_records", 8).start().await;
    let mut client = server.client().await;
    place.lines(1).await;
    block(&place);
    for _ in 0..20 {
        client.ok("environment/info", json!({})).await;
    }
    std::fs::remove_dir(place.file()).unwrap();
    let lines = place.lines(9).await;
    assert_eq!((&lines[8]["event"], &lines[8]["lost"]), (&json!("gap"), &json!(12)), "{lines:#?}");
    client.ok("environment/info", json!({})).await;
    assert_eq!(place.lines(10).await[9]["method"], "environment/info");
    machine::eventually("the log tells", || server.told().contains("can't write the audit file")).await;
}

#[tokio::test]
async fn where_records_are_required_nothing_is_done_without_one() {
    let place = Place::new();
    let config = "exec_server.audit_required=true";
    let server = place.server().args(["-c", config]).limit("audit_records", 4).start().await;
    let mut client = server.client().await;
    place.lines(1).await;
    block(&place);
    let path = place.at("made");
    for _ in 0..4 {
        client.ok("environment/info", json!({})).await;
    }
    let (code, text) =
        client.call("fs/writeFile", json!({"path": path, "dataBase64": ""})).await.unwrap_err();
    assert!(code == -32603 && text.contains("audit"), "{code} {text}");
    assert!(!path.exists(), "it was not done");
    std::fs::remove_dir(place.file()).unwrap();
    place.lines(4).await;
    client.ok("fs/writeFile", json!({"path": path, "dataBase64": ""})).await;
    assert!(path.exists());
}

#[tokio::test]
async fn the_file_rotates_and_a_configuration_may_name_it() {
    let place = Place::new();
    let file = format!("exec_server.audit={:?}", place.file());
    let server = Server::builder()
        .args(["-c".to_owned(), file])
        .limit("audit_file_bytes", 4096)
        .limit("audit_old_files", 2)
        .start()
        .await;
    let mut client = server.client().await;
    for _ in 0..100 {
        client.ok("environment/info", json!({})).await;
    }
    drop((client, server));
    let mut found: Vec<_> =
        std::fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    for name in found {
        assert!(std::fs::metadata(place.0.path().join(&name)).unwrap().len() <= 4096);
        assert!(!lines(&place.0.path().join(name)).is_empty());
    }
}
