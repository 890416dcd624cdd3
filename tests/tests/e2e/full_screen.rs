//! Programs that fill the screen, in `shell`: left and attached to again, at the same size and at another, they show what they
//! show on a terminal that was never left.

use std::path::Path;

use codex_e2e::Server;
use codex_e2e::login::Home;
use codex_e2e::pty::Pty;

/// A program, and what is typed into it.
struct Case {
    /// Started by a shell in a directory with a file `lines` of its own.
    command: &'static str,
    /// What its screen shows once it is there.
    shows: &'static str,
    /// Typed before it is left, after it was taken up again, and at the other size.
    keys: [&'static str; 3],
    /// Typed to end it.
    ends: &'static str,
    /// What of its screen does not change by itself.
    view: fn(&vt100::Screen) -> String,
}

/// Everything that a terminal shows: text, colours, cursor, and what keys and mouse are to send.
fn everything(screen: &vt100::Screen) -> String {
    let modes = (screen.alternate_screen(), screen.application_cursor(), screen.bracketed_paste());
    format!("{}{}{modes:?}", screen.contents_formatted(), screen.input_mode_formatted())
}

/// The words of a screen of figures that change by themselves.
fn words(screen: &vt100::Screen) -> String {
    let shown = screen.contents();
    let lines = shown.lines().map(|line| {
        let plain = line.replace(|letter: char| !letter.is_alphabetic(), " ");
        let words: Vec<&str> = plain.split_whitespace().filter(|word| word.len() > 1).collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

const VIM: Case = Case {
    command: "vim -u NONE -i NONE -n -N lines",
    shows: "line 20",
    keys: [":set number hlsearch\r/line 7\r", "40jA more\x1b", "ggOabove\x1b:split\r"],
    ends: ":qa!\r",
    view: everything,
};

const LESS: Case = Case {
    command: "less lines",
    shows: "line 20",
    keys: ["/line 7\r", "fj", "b-N\r"],
    ends: "\rq",
    view: everything,
};

const HTOP: Case = Case {
    // The same process for both, whatever else runs; its figures change.
    command: "HTOPRC=htoprc htop -d 100 -p 1",
    shows: "F10Quit",
    keys: ["t", "H", "I"],
    ends: "q",
    view: words,
};

const TMUX: Case = Case {
    // The line that starts it holds no word that it shows. Its status line has no name of the machine and no time.
    command: "tmux -S socket -f conf new 'echo in\"\"side; exec timeout 300 cat'",
    shows: "inside",
    keys: ["one\rtwo\r", "\x02%", "three\r\x02\""],
    ends: "\x02&",
    view: everything,
};

/// A directory with what the programs show.
fn prepared(at: &Path) {
    std::fs::create_dir(at).unwrap();
    let lines: String = (1..=200).map(|number| format!("line {number}\n")).collect();
    std::fs::write(at.join("lines"), lines).unwrap();
    std::fs::write(
        at.join("conf"),
        "set -g default-shell /bin/sh\nset -g default-command 'exec timeout 300 cat'\nset -g status-right ''\n\
         set -g status-left ''\nset -g automatic-rename off\nunbind &\nbind & kill-server\nset -g escape-time 0\n",
    )
    .unwrap();
}

async fn comes_back(case: &Case) {
    let home = Home::new();
    std::fs::write(home.beside(".profile"), "PS1='ready$ '\n").unwrap();
    let server = Server::builder().env("HOME", home.beside("").to_str().unwrap()).start().await;
    let added = home.run(&["exec-server", "env", "add", "box", &server.url, "--use"]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    prepared(&home.beside("here"));
    prepared(&home.beside("there"));
    let line = |place: &str| {
        format!("cd {} && exec env TERM=xterm LC_ALL=C.UTF-8 {}", home.beside(place).display(), case.command)
    };

    let mut never_left = Pty::program(&home, 24, 80, Path::new("/bin/sh"), &["-c", &line("here")]);
    never_left.shows(case.shows).await;
    let mut shell = Pty::start(&home, 24, 80, &["exec-server", "shell", "--name", "work"]);
    shell.shows("ready$").await;
    shell.types(&format!("{}\r", line("there")));
    shell.shows(case.shows).await;
    for (keys, (rows, cols)) in case.keys.into_iter().zip([(24, 80), (30, 100), (18, 60)]) {
        for terminal in [&mut never_left, &mut shell] {
            terminal.types(keys);
        }
        shell.shows_what(&never_left, case.view).await;
        shell.types("\x1c");
        assert_eq!(shell.ended().await.code(), Some(0), "Ctrl-\\ leaves it");
        never_left.resize(rows, cols);
        shell = Pty::start(&home, rows, cols, &["exec-server", "attach", "work"]);
        shell.shows_what(&never_left, case.view).await;
    }
    let mut codes = Vec::new();
    for terminal in [&mut never_left, &mut shell] {
        terminal.types(case.ends);
        codes.push(terminal.ended().await.code());
    }
    assert_eq!(codes[0], codes[1], "{}", case.command);
}

#[tokio::test]
async fn vim_comes_back_as_it_was() {
    comes_back(&VIM).await;
}

#[tokio::test]
async fn less_comes_back_as_it_was() {
    comes_back(&LESS).await;
}

#[tokio::test]
async fn htop_comes_back_as_it_was() {
    comes_back(&HTOP).await;
}

#[tokio::test]
async fn tmux_comes_back_as_it_was() {
    comes_back(&TMUX).await;
}
