//! `codex exec-server run`, as people and scripts use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use codex_e2e::client::guarded;
use codex_e2e::machine::{alive, eventually, pid_in};
use codex_e2e::secrets::assert_none;
use codex_e2e::{Cutter, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncBufReadExt;

/// Runs `codex exec-server run ARGUMENTS` with this input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(codex_e2e::binary::codex())
        .args(["exec-server", "run"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside the reading of the output, since both pipes have an end.
    let feeder = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_none("run's stderr", &output.stderr);
    output
}

#[test]
fn the_exit_code_is_the_programs() {
    let cases: [(&[&str], i32); 10] = [
        (&["--token-file", "x", "--", "true"], 2),
        (&["--", "true"], 0),
        (&["--", "sh", "-c", "exit 7"], 7),
        (&["--", "sh", "-c", "kill -TERM $$"], 143),
        (&["--", "sh", "-c", "kill -KILL $$"], 137),
        (&["--", "/no/such/program"], 127),
        (&["--", "/etc/hostname"], 126),
        (&["--cwd", "/no/such/directory", "--", "true"], 126),
        (&["--timeout", "1", "--", "sleep", "1000"], 124),
        (&["--no-such-flag", "--", "true"], 2),
    ];
    for (arguments, code) in cases {
        let output = run(arguments, b"");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn an_address_that_can_not_be_used_is_wrong_usage_and_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "sesame").unwrap();
    let token = token.to_str().unwrap();
    let registry = |url, id| ["--registry", url, "--environment-id", id, "--", "true"].to_vec();
    let long = "x".repeat(257);
    let cases: [(Vec<&str>, &str); 12] = [
        (registry("foo", "e"), "https://HOST"),
        (registry("https://[", "e"), "https://HOST"),
        (registry("http://registry.test", "e"), "needs https://"),
        (registry("ftp://registry.test", "e"), "scheme \"ftp\""),
        (registry("https://user:s3cret@registry.test", "e"), "a user"),
        (registry("https://registry.test", "../e"), "A-Z a-z 0-9"),
        (registry("https://registry.test", " "), "A-Z a-z 0-9"),
        (registry("https://registry.test", &long), "A-Z a-z 0-9"),
        (vec!["--url", "ws://[", "--", "true"], "--url"),
        (vec!["--url", "http://h", "--", "true"], "--url"),
        (vec!["--url", "ws://user:s3cret@127.0.0.1:1", "--", "true"], "user name or password"),
        (vec!["--url", "ws://server.test", "--token-file", token, "--", "true"], "wss://"),
    ];
    for (arguments, words) in cases {
        let output = run(&arguments, b"");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(2), &b""[..]),
            "{arguments:?}: {stderr}"
        );
        assert!(stderr.contains(words) && !stderr.contains("s3cret"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn streams_are_apart_and_every_byte_passes_both_ways() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let output = run(&["--env", "WORD=apart", "--", "sh", "-c", "cat; echo $WORD >&2"], &bytes);
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    assert_eq!(output.stderr, b"apart\n");
}

#[test]
fn the_end_of_input_reaches_a_terminal_also_in_the_middle_of_a_line() {
    let output = run(&["--tty", "--", "cat"], b"abc");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"abc"), "{output:?}");
}

#[tokio::test]
async fn a_running_server_is_used_by_its_address() {
    let server = Server::start().await;
    let url = format!("ws://{}", server.address());
    let output =
        tokio::task::spawn_blocking(move || run(&["--url", &url, "--", "cat"], b"over there")).await.unwrap();
    assert_eq!(output.stdout, b"over there");
}

#[test]
fn a_server_that_is_not_there_is_255_and_a_sentence() {
    let output = run(&["--url", "ws://127.0.0.1:1", "--", "true"], b"");
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
}

#[test]
fn a_time_that_can_not_be_is_told_with_its_bounds() {
    for time in ["-1", "0", "1e300", "inf", "soon"] {
        let output = run(&["--timeout", time, "--", "true"], b"");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("above 0 and up to 1000000000"), "{stderr}");
    }
}

#[test]
fn the_timeout_bounds_the_wait_for_output_that_a_background_process_holds() {
    let output = run(&["--timeout", "0.5", "--", "sh", "-c", "sleep 1000 & echo $!; exit 3"], b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let left: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(alive(left), "it is left running");
    codex_e2e::machine::kill(left);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("has ended") && stderr.contains("background process"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_child_server_that_can_not_start_has_told_why_and_gives_its_code() {
    let codex = |arguments: &[&str]| {
        Command::new(codex_e2e::binary::codex()).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    for arguments in [
        &["--strict-config", "exec-server", "run", "-c", "nosuch=1", "--", "true"][..],
        &["exec-server", "run", "--strict-config", "-c", "nosuch=1", "--", "true"],
    ] {
        let output = codex(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("nosuch") && stderr.lines().count() == 1, "{stderr}");
    }
}

#[tokio::test]
async fn a_server_that_was_restarted_is_told_from_one_that_is_away() {
    let (mut first, second) = (Server::start().await, Server::start().await);
    let cutter = Cutter::start(first.address()).await;
    let url = cutter.url().replace("http://", "ws://");
    // Its output comes after the answer to its start, which a cut would lose.
    let mut running = tokio::process::Command::new(codex_e2e::binary::codex())
        .args(["exec-server", "run", "--url", &url, "--", "sh", "-c", "echo $$; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(running.stdout.take().unwrap()).lines();
    let program = guarded("the pid", lines.next_line()).await.unwrap().unwrap().parse().unwrap();
    cutter.point(Some(second.address()));
    first.signal(Signal::KILL);
    first.ended().await;
    let output = guarded("its end", running.wait_with_output()).await.unwrap();
    codex_e2e::machine::kill(program);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(255), "{stderr}");
    assert!(stderr.contains("was restarted") && !stderr.contains("-32600"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_closed_stdout_is_told() {
    let closed = |arguments: &str, input: Stdio| {
        Command::new("sh")
            .args(["-c", &format!("exec \"$0\" exec-server {arguments} >&-")])
            .arg(codex_e2e::binary::codex())
            .stdin(input)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    let output = closed("run -- sh -c 'echo lost; exec sleep 1000'", Stdio::null());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("can't write to stdout: it is closed"), "{stderr}");
    assert_eq!(closed("run -- true", Stdio::null()).status.code(), Some(0));
    let output = closed("--listen stdio", Stdio::null());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stdout is closed"), "{stderr}");
}

/// A command that runs, with its stdout.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Runs a shell command that says `ready` once it is.
    fn shell(command: &str) -> Self {
        let mut child = Command::new("env")
            .arg("--default-signal=HUP,QUIT,INT")
            .arg(codex_e2e::binary::codex())
            .args(["exec-server", "run", "--", "sh", "-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, stdout }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it still says, and its exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

#[test]
fn signals_reach_the_program_and_it_says_how_it_ends() {
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let running = Running::shell(&format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done"
        ));
        running.signal(signal);
        assert_eq!(running.end(), (format!("got {name}\n"), Some(9)));
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::USR1, 138)] {
        let running = Running::shell("echo ready; exec sleep 1000");
        running.signal(signal);
        assert_eq!(running.end(), (String::new(), Some(code)));
    }
}

#[test]
fn repeated_signals_end_a_program_that_ignores_them() {
    let stubborn = "trap '' INT TERM; echo ready; while :; do sleep 0.02; done";
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let running = Running::shell(stubborn);
        // The kernel merges signals that wait, so each is sent again until one has been taken twice.
        while alive(running.child.id()) {
            running.signal(signal);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(running.end(), (String::new(), Some(code)), "{signal:?}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_ends_the_program_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let Running { mut child, stdout } =
        Running::shell(&format!("echo $$ > {}; echo ready; exec sleep 1000", file.display()));
    let program = pid_in(&file).await;
    drop(stdout);
    eventually("the program ends with its reader", || !alive(program)).await;
    assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap(), Some(141));
}

#[test]
fn output_that_cannot_be_written_is_1_and_a_sentence() {
    let arguments = ["exec-server", "run", "--", "sh", "-c", "echo lost; exec sleep 1000"];
    codex_e2e::binary::fails_on_a_full_disk(&arguments, Stdio::null());
}

#[tokio::test]
async fn a_token_comes_from_a_file_or_the_environment_and_reaches_no_program() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let bad = directory.path().join("bad");
    std::fs::write(&good, concat!(" ", codex_e2e::secret!("abc"), "\n")).unwrap();
    std::fs::write(&bad, codex_e2e::secret!("wrong")).unwrap();
    let missing = directory.path().join("missing");
    let socket = format!("unix://{}", directory.path().join("exec.sock").display());
    for listen in ["ws://127.0.0.1:0", &socket] {
        let server = Server::builder()
            .listen(listen)
            .args(["--ws-auth", "capability-token", "--ws-token-file", good.to_str().unwrap()])
            .env("CODEX_EXEC_SERVER_TOKEN", codex_e2e::secret!("abc"))
            .start()
            .await;
        let url = server.url.clone();
        let with = move |variable: Option<&str>, file: Option<&std::path::Path>| {
            let mut command = Command::new(codex_e2e::binary::codex());
            command.args(["exec-server", "run", "--url", &url]).env_remove("CODEX_EXEC_SERVER_TOKEN");
            command.env("RUST_LOG", "trace");
            command.envs(variable.map(|token| ("CODEX_EXEC_SERVER_TOKEN", token)));
            if let Some(file) = file {
                command.arg("--token-file").arg(file);
            }
            let output = command
                .args(["--", "sh", "-c", "echo \"in $CODEX_EXEC_SERVER_TOKEN\""])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_none("run's stderr", &output.stderr);
            let told = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(told).unwrap())
        };
        let (good, bad, missing) = (good.clone(), bad.clone(), missing.clone());
        tokio::task::spawn_blocking(move || {
            let inside = |(code, told): (Option<i32>, String)| {
                assert!(code == Some(0) && told.contains("in \n"), "{code:?}: {told}");
            };
            inside(with(None, Some(&good)));
            inside(with(Some(codex_e2e::secret!("abc")), None));
            // The file goes first.
            inside(with(Some(codex_e2e::secret!("wrong")), Some(&good)));
            let outside = |(code, told): (Option<i32>, String), words: &str| {
                assert!(code == Some(255) && told.contains(words), "{code:?}: {told}");
                assert!(told.contains("--token-file") && !told.contains("can't reach"), "{told}");
            };
            outside(with(None, None), "asks for a bearer token");
            outside(with(Some(codex_e2e::secret!("abc")), Some(&bad)), "refused the bearer token");
            assert_eq!(with(None, Some(&missing)).0, Some(1));
        })
        .await
        .unwrap();
    }
}

#[test]
fn a_stdin_that_can_not_be_read_is_no_empty_one() {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.args(["exec-server", "run", "--", "wc", "-c"]);
    command.stdin(std::fs::File::open("/").unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{stderr}");
    assert!(stderr.contains("can't read stdin: Is a directory"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// What `codex ARGUMENTS` does in a directory that was removed.
fn in_a_removed_directory(arguments: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    let script = format!("d=$(mktemp -d) && cd $d && rmdir $d && exec \"$0\" {arguments}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(codex_e2e::binary::codex()).env("CODEX_HOME", home.path());
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_removed_working_directory_matters_only_where_it_is_needed() {
    let cases = [
        ("exec-server run --cwd / -- pwd", 0, "/\n", ""),
        ("exec-server --listen stdio", 0, "", ""),
        ("login status", 1, "", "Not logged in"),
        ("sandbox --cwd / --explain /etc", 0, "/etc", ""),
        ("exec-server run -- pwd", 255, "", "give --cwd"),
    ];
    for (arguments, code, stdout, stderr) in cases {
        let output = in_a_removed_directory(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let context = format!("{arguments}: {output:?}");
        assert_eq!(output.status.code(), Some(code), "{context}");
        assert!(text(&output.stdout).contains(stdout) && text(&output.stderr).contains(stderr), "{context}");
    }
}
