//! Programs that are left running: `run -d`, `ps`, `logs`, `wait` and `kill`, on the built binary.

use codex_e2e::Server;
use codex_e2e::login::{Ended, Home, Running};

/// A home directory in which a server is the environment in use.
async fn at(server: &Server) -> Home {
    let home = Home::new();
    let added = home.run(&["exec-server", "env", "add", "box", &server.url, "--use"]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    home
}

async fn run(home: &Home, words: &[&str]) -> Ended {
    home.run(&[&["exec-server"], words].concat()).await
}

/// Runs it, and gives what it printed.
async fn ok(home: &Home, words: &[&str]) -> String {
    let ended = run(home, words).await;
    assert_eq!(ended.status.code(), Some(0), "{words:?}: {ended:?}");
    assert_eq!(ended.stderr, "", "{words:?}");
    ended.stdout
}

/// Waits until a running command has printed this.
async fn printed(running: &Running, words: &str) {
    running.wait_for(words, |stdout, _| stdout.contains(words).then_some(())).await;
}

fn refused(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    assert!(ended.stderr.contains(words) && ended.stderr.lines().count() == 1, "{words}: {ended:?}");
}

#[tokio::test]
async fn a_program_is_left_found_read_waited_for_and_ended() {
    let server = Server::start().await;
    let home = at(&server).await;
    let id = ok(
        &home,
        &["run", "-d", "-e", "WORD=there", "--", "sh", "-c", "echo out $WORD; echo err >&2; exec sleep 1000"],
    )
    .await;
    let id = id.trim_end();
    assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?} alone is printed");
    assert_eq!(ok(&home, &["run", "-d", "--name", "short", "--", "sh", "-c", "exit 7"]).await, "short\n");
    assert_eq!(ok(&home, &["wait", "short"]).await, "7\n");

    assert_eq!(ok(&home, &["ps", "-q"]).await, format!("{id}\n"));
    let all = ok(&home, &["ps", "-a"]).await;
    assert!(all.contains("short\texited 7 after ") && all.lines().count() == 2, "{all}");
    assert_eq!(ok(&home, &["ps", "-aq", "-f", "state=closed"]).await, "short\n");
    assert_eq!(ok(&home, &["ps", "-q", "-f", "command=sleep 1000"]).await, format!("{id}\n"));
    assert_eq!(
        ok(&home, &["ps", "--format", "{{.ID}}\\t{{.State}} {{.Tty}}"]).await,
        format!("{id}\trunning false\n")
    );
    let json: serde_json::Value = serde_json::from_str(&ok(&home, &["ps", "-a", "--json"]).await).unwrap();
    assert_eq!((json[1]["processId"].as_str(), json[1]["exitCode"].as_i64()), (Some("short"), Some(7)));

    let begin = &id[..5];
    let both = run(&home, &["logs", begin]).await;
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out there\n", "err\n"));
    assert_eq!(ok(&home, &["logs", "--stream", "stdout", "--from", "4", begin]).await, "there\n");
    assert_eq!(ok(&home, &["logs", "--stream", "stdout", "--from", "99", begin]).await, "");
    assert_eq!(run(&home, &["wait", "--timeout", "0", id]).await.status.code(), Some(124));

    assert_eq!(ok(&home, &["kill", begin]).await, format!("{begin}\n"));
    assert_eq!(ok(&home, &["wait", id]).await, "143\n");
    assert_eq!(ok(&home, &["ps", "-q"]).await, "");
    refused(&run(&home, &["kill", id]).await, 1, "has ended already");
}

#[tokio::test]
async fn what_is_printed_from_now_on_is_followed_to_the_end() {
    let server = Server::start().await;
    let home = at(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let until_told = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let script = format!("printf 'one\\ntwo\\nthree\\nlast'; {until_told}; echo; echo end");
    ok(&home, &["run", "-d", "--name", "p", "--", "sh", "-c", &script]).await;
    let follow = home.start(&["exec-server", "logs", "-f", "--tail", "2", "p"]);
    printed(&follow, "last").await;
    let ps = ok(&home, &["ps", "-q"]).await;
    assert_eq!(ps, "p\n");
    std::fs::write(&go, "").unwrap();
    let ended = follow.end().await;
    assert_eq!(ended.stdout, "three\nlast\nend\n", "{ended:?}");
    assert_eq!(ok(&home, &["logs", "--tail", "1", "p"]).await, "end\n");
    assert_eq!(ok(&home, &["logs", "-n", "0", "p"]).await, "");
}

#[tokio::test]
async fn a_signal_is_sent_by_any_of_its_names_and_the_grace_ends_in_a_kill() {
    let server = Server::start().await;
    let home = at(&server).await;
    let script = "trap 'echo usr1' USR1; trap '' TERM; echo ready; while :; do sleep 0.01; done";
    ok(&home, &["run", "-d", "--name", "p", "--", "sh", "-c", script]).await;
    let follow = home.start(&["exec-server", "logs", "-f", "p"]);
    printed(&follow, "ready").await;
    for name in ["USR1", "sigusr1", "10"] {
        ok(&home, &["kill", "-s", name, "p"]).await;
    }
    printed(&follow, "usr1").await;
    ok(&home, &["kill", "--grace", "0", "p"]).await;
    assert_eq!(ok(&home, &["wait", "p"]).await, "137\n");
    assert_eq!(follow.end().await.status.code(), Some(0));
    assert_eq!(run(&home, &["kill", "-s", "NOSUCH", "p"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn what_can_not_be_is_told_with_what_there_is() {
    let server = Server::start().await;
    let home = at(&server).await;
    ok(&home, &["run", "-d", "--name", "ab1", "--", "sleep", "1000"]).await;
    ok(&home, &["run", "-d", "--name", "ab2", "--", "sleep", "1000"]).await;
    for verb in ["logs", "wait", "kill", "attach"] {
        refused(&run(&home, &[verb, "nosuch"]).await, 1, "no program \"nosuch\"; running are: ab1, ab2");
        refused(&run(&home, &[verb, "ab"]).await, 1, "may be any of ab1, ab2");
    }
    refused(
        &run(&home, &["run", "-d", "--name", "ab1", "--", "true"]).await,
        1,
        "\"ab1\" is running already",
    );
    refused(&run(&home, &["run", "-d", "--", "nosuch-program"]).await, 127, "can't start");
    let alone = Home::new();
    for words in [&["ps"][..], &["run", "-d", "--", "true"], &["logs", "x"], &["attach", "x"]] {
        refused(&run(&alone, words).await, 1, "no environment is in use");
    }
    refused(&run(&alone, &["ps", "--url", "ws://127.0.0.1:1"]).await, 1, "can't reach");
}

#[tokio::test]
async fn variables_of_a_file_go_behind_those_of_the_command_line() {
    let server = Server::start().await;
    let home = at(&server).await;
    let file = home.beside("variables");
    std::fs::write(&file, "# some\nA=file\nB=file\n").unwrap();
    let file = file.to_str().unwrap();
    let words = ["run", "--env-file", file, "-e", "B=flag", "-w", "/", "--", "sh", "-c", "echo $A $B $PWD"];
    assert_eq!(ok(&home, &words).await, "file flag /\n");
    refused(
        &run(&home, &["run", "--env-file", "/nosuch", "--", "true"]).await,
        1,
        "can't read the variables",
    );
}

/// A time before a line, as `logs -t` prints it.
fn untimed(line: &str) -> &str {
    let (time, rest) = line.split_at_checked(25).unwrap_or_else(|| panic!("no time: {line:?}"));
    let bytes = time.as_bytes();
    assert!(bytes[10] == b'T' && bytes[23] == b'Z' && bytes[24] == b' ', "{line:?}");
    rest
}

#[tokio::test]
async fn output_is_found_on_disk_with_its_times_when_program_session_and_server_are_gone() {
    let state = tempfile::tempdir().unwrap();
    let place = format!("exec_server.state_dir={:?}", state.path().join("logs"));
    let server = async || Server::builder().args(["-c", &place]).start().await;
    let first = server().await;
    let home = at(&first).await;
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let until_told = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    // Far more than memory retains.
    let script = format!("seq 1 400000; {until_told}; echo late; echo err >&2");
    ok(&home, &["run", "-d", "--name", "many", "--", "sh", "-c", &script]).await;
    while ok(&home, &["logs", "--tail", "1", "many"]).await != "400000\n" {}
    let follow = home.start(&["exec-server", "logs", "-f", "--tail", "1", "many"]);
    printed(&follow, "400000\n").await;
    // All that is printed from here on is newer than this.
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let between = format!("{between:.3}");
    std::fs::write(&go, "").unwrap();
    let followed = follow.end().await;
    assert_eq!((followed.stdout.as_str(), followed.stderr.as_str()), ("400000\nlate\n", "err\n"));
    let whole = async |what: &str| {
        let all = run(&home, &["logs", "many"]).await;
        assert_eq!((all.status.code(), all.stderr.as_str()), (Some(0), "err\n"), "{what}");
        let lines: Vec<_> = all.stdout.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[399_999]), (400_001, "1", "400000"), "{what}");
        assert_eq!(ok(&home, &["logs", "--stream", "stdout", "--tail", "2", "many"]).await, "400000\nlate\n");
        let end = ok(&home, &["logs", "--stream", "stdout", "--from", "2688895", "many"]).await;
        assert_eq!(end, "late\n", "{what}");
        let late = ok(&home, &["logs", "-t", "--since", &between, "--stream", "stdout", "many"]).await;
        assert_eq!(late.lines().map(untimed).collect::<Vec<_>>(), ["late"], "{what}");
        let timed = ok(&home, &["logs", "-t", "-n", "3", "--stream", "stdout", "many"]).await;
        assert_eq!(timed.lines().map(untimed).collect::<Vec<_>>(), ["399999", "400000", "late"], "{what}");
        let err = run(&home, &["logs", "--since", "2d", "--stream", "stderr", "many"]).await;
        assert_eq!((err.stdout.as_str(), err.stderr.as_str()), ("", "err\n"), "{what}");
    };
    whole("with the server").await;
    drop(first);
    let second = server().await;
    ok(&home, &["env", "rm", "box"]).await;
    ok(&home, &["env", "add", "box", &second.url, "--use"]).await;
    assert_eq!(ok(&home, &["ps", "-a"]).await, "", "the program went with its server");
    whole("after the server").await;
    assert_eq!(
        ok(&home, &["logs", "--tail", "1", "--stream", "stdout", "man"]).await,
        "late\n",
        "by a prefix"
    );
    refused(&run(&home, &["logs", "nosuch"]).await, 1, "no program \"nosuch\"");
    // One that is kept in memory alone is as before, and has no times.
    ok(&home, &["run", "-d", "--log", "memory", "--name", "brief", "--", "sh", "-c", "echo here"]).await;
    ok(&home, &["wait", "brief"]).await;
    assert_eq!(ok(&home, &["logs", "brief"]).await, "here\n");
    refused(&run(&home, &["logs", "-t", "brief"]).await, 1, "has no times");
    assert_eq!(run(&home, &["logs", "--since", "soon", "brief"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn output_is_kept_in_memory_where_the_disk_can_not_have_it() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("file");
    std::fs::write(&file, "").unwrap();
    let place = format!("exec_server.state_dir={:?}", file.join("below"));
    let server = Server::builder().args(["-c", &place]).start().await;
    let home = at(&server).await;
    let started = run(&home, &["run", "-d", "--name", "p", "--", "sh", "-c", "echo here"]).await;
    assert_eq!((started.status.code(), started.stdout.as_str()), (Some(0), "p\n"), "{started:?}");
    assert!(started.stderr.contains("can't be kept on disk"), "{started:?}");
    ok(&home, &["wait", "p"]).await;
    assert_eq!(ok(&home, &["logs", "p"]).await, "here\n");
    refused(&run(&home, &["run", "-d", "--log", "disk", "--", "true"]).await, 126, "can't be kept on disk");
}

#[tokio::test]
async fn what_changes_is_listed_again_and_what_each_process_uses_is_shown() {
    let server = Server::start().await;
    let home = at(&server).await;
    let watch = home.start(&["exec-server", "ps", "--watch", "--format", "{{.ID}} {{.State}}"]);
    let script = "sh -c 'while :; do :; done' & exec sleep 1000";
    ok(&home, &["run", "-d", "--name", "busy", "--", "sh", "-c", script]).await;
    printed(&watch, "busy running\n").await;
    ok(&home, &["run", "-d", "--name", "idle", "--", "sleep", "1000"]).await;
    printed(&watch, "\nbusy running\nidle running\n").await;

    let top = ok(&home, &["top"]).await;
    let names: Vec<_> = top
        .lines()
        .map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            assert_eq!(cells.len(), 8, "{line}");
            (cells[0], cells[7])
        })
        .collect();
    assert_eq!(names, [("busy", "sleep"), ("busy", "sh"), ("idle", "sleep")], "{top}");
    let json: serde_json::Value = serde_json::from_str(&ok(&home, &["top", "--json", "bus"]).await).unwrap();
    let [sleeps, spins] = &json.as_array().unwrap()[..] else { panic!("{json}") };
    assert!(spins["cpuPercent"].as_f64().unwrap() > sleeps["cpuPercent"].as_f64().unwrap(), "{json}");
    assert!(sleeps["residentBytes"].as_u64().unwrap() > 0 && sleeps["threads"] == 1, "{json}");
    refused(&run(&home, &["top", "nosuch"]).await, 1, "no program \"nosuch\"");

    ok(&home, &["kill", "--grace", "0", "busy"]).await;
    watch
        .wait_for("a list without it", |stdout, _| stdout.ends_with("\n\nidle running\n").then_some(()))
        .await;
    ok(&home, &["kill", "--grace", "0", "idle"]).await;
}

#[tokio::test]
async fn ports_that_a_program_listens_on_are_open_here_while_it_runs() {
    let server = Server::start().await;
    let home = at(&server).await;
    // The listener is a grandchild, and comes late.
    let listen = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n\
                  while True:\n    c, _ = s.accept()\n    c.sendall(b'hello'); c.close()";
    let words = [
        "exec-server",
        "run",
        "--forward",
        "auto",
        "--",
        "sh",
        "-c",
        "python3 -c \"$1\"; true",
        "sh",
        listen,
    ];
    let running = home.start(&words);
    let there = running.wait_for("its port", |stdout, _| stdout.trim().parse::<u16>().ok()).await;
    let line = |stderr: &str| {
        let line = stderr.lines().find(|line| line.ends_with(&format!("-> 127.0.0.1:{there}")))?;
        line.split("forwarding 127.0.0.1:").nth(1)?.split(' ').next()?.parse::<u16>().ok()
    };
    let here = running.wait_for("a port here", |_, stderr| line(stderr)).await;
    assert_ne!(here, there, "on one machine the program's own port is taken");
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", here)).await.unwrap();
    let mut heard = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut heard).await.unwrap();
    assert_eq!(heard, "hello");
    running.interrupt();
    assert_eq!(running.end().await.status.code(), Some(130));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", here)).await.is_err());
    assert_eq!(run(&home, &["run", "--forward", "x", "--", "true"]).await.status.code(), Some(2));
}
