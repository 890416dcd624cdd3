//! `rec` and `play`: what a program has printed, as a recording, and back again.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use codex_e2e::client::guarded;
use codex_e2e::login::Home;
use codex_e2e::pty::Pty;
use codex_e2e::{Server, machine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

/// Prints in pieces, a character that two of them share among them.
const SCRIPT: &str = "printf 'one\\n'; sleep 0.05; printf 'caf\\303'; sleep 0.05; printf '\\251 \\033[1mbold\\033[m\\n'; exit 3";

/// An environment to run programs in.
async fn place() -> (Server, Home) {
    let server = Server::start().await;
    let home = Home::new();
    ok(&home, &["env", "add", "box", &server.url, "--use"]).await;
    (server, home)
}

async fn ok(home: &Home, words: &[&str]) -> String {
    let ended = home.run(&[&["exec-server"], words].concat()).await;
    assert_eq!(ended.status.code(), Some(0), "{words:?}: {ended:?}");
    ended.stdout
}

fn command(home: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.arg("exec-server").args(words);
    home.dress(&mut command);
    command.env_remove("RUST_LOG").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The header and the events of a recording.
fn read(text: &str) -> (Value, Vec<(f64, String, String)>) {
    let mut lines = text.lines().map(|line| line.to_owned());
    let header = serde_json::from_str(&lines.next().expect("a header")).unwrap();
    let events = lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}")));
    (header, events.collect())
}

fn printed(events: &[(f64, String, String)]) -> String {
    events.iter().filter(|(_, code, _)| code == "o").map(|(_, _, text)| text.as_str()).collect()
}

#[tokio::test]
async fn a_recording_made_after_the_fact_is_the_one_made_live() {
    let (_server, home) = place().await;
    let [live, later] = ["live.cast", "later.cast"].map(|name| home.beside(name));
    let [live, later] = [&live, &later].map(|path| path.to_str().unwrap());
    // It prints nothing before the recording has begun.
    let go = home.beside("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done; {SCRIPT}", go.display());
    ok(&home, &["run", "-d", "--name", "it", "--tty", "--", "sh", "-c", &script]).await;
    let mut recorder = command(&home, &["rec", "-f", "it", live]).spawn().unwrap();
    machine::eventually("the recording has begun", || {
        std::fs::metadata(live).is_ok_and(|file| file.len() > 0)
    })
    .await;
    std::fs::write(&go, "").unwrap();
    assert!(guarded("the live recording", recorder.wait()).await.unwrap().success());
    ok(&home, &["rec", "it", later]).await;
    let (text, again) = (std::fs::read_to_string(live).unwrap(), std::fs::read_to_string(later).unwrap());
    assert_eq!(text, again);
    let (header, events) = read(&text);
    assert_eq!((&header["version"], &header["title"]), (&Value::from(3), &Value::from("it")));
    assert_eq!(printed(&events), "one\r\ncafé \u{1b}[1mbold\u{1b}[m\r\n");
    assert_eq!(events.last().map(|(_, code, data)| (code.as_str(), data.as_str())), Some(("x", "3")));
    assert!(events.len() > 3, "pieces keep their times: {text}");
    assert_eq!(std::fs::metadata(live).unwrap().mode() & 0o7777, 0o600);
    // A file that is there is not replaced by mistake.
    let refused = home.run(&["exec-server", "rec", "it", later]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    ok(&home, &["rec", "--force", "it", later]).await;
}

#[tokio::test]
async fn what_is_played_is_what_was_printed() {
    let (_server, home) = place().await;
    ok(&home, &["run", "-d", "--name", "it", "--", "sh", "-c", SCRIPT]).await;
    ok(&home, &["wait", "--help"]).await;
    let _ = home.run(&["exec-server", "wait", "it"]).await;
    let file = home.beside("it.cast");
    let file = file.to_str().unwrap();
    ok(&home, &["rec", "it", file]).await;
    // As a terminal shows what comes out of a pipe.
    let expected = "one\r\ncafé \u{1b}[1mbold\u{1b}[m\r\n";
    for words in [&["play", "--at-once", file][..], &["play", file], &["play", "--speed", "100", file]] {
        assert_eq!(ok(&home, words).await, expected, "{words:?}");
    }
    // Version 2, as asciinema's older programs make it.
    let old = home.beside("old.cast");
    std::fs::write(&old, "{\"version\": 2, \"width\": 80, \"height\": 24}\n[0.1, \"o\", \"a\"]\n[0.2, \"i\", \"x\"]\n[0.3, \"o\", \"b\"]\n").unwrap();
    assert_eq!(ok(&home, &["play", old.to_str().unwrap()]).await, "ab");
    for (text, expected) in
        [("", "empty"), ("nothing\n", "no recording"), ("{\"version\": 9}\n", "version 9")]
    {
        std::fs::write(&old, text).unwrap();
        let refused = home.run(&["exec-server", "play", old.to_str().unwrap()]).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
}

#[tokio::test]
async fn a_recording_is_whole_when_its_maker_is_interrupted() {
    let (_server, home) = place().await;
    ok(&home, &["run", "-d", "--name", "it", "--tty", "--", "sh", "-c", "echo here; exec sleep 1000"]).await;
    let file = home.beside("it.cast");
    let mut recorder = command(&home, &["rec", "-f", "it", file.to_str().unwrap()]).spawn().unwrap();
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    machine::eventually("it is recorded", || text().contains("here")).await;
    let pid = Pid::from_raw(recorder.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(!guarded("its end", recorder.wait()).await.unwrap().success());
    assert_eq!(printed(&read(&text()).1), "here\r\n");
}

#[tokio::test]
async fn a_player_s_terminal_takes_keys_and_is_given_back() {
    let (_server, home) = place().await;
    let file = home.beside("it.cast");
    // The second screen, with an hour before the next event.
    let text = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n[0,\"o\",\"\\u001b[?1049h\\u001b[?25lfirst\"]\n[3600,\"o\",\"second\"]\n[3600,\"o\",\"third\"]\n";
    std::fs::write(&file, text).unwrap();
    let mut pty = Pty::start(&home, 24, 80, &["exec-server", "play", file.to_str().unwrap()]);
    pty.until(24, 80, |screen| screen.contains("first")).await;
    // Paused, it goes on event by event.
    pty.types(" .");
    pty.until(24, 80, |screen| screen.contains("second")).await;
    pty.types("q");
    assert_eq!(pty.ended().await.code(), Some(0));
    // What it wrote last may be on its way.
    machine::eventually("the terminal is given back", || {
        let output = pty.output();
        output.ends_with(b"\x1b[m") && output.windows(8).any(|eight| eight == b"\x1b[?1049l")
    })
    .await;
    assert!(!String::from_utf8_lossy(&pty.output()).contains("third"));
}

#[tokio::test]
async fn a_signal_ends_a_player_with_its_code() {
    let home = Home::new();
    let file = home.beside("it.cast");
    let text =
        "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n[0,\"o\",\"first\"]\n[3600,\"o\",\"second\"]\n";
    std::fs::write(&file, text).unwrap();
    let shown = home.beside("shown");
    let mut player = command(&home, &["play", file.to_str().unwrap()])
        .stdout(std::fs::File::create(&shown).unwrap())
        .spawn()
        .unwrap();
    machine::eventually("it plays", || std::fs::read(&shown).is_ok_and(|shown| shown == b"first")).await;
    kill_process(Pid::from_raw(player.id().unwrap().cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(guarded("its end", player.wait()).await.unwrap().code(), Some(143));
}

/// asciinema's own program.
#[tokio::test]
#[ignore = "needs asciinema 3, which neither Debian nor PyPI has"]
async fn asciinema_reads_a_recording() {
    let version = Command::new("asciinema").arg("--version").output().await.unwrap().stdout;
    assert!(String::from_utf8_lossy(&version).contains(" 3."), "older ones don't know the format");
    let (_server, home) = place().await;
    ok(&home, &["run", "-d", "--name", "it", "--tty", "--", "sh", "-c", SCRIPT]).await;
    let _ = home.run(&["exec-server", "wait", "it"]).await;
    let file = home.beside("it.cast");
    ok(&home, &["rec", "it", file.to_str().unwrap()]).await;
    let raw = home.beside("raw");
    let convert = Command::new("asciinema")
        .args(["convert", "-f", "raw"])
        .args([&file, &raw])
        .kill_on_drop(true)
        .output();
    let converted = tokio::time::timeout(Duration::from_secs(60), convert).await.unwrap().unwrap();
    assert!(converted.status.success(), "{converted:?}");
    assert_eq!(std::fs::read_to_string(&raw).unwrap(), "one\r\ncafé \u{1b}[1mbold\u{1b}[m\r\n");
}
