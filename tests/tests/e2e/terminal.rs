//! Programs on a terminal (sections 8.1 and 8.4, and the extension `process/resize`).

use codex_e2e::Server;
use codex_e2e::client::start_params;
use serde_json::json;

#[tokio::test]
async fn a_terminal_has_24_rows_80_columns_and_is_the_controlling_one() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "stty size; tty; cut -d' ' -f1,5,6,8 /proc/$$/stat; ls /proc/$$/fd | tr '\\n' ' '; echo to-tty > /dev/tty";
    client.shell_with("p", command, json!({"tty": true})).await;
    let text = client.finish("p").await.pty();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "24 80", "{text:?}");
    assert!(lines[1].starts_with("/dev/pts/"), "{text:?}");
    let ids: Vec<&str> = lines[2].split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "pid, group, session and foreground group are one: {text:?}");
    assert!(text.contains("to-tty\r\n"), "{text:?}");
}

#[tokio::test]
async fn a_terminal_gets_shell_and_nothing_else_is_invented() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .start_with("p", ["/usr/bin/env"], json!({"tty": true, "envPolicy": null, "env": {"A": "1"}}))
        .await;
    let text = client.finish("p").await.pty();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names.len(), 2, "{text:?}");
    assert!(names.contains(&"A") && names.contains(&"SHELL"), "{text:?}");
    client
        .start_with(
            "own",
            ["/usr/bin/env"],
            json!({"tty": true, "envPolicy": null, "env": {"SHELL": "mine"}}),
        )
        .await;
    assert_eq!(client.finish("own").await.pty(), "SHELL=mine\r\n");
}

#[tokio::test]
async fn typed_lines_are_echoed_and_the_end_key_ends_the_input() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"tty": true})).await;
    assert_eq!(client.write("cat", "hello\n").await, "accepted");
    let mut text = String::new();
    while text != "hello\r\nhello\r\n" {
        let chunk = client.next_notification("process/output").await;
        text.push_str(&String::from_utf8_lossy(&codex_e2e::bytes_of(&chunk["chunk"])));
        assert!(text.len() <= 14, "{text:?}");
    }
    client.write("cat", "\x04").await;
    assert_eq!(client.next_notification("process/exited").await["exitCode"], 0);
    client.next_notification("process/closed").await;
}

#[tokio::test]
async fn the_interrupt_key_kills_the_foreground_program() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "echo ready; exec sleep 1000", json!({"tty": true})).await;
    client.output_until("p", "ready").await;
    client.write("p", "\x03").await;
    assert_eq!(client.next_notification("process/exited").await["exitCode"], 1);
}

#[tokio::test]
async fn a_terminal_starts_with_the_size_asked_for_and_is_resized() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.02; done";
    client.shell_with("p", command, json!({"tty": true, "rows": 50, "cols": 132})).await;
    client.output_until("p", "50 132").await;
    assert_eq!(
        client.ok("process/resize", json!({"processId": "p", "rows": 10, "cols": 20})).await,
        json!({})
    );
    client.output_until("p", "10 20").await;
    client.next_notification("process/closed").await;
}

#[tokio::test]
async fn bad_sizes_and_processes_without_terminal_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start("pipe", ["sleep", "1000"]).await;
    let resize = |id: &str, rows: i64| json!({"processId": id, "rows": rows, "cols": 80});
    assert_eq!(client.refused("process/resize", resize("none", 24)).await, -32600);
    assert_eq!(client.refused("process/resize", resize("pipe", 24)).await, -32600);
    assert_eq!(client.refused("process/resize", resize("pipe", 70_000)).await, -32602);
    assert_eq!(client.refused("process/resize", json!({"processId": "pipe"})).await, -32602);
    client.start_with("tty", ["sleep", "1000"], json!({"tty": true})).await;
    let zero = client.refused("process/resize", resize("tty", 0)).await;
    assert!(zero == -32600 || zero == -32602, "{zero}");
    let zero =
        client.refused("process/start", start_params("z", ["true"], json!({"tty": true, "rows": 0}))).await;
    assert!(zero == -32600 || zero == -32602, "{zero}");
}

#[tokio::test]
async fn a_long_terminal_output_arrives_whole() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.shell_with("p", "stty -opost; seq 1 200000", json!({"tty": true})).await;
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    let ended = client.finish("p").await;
    assert!(ended.bytes("pty") == expected.as_bytes(), "{} of {}", ended.bytes("pty").len(), expected.len());
}

#[tokio::test]
async fn the_last_words_on_a_terminal_are_not_lost() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..50 {
        let id = format!("p{n}");
        client.shell_with(&id, "printf goodbye", json!({"tty": true})).await;
        assert_eq!(client.finish(&id).await.pty(), "goodbye");
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_on_a_terminal_is_refused_too() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for argv in [["no-such-program-anywhere"], ["/etc/hostname"], [""]] {
        assert_eq!(
            client.refused("process/start", start_params("p", argv, json!({"tty": true}))).await,
            -32603
        );
    }
    let nowhere = json!({"tty": true, "cwd": "/does/not/exist"});
    assert_eq!(client.refused("process/start", start_params("p", ["true"], nowhere)).await, -32603);
    client.shell_with("p", "exit 3", json!({"tty": true})).await;
    assert_eq!(client.finish("p").await.code(), 3);
}

#[tokio::test]
async fn the_erase_key_takes_a_whole_character() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "stty erase ^?; echo ready; read line; printf '%s' \"$line\" | od -An -tx1; echo over";
    client.shell_with("p", command, json!({"tty": true})).await;
    client.output_until("p", "ready").await;
    client.write("p", "aé漢\x7f\x7fb\n").await;
    let text = client.output_until("p", "over").await;
    assert!(text.contains(" 61 62\r\n"), "{text:?}");
}

#[tokio::test]
async fn close_stdin_types_the_terminals_own_end_of_file_key() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (id, setting, typed, expected) in [
        ("usual", "sane", "", ""),
        ("begun", "sane", "abc", "abc"),
        ("changed", "eof ^X", "", ""),
        ("changed, begun", "eof ^X", "abc", "abc"),
        ("the usual key is a letter", "eof ^X", "abc\x04", "abc\x04"),
        ("without one", "eof undef", "abc", "abc"),
        ("a line's end of its own", "eof ^X eol ;", "abc;", "abc;"),
    ] {
        let command = format!("stty {setting} -echo; echo ready; cat; echo over");
        client.shell_with(id, &command, json!({"tty": true})).await;
        client.output_until(id, "ready").await;
        client.write(id, typed).await;
        client.ok("process/closeStdin", json!({"processId": id})).await;
        let text = client.output_until(id, "over").await;
        assert!(text.ends_with(&format!("{expected}over\r\n")), "{id}: {text:?}");
    }
}

#[tokio::test]
async fn a_program_that_reads_keys_gets_the_end_of_file_key_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (setting, key) in [("sane", "04"), ("eof ^X", "18"), ("eof undef", "04")] {
        let id = setting;
        let command =
            format!("stty {setting}; stty -icanon -echo; echo ready; head -c 3 | od -An -tx1; echo over");
        client.shell_with(id, &command, json!({"tty": true})).await;
        client.output_until(id, "ready").await;
        client.write(id, "a").await;
        client.ok("process/closeStdin", json!({"processId": id})).await;
        client.write(id, "z").await;
        let text = client.output_until(id, "over").await;
        assert!(text.contains(&format!(" 61 {key} 7a\r\n")), "{setting}: {text:?}");
    }
}

#[tokio::test]
async fn a_program_that_asks_its_terminal_is_answered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (id, asked, answer) in [
        ("cursor", "\\033[6n", "1b 5b 31 3b 31 52"),
        ("status", "\\033[5n", "1b 5b 30 6e"),
        ("mode", "\\033[?2026$p", "1b 5b 3f 32 30 32 36 3b 30 24 79"),
        ("size", "\\033[18t", "1b 5b 38 3b 33 30 3b 39 30 74"),
        // Two writes; the first alone says nothing yet.
        ("in two", "\\033['; printf '6n", "1b 5b 31 3b 31 52"),
    ] {
        let bytes = answer.split(' ').count();
        let command =
            format!("stty raw -echo; printf 'before{asked}after'; head -c {bytes} | od -An -tx1 -w20");
        client.shell_with(id, &command, json!({"tty": true, "rows": 30, "cols": 90})).await;
        let text = client.finish(id).await.pty();
        assert!(text.starts_with("beforeafter"), "{id}: {text:?}");
        assert!(text.contains(&format!(" {answer}\n")), "{id}: {text:?}");
    }
}

#[tokio::test]
async fn a_real_terminal_answers_for_itself() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "stty raw -echo; printf 'x\\033[6ny'; head -c 2";
    client.shell_with("p", command, json!({"tty": true, "realTerminal": true})).await;
    assert_eq!(client.output_until("p", "y").await, "x\x1b[6ny");
    client.write("p", "ok").await;
    client.output_until("p", "ok").await;
}

#[tokio::test]
async fn a_program_that_asks_without_end_is_bounded_and_ends() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "stty raw -echo; while :; do printf '\\033[6n\\033[6n\\033[6n\\033[6n'; done & sleep 1; kill $!; printf over";
    client.shell_with("p", command, json!({"tty": true})).await;
    assert_eq!(client.finish("p").await.pty(), "over");
}

/// Its terminal then takes nothing more, and is ready for more for ever.
#[tokio::test]
async fn a_program_that_ends_before_it_has_read_its_input_ends_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = "stty raw -echo; printf ready; exec sleep 0.3";
    client.shell_with("p", command, json!({"tty": true})).await;
    let seen = client.output_until("p", "ready").await;
    client.write("p", [b'x'; 256 << 10]).await;
    assert_eq!((seen.as_str(), &client.finish_after("p", 1).await.exited["exitCode"]), ("ready", &json!(0)));
}

/// The announced shell and `SHELL` on a terminal, for a user whose entry names this shell; none where passwd can't be changed.
async fn shells_of(entry: Option<&str>) -> Option<(String, String, String)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("passwd");
    let entry = entry.map(|shell| format!("somebody:x:54321:54321::/tmp:{shell}\n")).unwrap_or_default();
    std::fs::write(&file, format!("root:x:0:0:root:/root:/bin/bash\n{entry}")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let enter = format!(
        "mount --bind {} /etc/passwd && exec setpriv --reuid=54321 --regid=54321 --clear-groups \"$@\"",
        file.display()
    );
    let under = ["unshare", "-m", "sh", "-c", &enter, "sh"];
    let codex = codex_e2e::binary::codex();
    let tried = std::process::Command::new(under[0]).args(&under[1..]).arg(codex).arg("--version").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: only root can mount another passwd, and become another user");
        return None;
    }
    let server = Server::builder().under(under).start().await;
    let mut client = server.client().await;
    let shell = client.ok("environment/info", json!({})).await["shell"].take();
    client.start_with("p", ["/usr/bin/env"], json!({"tty": true, "envPolicy": null, "env": {}})).await;
    let text = client.finish("p").await.pty();
    let on_terminals = text.trim_end().strip_prefix("SHELL=").expect("a SHELL and nothing else").to_owned();
    let word = |name: &str| shell[name].as_str().unwrap().to_owned();
    Some((word("name"), word("path"), on_terminals))
}

#[tokio::test]
async fn the_announced_shell_is_one_that_a_client_can_drive() {
    for entry in [None, Some("/no/such/shell"), Some("/usr/sbin/nologin"), Some("/bin/false")] {
        let Some((name, path, on_terminals)) = shells_of(entry).await else { return };
        assert_eq!(name, "bash", "{entry:?}");
        assert!(path.ends_with("/bash") && std::path::Path::new(&path).exists(), "{entry:?}: {path}");
        assert_eq!(on_terminals, path, "{entry:?}");
    }
    let Some((name, path, on_terminals)) = shells_of(Some("/bin/sh")).await else { return };
    assert_eq!((name.as_str(), path.as_str(), on_terminals.as_str()), ("sh", "/bin/sh", "/bin/sh"));
    // A shell of another language may be what the user wants to see on a terminal, but no client can drive it.
    let Some((_, path, on_terminals)) = shells_of(Some("/usr/bin/env")).await else { return };
    assert!(path.ends_with("/bash"), "{path}");
    assert_eq!(on_terminals, "/usr/bin/env");
}
