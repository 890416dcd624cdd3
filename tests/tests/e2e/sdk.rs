//! The clients in other languages, each by its own tests, against the built server.

use std::path::{Path, PathBuf};
use std::process::Command;

use codex_e2e::client::guarded;
use codex_e2e::{MessageCutter, Server};
use codex_exec_server::client::{Client, ClientOptions, Endpoint, ProcessEvent};
use codex_exec_server::protocol::process::{StartParams, Stream, WriteStatus};
use serde_json::json;

/// The websocket library that the Python client was tested with.
const WEBSOCKETS: &str = "websockets==17.4";

/// Runs a program; what it says when it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = || [output.stdout.as_slice(), &output.stderr].concat();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&said()))),
    }
}

/// In CI what a test needs can be installed; elsewhere it is left out, and that is said.
pub(crate) fn ready(prepared: Result<(), String>) -> bool {
    match prepared {
        Ok(()) => true,
        Err(why) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {why}");
            false
        }
        Err(why) => panic!("{why}"),
    }
}

fn sdk(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk").join(language)
}

#[test]
fn the_python_client_passes_its_tests() {
    let ground = tempfile::tempdir().unwrap();
    let venv = ground.path().join("venv");
    let python = venv.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WEBSOCKETS];
    let prepared = run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .and_then(|()| run(Command::new(&python).args(install)));
    if !ready(prepared) {
        return;
    }
    let mut tests = Command::new(&python);
    tests.arg("-B").arg(sdk("python").join("tests/test_sdk.py"));
    tests.env("PYTHONPATH", sdk("python")).env("CODEX_BINARY", codex_e2e::binary::codex());
    run(&mut tests).unwrap_or_else(|why| panic!("{why}"));
    cut_behind_every_message(|sockets| {
        let mut story = Command::new(&python);
        story.arg("-B").arg(sdk("python").join("stories/cuts.py")).arg(sockets);
        run(story.env("PYTHONPATH", sdk("python"))).unwrap_or_else(|why| panic!("{why}"));
    });
}

#[test]
fn the_typescript_client_passes_its_tests() {
    let ground = tempfile::tempdir().unwrap();
    // What is built lies beside a copy of the sources.
    let here = ground.path().join("typescript");
    let prepared = run(Command::new("cp").arg("-r").arg(sdk("typescript")).arg(&here)).and_then(|()| {
        run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&here))
    });
    if !ready(prepared) {
        return;
    }
    run(Command::new("npx").args(["--no-install", "tsc"]).current_dir(&here))
        .unwrap_or_else(|why| panic!("{why}"));
    let mut tests = Command::new("node");
    tests.args(["--test", "tests/"]).current_dir(&here).env("CODEX_BINARY", codex_e2e::binary::codex());
    run(&mut tests).unwrap_or_else(|why| panic!("{why}"));
    cut_behind_every_message(|sockets| {
        let mut story = Command::new("node");
        story.arg("stories/cuts.mjs").arg(sockets).current_dir(&here);
        run(&mut story).unwrap_or_else(|why| panic!("{why}"));
    });
}

/// More messages than the story of the clients has; how many those are depends on how its output comes.
const MESSAGES: usize = 70;

/// Has a client tell its story once for each message of it, over a connection that is cut there.
fn cut_behind_every_message(stories: impl FnOnce(&Path)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ground = tempfile::tempdir().unwrap();
    let socket = ground.path().join("socket");
    let _server = runtime.block_on(Server::builder().listen(format!("unix://{}", socket.display())).start());
    let entered = runtime.enter();
    let cutter = MessageCutter::start(&socket, MESSAGES);
    drop(entered);
    stories(cutter.directory());
    // Each message had its cut, the last one too; output that comes in one piece makes them as few as that.
    let last = cutter.last_cut();
    assert!((12..MESSAGES).contains(&last), "the last cut was behind message {last}");
}

/// The same story as those of the other clients: 0 lost, 0 doubled, 0 false ends.
#[test]
fn the_rust_client_loses_nothing_whichever_message_is_the_last() {
    cut_behind_every_message(|sockets| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for number in 1..=MESSAGES {
            runtime.block_on(guarded("the story", story(sockets.join(number.to_string()))));
        }
    });
}

const PROGRAM: &str = "i=0; while [ $i -lt 20 ]; do echo line $i; sleep 0.005; i=$((i+1)); done; echo err >&2; read a; echo got $a; exit 5";

async fn story(socket: PathBuf) {
    let what = socket.display().to_string();
    let connect =
        || Client::connect(Endpoint::Unix { path: socket.clone(), bearer: None }, ClientOptions::default());
    // A connection that is lost in the handshake, and a start whose answer was lost, are said to be: the second connection
    // is not cut.
    let client = match connect().await {
        Ok(client) => client,
        Err(_) => connect().await.unwrap(),
    };
    let start = |id: &str| {
        let params = json!({"processId": id, "argv": ["/bin/sh", "-c", PROGRAM], "cwd": "/", "env": {}, "tty": false, "pipeStdin": true});
        serde_json::from_value::<StartParams>(params).unwrap()
    };
    let mut process = match client.start(start("p")).await {
        Ok(process) => process,
        Err(_) => client.start(start("q")).await.unwrap(),
    };
    assert_eq!(process.control().write(b"it\n".to_vec()).await.unwrap(), WriteStatus::Accepted, "{what}");
    let (mut out, mut err, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(event) = process.next().await {
        match event {
            ProcessEvent::Output { stream: Stream::Stderr, bytes } => err.extend(bytes),
            ProcessEvent::Output { bytes, .. } => out.extend(bytes),
            ProcessEvent::Exited { code, .. } => ends.push(code),
            ProcessEvent::Closed => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    let lines: String = (0..20).map(|line| format!("line {line}\n")).collect();
    assert_eq!(String::from_utf8(out).unwrap(), lines + "got it\n", "{what}");
    assert_eq!((String::from_utf8(err).unwrap().as_str(), ends), ("err\n", vec![5]), "{what}");
    client.close().await;
}

/// What a client's sources call, and what they take for notifications, are words of the protocol.
#[test]
fn the_clients_use_words_of_the_schema() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(page).unwrap()).unwrap();
    let mut found = 0;
    for folder in [sdk("python").join("codex_exec"), sdk("typescript").join("src")] {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (at, _) in text.match_indices('"') {
                let rest = &text[at + 1..];
                let word = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(0)];
                let families = ["process/", "fs/", "http/", "session/", "environment/"];
                if families.iter().any(|family| word.starts_with(family)) {
                    let is_known =
                        ["methods", "notifications"].iter().any(|list| schema[list][word].is_object());
                    assert!(is_known, "{}: {word}", path.display());
                    found += 1;
                }
            }
        }
    }
    assert!(found > 40, "only {found} were found: does this test still see them?");
}
