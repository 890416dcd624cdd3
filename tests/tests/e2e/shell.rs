//! `shell` and `attach` on a real terminal: keys, sizes, leaving and coming back.

use codex_e2e::login::Home;
use codex_e2e::pty::Pty;
use codex_e2e::{Cutter, Server};

/// What a login shell reads, bash and others alike.
const PROFILE: &str = "PS1='ready$ '\n";

/// A home directory in which this server is the environment in use.
async fn at(url: &str) -> Home {
    let home = Home::new();
    let added = home.run(&["exec-server", "env", "add", "box", url, "--use"]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    home
}

/// A server whose shells are plain and quick, and say nothing by themselves.
async fn plain() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".profile"), PROFILE).unwrap();
    let server = Server::builder().env("HOME", directory.path().to_str().unwrap()).start().await;
    (directory, server)
}

#[tokio::test]
async fn a_shell_is_left_and_found_again_with_its_screen_and_at_another_size() {
    let (_directory, server) = plain().await;
    let home = at(&server.url).await;
    let mut shell = Pty::start(&home, 24, 80, &["exec-server", "shell", "box", "--name", "work"]);
    shell.shows("ready$").await;
    shell.types("stty size; word=kept; printf 'sea%s\\n' rch\r");
    shell.shows("search").await;
    assert!(shell.screen(24, 80).contains("24 80"), "{}", shell.screen(24, 80));
    shell.types("\x1c");
    assert_eq!(shell.ended().await.code(), Some(0), "Ctrl-\\ leaves it");
    shell.shows("left work running").await;

    let ps = home.run(&["exec-server", "ps"]).await.stdout;
    assert!(ps.starts_with("work\trunning ") && ps.contains("\tyes\t"), "{ps}");

    let mut again = Pty::start(&home, 30, 100, &["exec-server", "attach", "wo"]);
    again.until(30, 100, |screen| screen.contains("search")).await;
    again.types("echo $word; stty size\r");
    again.until(30, 100, |screen| screen.contains("\nkept\n30 100")).await;
    again.resize(20, 60);
    // The change is on its way for a moment.
    again.types("until stty size | grep -q '20 60'; do sleep 0.05; done; printf 'si%s\\n' zed\r");
    again.until(30, 100, |screen| screen.contains("\nsized")).await;
    again.types("\r~d");
    assert_eq!(again.ended().await.code(), Some(0));
    let mut last = Pty::start(&home, 24, 80, &["exec-server", "attach", "work"]);
    last.shows("kept").await;
    last.types("exit 5\r");
    assert_eq!(last.ended().await.code(), Some(5), "the shell's own code");
}

#[tokio::test]
async fn a_full_screen_program_comes_back_as_it_was() {
    let (_directory, server) = plain().await;
    let home = at(&server.url).await;
    let script =
        "printf '\\033[?1049h\\033[2J\\033[5;10Hmiddle\\033[1;1Htop'; read key; printf '\\033[?1049lover\\n'";
    let id = home.run(&["exec-server", "run", "-d", "-t", "--", "sh", "-c", script]).await.stdout;
    let id = id.trim_end();
    let mut first = Pty::start(&home, 24, 80, &["exec-server", "attach", id]);
    first.until(24, 80, |screen| screen.starts_with("top\n\n\n\n         middle")).await;
    first.types("~d");
    assert_eq!(first.ended().await.code(), Some(0));
    // The terminal is given back.
    first.until(24, 80, |screen| !screen.contains("middle")).await;
    let mut second = Pty::start(&home, 24, 80, &["exec-server", "attach", id]);
    second.until(24, 80, |screen| screen.starts_with("top\n\n\n\n         middle")).await;
    second.types("\r");
    assert_eq!(second.ended().await.code(), Some(0));
    second.shows("over").await;
}

#[tokio::test]
async fn keys_of_ours_are_known_and_others_go_through() {
    let (_directory, server) = plain().await;
    let home = at(&server.url).await;
    let mut shell = Pty::start(&home, 24, 80, &["exec-server", "shell", "--name", "keys"]);
    shell.shows("ready$").await;
    shell.types("~?");
    shell.shows("leaves the program running").await;
    shell.types("trap 'echo got quit' QUIT; echo ar''med\r");
    shell.shows("armed").await;
    shell.types("\x1c\x1c");
    shell.shows("got quit").await;
    shell.types("\r~.");
    assert_eq!(shell.ended().await.code(), Some(255));
    let ps = home.run(&["exec-server", "ps", "-q"]).await.stdout;
    assert_eq!(ps, "", "~. ends the shell");
    let mut plain = Pty::start(&home, 24, 80, &["exec-server", "shell", "--escape", "none"]);
    plain.shows("ready$").await;
    plain.types("~.\x15printf 'no%s\\n' ne; exit 3\r");
    plain.shows("none").await;
    assert_eq!(plain.ended().await.code(), Some(3));
}

#[tokio::test]
async fn the_newest_writes_the_older_is_told_and_a_watcher_only_watches() {
    let (_directory, server) = plain().await;
    let home = at(&server.url).await;
    let mut first = Pty::start(&home, 24, 80, &["exec-server", "shell", "--name", "both"]);
    first.shows("ready$").await;
    let mut watcher = Pty::start(&home, 24, 80, &["exec-server", "attach", "--read-only", "both"]);
    watcher.shows("ready$").await;
    first.types("printf 'fi%s\\n' rst\r");
    watcher.shows("first").await;
    watcher.types("printf 'ne%s\\n' ver\r");
    let mut second = Pty::start(&home, 24, 80, &["exec-server", "attach", "both"]);
    first.shows("another terminal writes now").await;
    second.types("printf 'sec%s\\n' ond\r");
    for terminal in [&first, &watcher, &second] {
        terminal.shows("second").await;
        assert!(!terminal.screen(24, 80).contains("never\n"), "{}", terminal.screen(24, 80));
    }
    second.types("exit\r");
    for terminal in [&mut first, &mut watcher, &mut second] {
        assert_eq!(terminal.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_lost_connection_says_so_and_comes_back_with_the_screen() {
    let (_directory, server) = plain().await;
    let cutter = Cutter::start(server.address()).await;
    let home = at(&cutter.url().replace("http://", "ws://")).await;
    let mut shell = Pty::start(&home, 24, 80, &["exec-server", "shell"]);
    shell.shows("ready$").await;
    shell.types("printf 'bef%s\\n' ore\r");
    shell.shows("before").await;
    cutter.cut();
    // The screen is shown anew over these words.
    shell.says("the connection is back").await;
    shell.types("printf 'af%s\\n' ter\r");
    shell.shows("after").await;
    assert!(shell.screen(24, 80).contains("before"), "{}", shell.screen(24, 80));
    shell.types("exit 4\r");
    assert_eq!(shell.ended().await.code(), Some(4));
}

#[tokio::test]
async fn a_shell_of_this_machine_ends_with_its_command() {
    let home = Home::new();
    std::fs::write(home.beside(".profile"), PROFILE).unwrap();
    let mut shell = Pty::start(&home, 24, 80, &["exec-server", "shell"]);
    shell.shows("ready$").await;
    shell.types("~d");
    shell.shows("it can't be left").await;
    shell.types("\rexit 6\r");
    assert_eq!(shell.ended().await.code(), Some(6));
}
