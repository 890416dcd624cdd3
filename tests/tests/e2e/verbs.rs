//! What holds for every verb, whatever it does: its stdout may be a pipe, a terminal, closed, full, or read by nobody, and
//! Ctrl-C ends it.

use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use codex_e2e::Server;
use codex_e2e::client::guarded;
use codex_e2e::login::Home;
use codex_e2e::pty::Pty;
use tokio::process::Command;

/// Verbs that print something and end. `p` is a program that runs, `q` one that has ended.
const PRINTING: [&[&str]; 21] = [
    &["ps"],
    &["ps", "-q"],
    &["ps", "-a", "--json"],
    &["ps", "--format", "{{.ID}}"],
    &["logs", "q"],
    &["logs", "-t", "q"],
    &["rec", "q", "-"],
    &["wait", "q"],
    &["kill", "-s", "WINCH", "p"],
    &["run", "--", "echo", "here"],
    &["run", "-d", "--", "true"],
    &["env", "ls"],
    &["env", "ls", "-q"],
    &["env", "ls", "--json"],
    &["env", "status"],
    &["env", "status", "--json"],
    &["ls", "/"],
    &["cat", "/etc/passwd"],
    &["cp", ":/etc/passwd", "-"],
    &["mcp", "--print-config", "codex"],
    &["help", "exit-codes"],
];

/// Verbs that go on until they are interrupted, what they print once they do, and whether that is their way to end well.
const WAITING: [(&[&str], &str, bool); 8] = [
    // Not a shell: one that is about to execute something may lose a Ctrl-C.
    (&["run", "--", "tail", "-n", "+1", "-f", "/etc/passwd"], "root:", false),
    (&["logs", "-f", "p"], "here", false),
    (&["rec", "-f", "p", "-"], "here", false),
    // The first has ended, so it waits for the second from then on.
    (&["wait", "q", "p"], "0\n", false),
    (&["ps", "--watch"], "p\t", false),
    (&["port-forward", "--socks", "0"], "SOCKS5", false),
    (&["mcp", "--http", "127.0.0.1:0"], "/mcp", true),
    (&["attach", "--read-only", "p"], "here", true),
];

/// An environment with two programs.
async fn place() -> (Server, Home) {
    let server = Server::start().await;
    let home = Home::new();
    for words in [
        &["env", "add", "box", &server.url, "--use"][..],
        &["run", "-d", "--name", "p", "--", "sh", "-c", "echo here; exec sleep 1000"],
        &["run", "-d", "--name", "q", "--", "sh", "-c", "echo here"],
        &["wait", "q"],
    ] {
        let ended = home.run(&[&["exec-server"], words].concat()).await;
        assert_eq!(ended.status.code(), Some(0), "{words:?}: {ended:?}");
    }
    (server, home)
}

fn command(home: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.arg("exec-server").args(words);
    home.dress(&mut command);
    command.env_remove("RUST_LOG").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a verb with this stdout; how it ended, and what it said.
async fn with_stdout(home: &Home, words: &[&str], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = command(home, words);
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let output = guarded(&words.join(" "), child.wait_with_output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_full_stdout_is_a_failure_that_is_said() {
    let (_server, home) = place().await;
    for words in PRINTING {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, stderr) = with_stdout(&home, words, full).await;
        assert_eq!(code, Some(1), "{words:?}: {stderr}");
        assert!(
            stderr.contains("No space left on device") && stderr.contains("stdout"),
            "{words:?}: {stderr}"
        );
    }
}

#[tokio::test]
async fn a_stdout_that_nobody_reads_ends_a_verb_without_a_word() {
    let (_server, home) = place().await;
    for words in PRINTING {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, stderr) = with_stdout(&home, words, writer).await;
        assert_eq!((code, stderr.as_str()), (Some(141), ""), "{words:?}");
    }
}

#[tokio::test]
async fn a_closed_stdout_is_a_failure_that_is_said() {
    let (_server, home) = place().await;
    let codex = codex_e2e::binary::codex().to_str().unwrap();
    for words in PRINTING {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >&-", "sh", codex, "exec-server"]).args(words);
        home.dress(&mut command);
        let child =
            command.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let output = guarded(&words.join(" "), child.wait_with_output()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(stderr.contains("stdout") && stderr.lines().count() == 1, "{words:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_terminal_and_a_pipe_are_shown_the_same_things() {
    let (_server, home) = place().await;
    for words in PRINTING {
        let file = home.beside("printed");
        let (code, stderr) = with_stdout(&home, words, File::create(&file).unwrap()).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{words:?}");
        let piped = std::fs::read_to_string(&file).unwrap();
        // Each run of it has an id, a time or a state of its own; one word is as good as all.
        let mut words_of_it = piped.split(|c: char| !c.is_alphanumeric());
        let word = words_of_it.find(|word| !word.is_empty());
        let word = word.unwrap_or_else(|| panic!("{words:?} printed nothing to look for: {piped:?}"));
        let mut pty = Pty::start(&home, 50, 200, &[&["exec-server"], words].concat());
        assert_eq!(pty.ended().await.code(), Some(0), "{words:?}");
        if words[0] != "run" {
            pty.until(50, 200, |screen| screen.contains(word) || piped.lines().count() > 45).await;
        }
    }
}

/// As a shell has it.
fn was_interrupted(status: ExitStatus) -> bool {
    status.code() == Some(130) || status.signal() == Some(2)
}

#[tokio::test]
async fn ctrl_c_ends_what_waits() {
    let (_server, home) = place().await;
    for (words, printed, is_left) in WAITING {
        let running = home.start(&[&["exec-server"], words].concat());
        running.wait_for(printed, |stdout, _| stdout.contains(printed).then_some(())).await;
        running.interrupt();
        eprintln!("interrupted: {words:?}");
        let ended = running.end().await;
        let is_well = is_left && ended.status.code() == Some(0);
        assert!(is_well || was_interrupted(ended.status), "{words:?}: {ended:?}");
    }
}
