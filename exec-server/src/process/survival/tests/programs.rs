//! Programs of a server that dies, under the next one.

use bytes::Bytes;
use codex_exec_protocol::Seq;
use codex_exec_protocol::process::{ReadParams, ReadResult, StartParams, WriteParams, WriteStatus};
use serde_json::json;
use tokio::runtime::Runtime;

use super::super::taking;
use super::*;
use crate::Limits;
use crate::process::{LaunchContext, Leftovers, Process, ProcessTable};

const SESSION: &str = "a session";

/// A server's table of programs, whose keeper is `store`.
fn table(store: &Arc<Table>) -> Arc<ProcessTable> {
    let context =
        LaunchContext { survival: Survival::new(Arc::clone(store) as _), ..LaunchContext::default() };
    let table = ProcessTable::new(Arc::new(context), Arc::new(Limits::default()), Leftovers::Keep);
    table.keep_as(session_hash(SESSION));
    Arc::new(table)
}

fn start(table: &Arc<ProcessTable>, script: &str, more: serde_json::Value) -> Arc<Process> {
    let mut params = json!({
        "processId": "p", "argv": ["/bin/sh", "-c", script], "cwd": "/", "env": {"PATH": "/usr/bin:/bin"}, "tty": false,
    });
    for (name, value) in more.as_object().expect("an object") {
        params[name] = value.clone();
    }
    let params: StartParams = serde_json::from_value(params).expect("params");
    let placed = table.place(params).expect("a place");
    let process = Arc::clone(placed.process());
    table.launch(placed);
    process
}

async fn read(process: &Process, after: Seq) -> ReadResult<Bytes> {
    let params = json!({"processId": "p", "afterSeq": after.0, "waitMs": 20_000});
    let params: ReadParams = serde_json::from_value(params).expect("params");
    process.read(&params, Duration::from_secs(20)).await.expect("a result")
}

/// Reads until the output has this in it.
async fn read_until(process: &Process, wanted: &str) -> String {
    let (mut text, mut after) = (String::new(), Seq::NONE);
    while !text.contains(wanted) {
        let result = read(process, after).await;
        for chunk in &result.chunks {
            text.push_str(&String::from_utf8_lossy(&chunk.chunk));
            after = chunk.seq;
        }
        assert!(!result.closed || text.contains(wanted), "it ended with {text:?}");
    }
    text
}

/// All that it printed, and the result of the last read.
async fn read_all(process: &Process) -> (String, ReadResult<Bytes>) {
    let (mut text, mut after) = (String::new(), Seq::NONE);
    loop {
        let result = read(process, after).await;
        for chunk in &result.chunks {
            assert_eq!(chunk.seq.previous().0, after.0.max(chunk.seq.previous().0), "in order");
            text.push_str(&String::from_utf8_lossy(&chunk.chunk));
            after = chunk.seq;
        }
        if result.closed {
            return (text, result);
        }
        after = after.max(result.next_seq.previous());
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What the first server does, until it is killed: then nothing of it happens any more.
fn until_killed<T>(store: &Arc<Table>, life: impl AsyncFnOnce(&Arc<ProcessTable>) -> T) -> T {
    let runtime = runtime();
    let table = table(store);
    let lived = runtime.block_on(life(&table));
    table.die();
    drop(runtime);
    lived
}

/// The next server, which has what the first one left.
fn next_server(store: &Arc<Table>) -> (Arc<ProcessTable>, Arc<Process>) {
    let next = table(store);
    let as_store: Arc<dyn Store> = Arc::clone(store) as _;
    let mut left = taking::sort(store.hand_on(), &as_store);
    for program in left.programs.remove(&session_hash(SESSION)).expect("the session's programs") {
        next.take_over(program, &as_store).expect("it goes on");
    }
    assert!(left.programs.is_empty());
    let process = next.get("p").expect("the program");
    (next, process)
}

fn write(process: &Arc<Process>, id: &str, text: &str) -> Arc<Mutex<Option<WriteStatus>>> {
    let params = json!({"processId": "p", "writeId": id, "chunk": ""});
    let mut params: WriteParams = serde_json::from_value(params).expect("params");
    params.chunk.0 = text.into();
    let answer = Arc::new(Mutex::new(None));
    let told = Arc::clone(&answer);
    process.write(params, move |status| *told.lock() = status.ok());
    answer
}

#[test]
fn a_program_goes_on_with_its_output_and_its_input_under_the_next_server() {
    let store = Arc::new(Table::default());
    let script = "echo begun; echo >&2 too; while read -r line; do echo \"got $line\"; done; exit 7";
    let before = until_killed(&store, async |first| {
        let process = start(first, script, json!({"pipeStdin": true}));
        read_until(&process, "too").await;
        write(&process, "1", "one\n");
        read_until(&process, "got one").await
    });
    let (text, end) = runtime().block_on(async {
        let (_next, process) = next_server(&store);
        assert_eq!(read_until(&process, "got one").await, before, "all of it is still there");
        assert_eq!(*write(&process, "1", "one\n").lock(), Some(WriteStatus::Accepted));
        write(&process, "2", "two\n");
        read_until(&process, "got two").await;
        process.close_stdin();
        read_all(&process).await
    });
    assert_eq!(text.matches("got one").count(), 1, "a write is not done twice: {text}");
    assert_eq!((end.exit_code, end.next_seq.0 as usize > 4), (Some(7), true));
}

#[test]
fn a_program_that_ended_while_there_was_no_server_is_told_with_its_true_end() {
    let store = Arc::new(Table::default());
    until_killed(&store, async |first| {
        let script = "echo begun; read -r line; echo \"$line\"; exit 3";
        read_until(&start(first, script, json!({"pipeStdin": true})), "begun").await;
    });
    // Written by nobody's server; it ends with nobody there.
    let stdin = store
        .entries
        .lock()
        .values()
        .find(|entry| Kind::of(&entry.bytes) == Some(Kind::Stdin))
        .map(|entry| entry.descriptors[0].try_clone().expect("a descriptor"));
    rustix::io::write(stdin.expect("its stdin"), b"alone\n").expect("room");
    let (text, end) = runtime().block_on(async {
        let (_next, process) = next_server(&store);
        read_all(&process).await
    });
    assert_eq!((text.as_str(), end.exit_code), ("begun\nalone\n", Some(3)));
}

#[test]
fn a_program_that_has_ended_is_still_there_with_all_that_it_said() {
    let store = Arc::new(Table::default());
    let (text, end) =
        until_killed(&store, async |first| read_all(&start(first, "echo said; exit 5", json!({}))).await);
    let (again, same) = runtime().block_on(async {
        let (next, process) = next_server(&store);
        let read = read_all(&process).await;
        next.end().await;
        read
    });
    assert_eq!((again, same.exit, same.next_seq), (text, end.exit, end.next_seq));
    for kind in [Kind::Process, Kind::Stdin, Kind::Memory] {
        assert_eq!(store.count(kind), 0, "nothing is kept of {kind:?} any more");
    }
}

#[test]
fn much_output_moves_into_larger_memory_and_none_is_lost() {
    let store = Arc::new(Table::default());
    until_killed(&store, async |first| {
        let script = "seq 1 20000; read -r line; seq 20001 40000";
        read_until(&start(first, script, json!({"pipeStdin": true})), "\n20000\n").await;
    });
    assert_eq!(store.count(Kind::Memory), 1);
    let (text, end) = runtime().block_on(async {
        let (_next, process) = next_server(&store);
        write(&process, "1", "on\n");
        read_all(&process).await
    });
    let expected: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(text, expected);
    assert_eq!((end.exit_code, end.lost_bytes), (Some(0), 0));
}

#[test]
fn a_terminal_goes_on_with_its_size_and_its_questions() {
    let store = Arc::new(Table::default());
    until_killed(&store, async |first| {
        let script = "stty -echo; echo begun; read -r line; stty size; exit 4";
        let process = start(first, script, json!({"tty": true, "rows": 30, "cols": 90}));
        read_until(&process, "begun").await;
    });
    let (text, end) = runtime().block_on(async {
        let (_next, process) = next_server(&store);
        process.resize(40, 100).expect("a terminal");
        write(&process, "1", "on\n");
        read_all(&process).await
    });
    assert!(text.contains("begun") && text.contains("40 100"), "{text}");
    assert_eq!(end.exit_code, Some(4));
}

#[test]
fn input_that_was_queued_is_written_by_the_next_server_once() {
    let store = Arc::new(Table::default());
    let lines: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    until_killed(&store, async |first| {
        let process = start(first, "echo begun; sleep 0.3; cat", json!({"pipeStdin": true}));
        read_until(&process, "begun").await;
        let answer = write(&process, "1", &lines);
        process.close_stdin();
        assert_eq!(*answer.lock(), Some(WriteStatus::Accepted));
    });
    let (text, end) = runtime().block_on(async {
        let (_next, process) = next_server(&store);
        read_all(&process).await
    });
    assert_eq!(text.strip_prefix("begun\n").map(str::len), Some(lines.len()));
    assert!(text.ends_with(&lines) && end.exit_code == Some(0));
}

#[test]
fn a_program_can_be_ended_by_the_next_server_and_at_its_deadline() {
    for (more, terminate) in [(json!({}), true), (json!({"timeoutMs": 300}), false)] {
        let store = Arc::new(Table::default());
        until_killed(&store, async |first| {
            read_until(&start(first, "echo begun; sleep 1000 & wait", more), "begun").await;
        });
        let (_, end) = runtime().block_on(async {
            let (_next, process) = next_server(&store);
            if terminate {
                assert!(process.terminate(None));
            }
            read_all(&process).await
        });
        assert_eq!(end.exit.map(|exit| (exit.signal, exit.timed_out)), Some((Some(9), !terminate)));
    }
}

#[test]
fn a_log_that_can_not_be_read_ends_its_program() {
    let store = Arc::new(Table::default());
    let pid = until_killed(&store, async |first| {
        let process = start(first, "echo begun; sleep 1000", json!({}));
        read_until(&process, "begun").await;
        process.pid().expect("a process")
    });
    for entry in store.entries.lock().values_mut() {
        if Kind::of(&entry.bytes) == Some(Kind::Nursery) {
            Memory::open(&entry.descriptors[0]).expect("memory").fill(0, 1024, 0xff);
        }
    }
    let as_store: Arc<dyn Store> = Arc::clone(&store) as _;
    let left = taking::sort(store.hand_on(), &as_store);
    assert!(left.programs.is_empty());
    assert_eq!(store.count(Kind::Process), 0);
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number")).expect("not 0");
    let gone = || rustix::process::test_kill_process(pid).is_err();
    while !gone() {
        let _ = codex_children::reap::try_reap(pid);
        std::thread::yield_now();
    }
}
