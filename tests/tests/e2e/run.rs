//! `codex exec-server run`, as people and scripts use it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use codex_e2e::Server;

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
    output
}

#[test]
fn the_exit_code_is_the_programs() {
    let cases: [(&[&str], i32); 9] = [
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
