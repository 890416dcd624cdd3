//! `run --registry` by the line that the rendezvous prints.

use std::process::Stdio;

use codex_e2e::binary;
use codex_e2e::client::guarded;
use codex_e2e::hub::words;
use codex_e2e::machine::eventually;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Triangle;

/// Runs the printed line, with other words in the place of its program: code, stdout, stderr.
async fn run(line: &str, flags: &[&str], program: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let (variables, arguments) = words(line);
    let own = arguments.iter().position(|word| word == "--").unwrap();
    let program: Vec<_> = match program {
        [] => arguments[own + 1..].to_vec(),
        program => program.iter().map(|word| (*word).to_owned()).collect(),
    };
    let mut child = Command::new(binary::codex())
        .args(&arguments[..own])
        .args(flags)
        .arg("--")
        .args(program)
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = async move {
        // A program that has ended takes nothing more.
        let _ = stdin.write_all(input).await;
    };
    let (_, output) = guarded("run's end", async { tokio::join!(feeding, child.wait_with_output()) }).await;
    let output = output.unwrap();
    codex_e2e::secrets::assert_none("run's stderr", &output.stderr);
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn the_printed_line_runs_programs_as_if_they_ran_here() {
    let mut triangle = Triangle::start().await;
    let line = triangle.hub.line("run --registry").await;
    let (code, stdout, stderr) = run(&line, &[], &[], b"").await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with(b"Linux "));
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let (code, stdout, stderr) = run(&line, &[], &["sh", "-c", "cat; echo apart >&2; exit 7"], &long).await;
    assert_eq!((code, stderr.as_str()), (Some(7), "apart\n"));
    assert!(stdout == long, "{} bytes came back", stdout.len());
    for (flags, program, expected) in [
        (&[][..], &["sh", "-c", "kill -TERM $$"][..], 143),
        (&[], &["/no/such/program"], 127),
        (&["--cwd", "/no/such/directory"], &["true"], 126),
        (&["--timeout", "1"], &["sleep", "1000"], 124),
    ] {
        let (code, stdout, stderr) = run(&line, flags, program, b"").await;
        assert_eq!((code, stdout.as_slice()), (Some(expected), &b""[..]), "{program:?}: {stderr}");
    }
    let (code, stdout, _) = run(&line, &["--tty"], &["sh", "-c", "tty; stty size; cat"], b"abc\n").await;
    let stdout = String::from_utf8(stdout).unwrap();
    assert_eq!(code, Some(0), "{stdout}");
    assert!(
        stdout.contains("/dev/pts/") && stdout.contains("24 80") && stdout.matches("abc\r\n").count() == 2,
        "{stdout}"
    );
}

#[tokio::test]
async fn programs_get_none_of_the_tokens() {
    let mut triangle = Triangle::start().await;
    let token = triangle.token().await;
    let line = triangle.hub.line("run --registry").await;
    let (code, stdout, _) = run(&line, &[], &["env"], b"").await;
    let seen = String::from_utf8(stdout).unwrap();
    assert_eq!(code, Some(0));
    assert!(seen.contains("PATH=") && !seen.contains(&token), "{seen}");
}

#[tokio::test]
async fn an_unknown_environment_a_wrong_token_and_an_executor_away_are_told_apart() {
    let mut triangle = Triangle::start().await;
    let line = triangle.hub.line("run --registry").await;
    let (code, _, stderr) = run(&line.replace("my-machine", "other"), &[], &[], b"").await;
    assert_eq!(code, Some(255), "{stderr}");
    assert!(stderr.contains("other") && stderr.lines().count() == 1, "{stderr}");
    let token = triangle.token().await;
    let (code, _, stderr) = run(&line.replace(&token, "cxr_wrong"), &[], &[], b"").await;
    assert_eq!(code, Some(255), "{stderr}");
    assert!(stderr.contains("401") && !stderr.contains("cxr_wrong"), "{stderr}");
}

#[tokio::test]
async fn a_harness_that_vanishes_leaves_nothing_behind() {
    let mut triangle = Triangle::start().await;
    let pid = {
        let client = triangle.client().await;
        let mut process = client
            .start(super::script("p", "echo $$; exec sleep 1000", serde_json::json!({})))
            .await
            .unwrap();
        let Some(codex_exec_server::client::ProcessEvent::Output { bytes, .. }) = process.next().await else {
            panic!()
        };
        let pid: u32 = String::from_utf8(bytes).unwrap().trim().parse().unwrap();
        assert!(codex_e2e::machine::alive(pid));
        drop(process);
        client.close().await;
        pid
    };
    eventually("the program's end", || !codex_e2e::machine::alive(pid)).await;
    let Triangle { executor, hub } = triangle;
    let outcome = executor.stop().await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    drop(hub);
}

#[tokio::test]
async fn an_executor_that_is_stopped_says_so_and_is_not_waited_for() {
    let mut triangle = Triangle::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let line = triangle.hub.line("run --registry").await;
    let script = format!("echo $$ > {}; exec sleep 1000", file.display());
    let running = tokio::spawn(async move { run(&line, &[], &["sh", "-c", &script], b"").await });
    codex_e2e::machine::pid_in(&file).await;
    let Triangle { executor, hub } = triangle;
    assert_eq!(executor.stop().await.code, Some(0));
    let (code, _, stderr) = guarded("run's end", running).await.unwrap();
    assert_eq!(code, Some(255), "{stderr}");
    assert!(stderr.contains("the exec-server was stopped"), "{stderr}");
    assert!(stderr.lines().count() == 1 && !stderr.contains("did not come back"), "{stderr}");
    drop(hub);
}
