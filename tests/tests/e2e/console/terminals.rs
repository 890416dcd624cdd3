//! Live terminals: typed into, resized, signalled, lost and regained, and flooded.

use codex_e2e::console::Console;
use codex_e2e::console::TerminalPage;
use codex_e2e::{Cutter, Server};
use futures_util::future::join_all;
use serde_json::json;

use super::{REMOTE, guest, of, scope, start};

#[tokio::test]
async fn a_terminal_is_typed_into_resized_signalled_and_over() {
    let server = Server::start().await;
    let (_console, owner) = of(&server).await;
    let process = start(
        &owner,
        "trap 'echo got USR1' USR1; while read line; do stty size; echo \"<$line>\"; done",
        true,
    )
    .await;
    let mut terminal = owner.terminal(&process).await.unwrap();
    let described = terminal.told("process").await;
    assert_eq!(
        (&described["tty"], &described["mayType"], &described["rows"]),
        (&json!(true), &json!(true), &json!(24))
    );
    terminal.ask(json!({"type": "resize", "rows": 33, "cols": 101})).await;
    terminal.type_text("s\u{f8}r\r").await;
    terminal.until("33 101\r\n<s\u{f8}r>").await;
    terminal.told("taken").await;
    terminal.ask(json!({"type": "signal", "signal": "user1"})).await;
    terminal.until("got USR1").await;
    // Another window sees all that was printed, from its beginning.
    let mut second = owner.terminal(&process).await.unwrap();
    second.until("33 101\r\n<s\u{f8}r>").await;
    terminal.ask(json!({"type": "endOfInput"})).await;
    terminal.type_text("\x04").await;
    let over = terminal.told("over").await;
    assert_eq!(over["exitCode"], 0, "{over}");
    assert_eq!((terminal.closed().await, second.closed().await), (Some(1000), Some(1000)));
    let listed = owner.get(&format!("{REMOTE}/processes")).await;
    assert_eq!(listed["processes"][0]["state"], "closed", "{listed}");
}

#[tokio::test]
async fn whoever_may_only_look_sees_everything_and_changes_nothing() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let process = start(&owner, "while read line; do stty size; echo \"<$line>\"; done", true).await;
    let (look, _) = guest(&console, &owner, "look", scope(&process), 600).await;
    let mut watched = look.terminal(&process).await.unwrap();
    assert_eq!(watched.told("process").await["mayType"], false);
    for asked in
        [json!({"type": "resize", "rows": 9, "cols": 9}), json!({"type": "signal", "signal": "kill"})]
    {
        watched.ask(asked).await;
    }
    watched.type_text("not me\r").await;
    assert_eq!(watched.told("refused").await["reason"], "this link is for looking only");
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.type_text("me\r").await;
    watched.until("24 80\r\n<me>").await;
    assert!(!String::from_utf8_lossy(&watched.output).contains("not me"));
}

#[tokio::test]
async fn a_program_on_pipes_has_two_streams_and_one_that_is_ended_says_how() {
    let server = Server::start().await;
    let (_console, owner) = of(&server).await;
    let process = start(&owner, "echo out; echo err >&2; exec sleep 1000", false).await;
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.until("out").await;
    terminal.until("err").await;
    terminal.type_text("x").await;
    assert_eq!(terminal.told("refused").await["reason"], "this program reads no input");
    let ended = owner.ask("POST", &format!("{process}/signal"), Some(json!({"signal": "end"}))).await;
    assert_eq!(ended.status, 204);
    assert_eq!(terminal.told("over").await["exit"]["signal"], 15);
    let named = json!({"command": "cat", "tty": true, "name": "work"});
    let path = format!("{REMOTE}/processes");
    assert_eq!(owner.ask("POST", &path, Some(named.clone())).await.json()["processId"], "work");
    assert_eq!(owner.ask("POST", &path, Some(named)).await.status, 409, "the name is taken");
    assert_eq!(owner.ask("POST", &path, Some(json!({"name": "a b"}))).await.status, 400);
    assert_eq!(owner.ask("POST", &path, Some(json!({"cwd": "relative"}))).await.status, 400);
}

#[tokio::test]
async fn a_lost_connection_comes_back_and_a_page_goes_on_where_it_was() {
    let server = Server::start().await;
    let cutter = Cutter::start(server.address()).await;
    let console = Console::start(&["--url", &cutter.url().replace("http", "ws")]).await;
    let owner = console.owner().await;
    let process = start(&owner, "while read line; do echo \"<$line>\"; done", true).await;
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.type_text("one\r").await;
    terminal.until("<one>").await;
    cutter.cut();
    terminal.told("away").await;
    terminal.type_text("two\r").await;
    terminal.until("<two>").await;
    let shown = String::from_utf8_lossy(&terminal.output).into_owned();
    assert_eq!(shown.matches("<one>").count(), 1, "nothing twice: {shown}");
    assert_eq!(owner.get("/api/environments").await["environments"][0]["state"], "ready");
}

#[tokio::test]
async fn what_a_restarted_server_does_not_know_is_gone_and_what_is_started_there_is_shown() {
    let server = Server::start().await;
    let url = server.url.clone();
    let (_console, owner) = of(&server).await;
    let process = start(&owner, "cat", true).await;
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.told("process").await;
    drop(server);
    terminal.told("away").await;
    let _server = Server::builder().listen(url).start().await;
    assert_eq!(terminal.closed().await, Some(4004));
    assert!(terminal.told.iter().any(|told| told["type"] == "gone"), "{:?}", terminal.told);
    let process = start(&owner, "echo back again", true).await;
    owner.terminal(&process).await.unwrap().until("back again").await;
}

#[tokio::test]
async fn programs_that_were_started_from_the_page_go_on_without_the_console() {
    let server = Server::start().await;
    let (mut console, owner) = of(&server).await;
    let process = start(&owner, "while read line; do echo \"<$line>\"; done", true).await;
    owner.terminal(&process).await.unwrap().told("process").await;
    assert_eq!(console.end().await, Some(0));
    let (_console, owner) = of(&server).await;
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.type_text("once more\r").await;
    terminal.until("<once more>").await;
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Draws so many bytes of a flood.
async fn draw(terminal: &mut TerminalPage, bytes: usize) {
    let mut drawn = 0;
    while drawn < bytes {
        assert_eq!(terminal.step().await, None);
        drawn += terminal.output.len();
        terminal.output.clear();
    }
}

#[tokio::test]
async fn ten_floods_take_no_memory_and_each_still_hears_a_key() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let mut terminals = Vec::new();
    for _ in 0..10 {
        let process = start(&owner, "yes", true).await;
        terminals.push(owner.terminal(&process).await.unwrap());
    }
    // All at once: one that is not looked at does not answer pings.
    join_all(terminals.iter_mut().map(|terminal| draw(terminal, 256 << 10))).await;
    let before = resident(console.pid());
    join_all(terminals.iter_mut().map(|terminal| draw(terminal, 1 << 20))).await;
    // One that draws no more gets no more than its window.
    terminals[0].acknowledges = false;
    let mut held = 0;
    while let Ok(step) =
        tokio::time::timeout(std::time::Duration::from_millis(500), terminals[0].step()).await
    {
        assert_eq!(step, None);
        held += std::mem::take(&mut terminals[0].output).len();
    }
    assert!(held < 512 << 10, "{held} bytes were sent to a page that draws nothing");
    terminals[0].acknowledges = true;
    terminals[0].ask(json!({"type": "drawn", "bytes": held})).await;
    let grown = resident(console.pid()).saturating_sub(before);
    assert!(grown < 24 << 20, "the console's memory has grown by {grown} bytes");
    join_all(terminals.iter_mut().map(interrupted)).await;
}

/// Jumps to the flood's end, ends it by a key, and sees it end.
async fn interrupted(terminal: &mut TerminalPage) {
    terminal.ask(json!({"type": "jump"})).await;
    terminal.type_text("\x03").await;
    loop {
        terminal.output.clear();
        assert_ne!(terminal.step().await, Some(None), "the console went");
        if let Some(over) = terminal.told.iter().find(|told| told["type"] == "over") {
            assert_eq!(over["exit"]["signal"], 2, "{over}");
            break;
        }
    }
    assert!(terminal.told.iter().any(|told| told["type"] == "skipped"), "a flood can't be shown whole");
}
