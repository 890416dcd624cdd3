//! The three capabilities, tested once against their traits and run on every way to reach them.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::info::{MachineFacts, describe};
use super::*;
use crate::Limits;
use crate::client::{Client, ClientOptions, Dial, Endpoint, EnvironmentError, Environments};
use crate::process::{Groups, LaunchContext, Leftovers, LoginStates};
use crate::protocol::{Base64Bytes, ErrorCode};
use crate::sandbox::{Confiner, NamespaceUse, launcher};
use crate::server::Server;
use crate::transport::{Auth, ListenAddress, Listener, memory};

/// An environment, and what has to live as long.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) environment: Environment,
    pub(crate) _server: Option<Stop>,
}

pub(crate) struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// This test's own binary as a launcher, before its `main` would run tests.
#[allow(clippy::disallowed_methods)]
extern "C" fn launch() {
    if launcher::is_launcher(std::env::args_os().next().as_deref()) {
        std::process::exit(launcher::run().into());
    }
}

#[used]
#[allow(unsafe_code)]
// SAFETY: glibc calls what is in this section, in a process of one thread, with its own state set up.
#[unsafe(link_section = ".init_array")]
static LAUNCH: extern "C" fn() = launch;

fn config() -> LocalConfig {
    let facts = MachineFacts {
        cwd: "/".into(),
        home: None,
        shell: Some("/bin/sh".into()),
        temp_dir: None,
        temporary_directories: Vec::new(),
        prepend_path_dirs: Vec::new(),
        version: "0".into(),
    };
    let host = LaunchContext {
        environment: vec![("GREETING".into(), "hello".into())],
        login_shell: None,
        confiner: Some(Arc::new(Confiner::new(
            "/proc/self/exe".into(),
            Default::default(),
            NamespaceUse::Any,
        ))),
        groups: Groups::default(),
        transparent_tcp: false,
        login_states: LoginStates::default(),
        upstream: Default::default(),
        logs: Default::default(),
        survival: Default::default(),
        figures: None,
    };
    LocalConfig {
        limits: Limits::default(),
        host,
        info: describe(facts),
        leftovers: Leftovers::Kill,
        configuration: None,
    }
}

fn server() -> std::sync::Arc<Server> {
    Server::new(config())
}

async fn remote(name: &'static str, endpoint: Endpoint, serving: AbortHandle) -> Way {
    let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    Way { name, environment: Environment::remote(client), _server: Some(Stop(serving)) }
}

/// A server that listens on a websocket; its address, and the task that serves.
fn listening() -> (String, AbortHandle) {
    let (server, address) = (server(), ListenAddress::parse("ws://127.0.0.1:0").unwrap());
    let mut listener = Listener::bind(&address, Auth::open(), server.limits()).unwrap();
    let url = listener.local_address();
    let serving = tokio::spawn(async move {
        while let Ok(pending) = listener.accept().await {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move {
                if let Some(carrier) = pending.handshake().await {
                    server.serve(carrier).await;
                }
            });
        }
    });
    (url, serving.abort_handle())
}

pub(crate) async fn ways() -> [Way; 3] {
    let straight = Way { name: "straight", environment: Environment::local(config()), _server: None };
    let (carrier, stream) = memory::pair();
    let server = server();
    let serving = tokio::spawn(async move { server.serve(carrier).await }).abort_handle();
    let inside = remote("in-process", Endpoint::Stream(stream), serving).await;
    let (url, serving) = listening();
    [straight, inside, remote("websocket", Endpoint::WebSocket { url, bearer: None }, serving).await]
}

pub(crate) fn params<P: DeserializeOwned>(params: Value) -> P {
    serde_json::from_value(params).unwrap()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> i64 {
    match outcome {
        Err(CallError::Rpc(error)) => {
            assert!(!error.message.is_empty(), "a refusal needs a sentence");
            error.code.0
        }
        other => panic!("no refusal: {other:?}"),
    }
}

pub(crate) fn start(id: &str, argv: &[&str], more: Value) -> Value {
    let mut all = json!({"processId": id, "argv": argv, "cwd": "/", "env": {}, "tty": false});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Reads a process's output to its close.
async fn output_of(programs: &dyn Processes, id: &str) -> String {
    let (mut after, mut text) = (0, Vec::new());
    loop {
        let read = programs
            .read(params(json!({"processId": id, "afterSeq": after, "waitMs": 60_000})))
            .await
            .unwrap();
        read.chunks.iter().for_each(|chunk| text.extend_from_slice(&chunk.chunk.0));
        after = read.next_seq.previous().0;
        if read.closed {
            return String::from_utf8(text).unwrap();
        }
    }
}

#[tokio::test]
async fn programs_run_alike_on_every_way() {
    for Way { name, environment, _server } in ways().await {
        let programs = &*environment.processes;
        let policy = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {}, "includeOnly": []});
        let argv = ["sh", "-c", "read word; echo $GREETING $word; exit 3"];
        let asked = start("p", &argv, json!({"pipeStdin": true, "envPolicy": policy}));
        let started = programs.start(params(asked.clone())).await.unwrap();
        assert_eq!(
            (started.process_id.as_str(), started.sandbox_type.as_deref()),
            ("p", Some("none")),
            "{name}"
        );
        assert_eq!(code(programs.start(params(asked)).await), ErrorCode::INVALID_REQUEST.0, "{name}");
        let write = json!({"processId": "p", "chunk": "d29ybGQK", "writeId": "1"});
        programs.write(params(write)).await.unwrap();
        programs.close_stdin(params(json!({"processId": "p"}))).await.unwrap();
        assert_eq!(output_of(programs, "p").await, "hello world\n", "{name}");
        let end = programs.wait(params(json!({"processId": "p"}))).await.unwrap();
        assert_eq!((end.exited, end.exit_code), (true, Some(3)), "{name}");

        let tty = start(
            "t",
            &["sh", "-c", "trap 'stty size; exit' USR1; echo on; while :; do sleep 0.02; done"],
            json!({"tty": true}),
        );
        programs.start(params(tty)).await.unwrap();
        programs.read(params(json!({"processId": "t", "waitMs": 60_000}))).await.unwrap();
        programs.resize(params(json!({"processId": "t", "rows": 33, "cols": 44}))).await.unwrap();
        programs.signal(params(json!({"processId": "t", "signal": "user1"}))).await.unwrap();
        // The signal reaches the whole group, and the shell may tell of its sleep.
        let said = output_of(programs, "t").await;
        assert!(said.starts_with("on\r\n") && said.ends_with("33 44\r\n"), "{name}: {said:?}");

        programs.start(params(start("s", &["sleep", "1000"], json!({})))).await.unwrap();
        assert!(programs.terminate(params(json!({"processId": "s"}))).await.unwrap().running, "{name}");
        let end = programs.wait(params(json!({"processId": "s"}))).await.unwrap();
        assert_eq!(end.exit.unwrap().signal, Some(9), "{name}");
        let listed = programs.list(params(json!({}))).await.unwrap().processes;
        let ids: Vec<_> = listed.iter().map(|process| process.process_id.as_str()).collect();
        assert_eq!(ids, ["p", "t", "s"], "{name}");
    }
}

#[tokio::test]
async fn what_programs_refuse_is_refused_alike_on_every_way() {
    for Way { name, environment, _server } in ways().await {
        let programs = &*environment.processes;
        for (asked, expected) in [
            (start("a", &[], json!({})), ErrorCode::INVALID_PARAMS),
            (start("a", &["/no/such"], json!({})), ErrorCode::INTERNAL),
            (start("a", &["true"], json!({"cwd": "/no/such"})), ErrorCode::INTERNAL),
            (start("a", &["true"], json!({"rows": 0})), ErrorCode::INVALID_PARAMS),
        ] {
            assert_eq!(code(programs.start(params(asked.clone())).await), expected.0, "{name}: {asked}");
        }
        let nobody = json!({"processId": "nobody"});
        assert_eq!(code(programs.read(params(nobody.clone())).await), -32600, "{name}");
        assert_eq!(code(programs.wait(params(nobody.clone())).await), -32600, "{name}");
        assert_eq!(code(programs.close_stdin(params(nobody.clone())).await), -32600, "{name}");
        assert!(!programs.terminate(params(nobody)).await.unwrap().running, "{name}");
        let empty = json!({"processId": "nobody", "chunk": "", "writeId": ""});
        assert_eq!(code(programs.write(params(empty)).await), -32602, "{name}");
        let size = json!({"processId": "nobody", "rows": 0, "cols": 1});
        assert_eq!(code(programs.resize(params(size)).await), -32602, "{name}");
    }
}

async fn exercise_files(name: &str, files: &dyn Files, root: &Path) {
    let at = |name: &str| json!(root.join(name));
    let with = |name: &str, more: Value| {
        let mut all = json!({"path": root.join(name)});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    files.create_directory(params(with("a/b", json!({})))).await.unwrap();
    files.write_file(params(with("a/b/f", json!({"dataBase64": "aGVsbG8="})))).await.unwrap();
    assert_eq!(files.read_file(params(with("a/b/f", json!({})))).await.unwrap().data.0, b"hello", "{name}");
    assert_eq!(files.get_metadata(params(with("a/b/f", json!({})))).await.unwrap().size, 5, "{name}");
    let copy = json!({"sourcePath": at("a"), "destinationPath": at("c"), "recursive": true});
    files.copy(params(copy)).await.unwrap();
    let names = files.read_directory(params(with("", json!({})))).await.unwrap().entries;
    assert_eq!(names.len(), 2, "{name}");
    let options =
        json!({"maxDepth": 9, "maxDirectories": 99, "maxEntries": 99, "followDirectorySymlinks": false});
    let walk = files.walk(params(with("c", json!({"options": options})))).await.unwrap();
    assert_eq!(walk.entries.len(), 2, "{name}");
    assert!(files.canonicalize(params(with("a/../c", json!({})))).await.is_ok(), "{name}");

    files.open(params(with("new", json!({"handleId": "w", "mode": "replace"})))).await.unwrap();
    let block = json!({"handleId": "w", "offset": 0, "chunk": "YmxvY2s="});
    files.write_block(params(block)).await.unwrap();
    files.close(params(json!({"handleId": "w"}))).await.unwrap();
    files.open(params(with("new", json!({"handleId": "r"})))).await.unwrap();
    let block = files.read_block(params(json!({"handleId": "r", "offset": 2, "len": 10}))).await.unwrap();
    assert_eq!((block.chunk.0.as_slice(), block.eof), (&b"ock"[..], true), "{name}");
    let closed = json!({"handleId": "w", "offset": 0, "len": 1});
    assert_eq!(code(files.read_block(params(closed)).await), -32004, "{name}");

    let mut missing = files.missing_changed();
    let watch = json!({"watchId": 7, "missing": [at("later")]});
    assert!(files.watch_missing(params(watch)).await.unwrap().watching, "{name}");
    files.write_file(params(with("later", json!({"dataBase64": ""})))).await.unwrap();
    missing.wait_for(|state| state.fired == 7).await.unwrap();

    files.remove(params(with("a", json!({})))).await.unwrap();
    assert_eq!(code(files.read_file(params(with("a/b/f", json!({})))).await), -32004, "{name}");
}

#[tokio::test]
async fn files_are_alike_on_every_way() {
    for Way { name, environment, _server } in ways().await {
        let directory = tempfile::tempdir().unwrap();
        exercise_files(name, &*environment.files, directory.path()).await;
    }
}

/// Requests that are begun one behind the other, and not waited for between.
#[tokio::test]
async fn what_is_begun_in_order_takes_effect_in_order_on_every_way() {
    for Way { name, environment, _server } in ways().await {
        let directory = tempfile::tempdir().unwrap();
        let (files, programs) = (&*environment.files, &*environment.processes);
        let file = directory.path().join("f");
        let write = |text: String| {
            let data = Base64Bytes(text.repeat(100_000).into_bytes());
            files.write_file(params(json!({"path": file, "dataBase64": data})))
        };
        let writes = futures_util::future::join_all((0..9).map(|number| write(number.to_string())));
        let read = files.read_file(params(json!({"path": file})));
        let (written, read) = tokio::join!(writes, read);
        assert!(written.iter().all(Result::is_ok), "{name}");
        assert_eq!(read.unwrap().data.0, [b'8'; 100_000], "{name}");

        let made = files.create_directory(params(json!({"path": directory.path().join("d")})));
        let there = json!({"cwd": directory.path().join("d"), "pipeStdin": true});
        let started = programs.start(params(start("p", &["/bin/cat"], there.clone())));
        let again = programs.start(params(start("p", &["/bin/cat"], there)));
        let signalled = programs.signal(params(json!({"processId": "p", "signal": "kill"})));
        let (made, started, again, signalled) = tokio::join!(made, started, again, signalled);
        assert!(made.is_ok() && started.is_ok() && signalled.is_ok(), "{name}: {started:?}");
        assert_eq!(code(again), -32600, "{name}");
        let end = programs.wait(params(json!({"processId": "p"}))).await.unwrap();
        assert_eq!(end.exit.unwrap().signal, Some(9), "{name}");
    }
}

#[tokio::test]
async fn http_requests_are_alike_on_every_way() {
    let origin = MockServer::start().await;
    let answer = ResponseTemplate::new(201).insert_header("x-a", "1").set_body_string("body");
    Mock::given(method("GET")).and(path("/here")).respond_with(answer).mount(&origin).await;
    let get = |url: &str| params(json!({"method": "GET", "url": url, "requestId": "r"}));
    let url = format!("{}/here", origin.uri());
    for Way { name, environment, _server } in ways().await {
        let result = environment.http.request(get(&url)).await.unwrap();
        assert_eq!((result.status, result.body.0.as_slice()), (201, &b"body"[..]), "{name}");
        let (head, body) = environment.http.stream(get(&url)).await.unwrap();
        let pieces: Vec<_> = body.collect().await;
        let whole: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
        assert_eq!((head.status, whole.as_slice()), (201, &b"body"[..]), "{name}");
        assert_eq!(code(environment.http.request(get("ftp://x/")).await), -32602, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_is_closed_ends_its_session_and_what_runs_in_it() {
    let mut only = config();
    only.limits.session.sessions = 1;
    let server = Server::new(only);
    for _ in 0..3 {
        // Refused as long as there is the session before, in which a program runs.
        let client = loop {
            let (carrier, stream) = memory::pair();
            let serving = std::sync::Arc::clone(&server);
            tokio::spawn(async move { serving.serve(carrier).await });
            let connected = Client::connect(Endpoint::Stream(stream), ClientOptions::default()).await;
            if let Ok(client) = connected {
                break client;
            }
        };
        let process = client.start(params(start("p", &["sleep", "1000"], json!({})))).await.unwrap();
        std::mem::forget(process);
        client.close().await;
    }
}

#[tokio::test]
async fn a_local_environment_takes_its_programs_along() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let environment = Environment::local(config());
    let command = format!("echo $$ > {}; echo on; exec sleep 1000", file.display());
    environment.processes.start(params(start("p", &["sh", "-c", &command], json!({})))).await.unwrap();
    environment.processes.read(params(json!({"processId": "p", "waitMs": 60_000}))).await.unwrap();
    let pid = std::fs::read_to_string(&file).unwrap();
    drop(environment);
    while Path::new(&format!("/proc/{}", pid.trim())).exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn environments_are_known_by_name_and_connected_to_when_asked_for() {
    let (url, serving) = listening();
    let _server = Stop(serving);
    let environments = Environments::default();
    environments.add_local(config()).unwrap();
    let there = url.clone();
    let endpoint = move || Endpoint::WebSocket { url: there.clone(), bearer: None };
    environments.add_remote("box-1", Dial::to(endpoint.clone(), ClientOptions::default())).unwrap();
    let nowhere = || Endpoint::Unix { path: "/no/such/socket".into(), bearer: None };
    environments.add_remote("away", Dial::to(nowhere, ClientOptions::default())).unwrap();
    for bad in ["", "none", "local", "a b", "ä", &"x".repeat(65)] {
        let refused = environments.add_remote(bad, Dial::to(endpoint.clone(), ClientOptions::default()));
        assert!(matches!(refused, Err(EnvironmentError::Name(_))), "{bad:?}");
    }
    let again = environments.add_remote("box-1", Dial::to(endpoint, ClientOptions::default()));
    assert!(matches!(again, Err(EnvironmentError::Taken(_))));
    assert_eq!(environments.names(), ["away", "box-1", "local"]);
    for name in ["local", "box-1"] {
        let environment = environments.get(name).await.unwrap();
        let metadata = environment.files.get_metadata(params(json!({"path": "/"}))).await.unwrap();
        assert!(metadata.is_directory && environment.info.is_some(), "{name}");
    }
    // The same connection: its session knows what was started on it.
    let first = environments.get("box-1").await.unwrap();
    first.processes.start(params(start("p", &["true"], json!({})))).await.unwrap();
    let second = environments.get("box-1").await.unwrap();
    assert_eq!(second.processes.list(params(json!({}))).await.unwrap().processes.len(), 1);
    assert!(matches!(environments.get("away").await, Err(EnvironmentError::Connect(_))));
    let unknown = environments.get("nobody").await.unwrap_err().to_string();
    assert!(unknown.contains("box-1"), "{unknown}");
}

/// What each way answers to a request, as JSON or as a code.
fn told<T: serde::Serialize + std::fmt::Debug>(outcome: Result<T, CallError>) -> Value {
    match outcome {
        Ok(result) => serde_json::to_value(result).unwrap(),
        refused => code(refused).into(),
    }
}

#[tokio::test]
async fn a_sandbox_holds_for_files_alike_on_every_way() {
    let host = config().host;
    if let Some(why) = host.confiner.as_ref().and_then(|confiner| confiner.abilities().missing()) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    for Way { name, environment, _server } in ways().await {
        let files = &*environment.files;
        let ground = tempfile::tempdir().unwrap();
        let root = ground.path().canonicalize().unwrap();
        for (path, text) in [("w/.git/config", "[core]"), ("w/in", "mine"), ("o/out", "theirs")] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        let at = |path: &str| format!("file://{}", root.join(path).display());
        let entry = |kind: &str, access: &str| json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access});
        let restricted = json!({"type": "restricted", "entries": [entry("root", "read"), entry("project_roots", "write")]});
        let sandbox = json!({
            "permissions": {"type": "managed", "network": "restricted", "file_system": restricted},
            "cwd": at("w"), "workspaceRoots": [at("w")], "windowsSandboxLevel": "disabled",
        });
        let on = |path: &str, more: Value| {
            let mut all = json!({"path": at(path), "sandbox": sandbox});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let denied = Value::from(ErrorCode::INTERNAL.0);
        for (path, fine) in [("w/new", true), ("o/new", false), ("w/.git/config", false)] {
            let write = on(path, json!({"dataBase64": "bmV3"}));
            let answer = told(files.write_file(params(write)).await);
            assert_eq!(answer, if fine { json!({}) } else { denied.clone() }, "{name}: {path}");
            let open = on(path, json!({"handleId": path, "mode": "replace"}));
            assert_eq!(told(files.open(params(open)).await).is_object(), fine, "{name}: {path}");
        }
        let read = told(files.read_file(params(on("o/out", json!({})))).await);
        assert_eq!(read, json!({"dataBase64": "dGhlaXJz"}), "{name}");
        let open = on("w/in", json!({"handleId": "h", "mode": "read"}));
        assert!(told(files.open(params(open)).await).is_object(), "{name}");
        let block = json!({"handleId": "h", "offset": 0, "len": 10});
        assert_eq!(told(files.read_block(params(block)).await)["chunk"], "bWluZQ==", "{name}");
        let fine = |answer: Value| assert!(answer.is_object(), "{name}: {answer}");
        fine(told(files.get_metadata(params(on("o/out", json!({})))).await));
        fine(told(files.canonicalize(params(on("o/out", json!({})))).await));
        fine(told(files.read_directory(params(on("o", json!({})))).await));
        fine(told(files.create_directory(params(on("w/d", json!({"recursive": false})))).await));
        fine(told(files.remove(params(on("w/d", json!({"recursive": false, "force": false})))).await));
        let refused = |answer: Value| assert_eq!(answer, denied, "{name}");
        refused(told(files.create_directory(params(on("o/d", json!({"recursive": false})))).await));
        refused(told(files.remove(params(on("o/out", json!({"recursive": false, "force": false})))).await));
        let copy = |to: &str| json!({"sourcePath": at("o/out"), "destinationPath": at(to), "recursive": false, "sandbox": sandbox});
        fine(told(files.copy(params(copy("w/copy"))).await));
        refused(told(files.copy(params(copy("o/copy"))).await));
        assert_eq!(std::fs::read_to_string(root.join("w/copy")).unwrap(), "theirs", "{name}");
        assert_eq!(std::fs::read_dir(root.join("o")).unwrap().count(), 1, "{name}");
    }
}
