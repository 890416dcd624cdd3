//! What typical errors say, word by word: what goes wrong after the command line was understood. (What the parser answers stands in
//! `cli/src/snapshots.rs`.) `CODEX_UPDATE_DOCS=1` rewrites `tests/snapshots/errors.txt`.

use std::fmt::Write as _;
use std::path::Path;

use codex_e2e::login::Home;

/// Commands of somebody who has named no environment but `box`, where nobody listens.
const SLIPS: [&str; 36] = [
    "exec-server run -E nosuch -- true",
    "exec-server run -E none -- true",
    "exec-server run -E box -- true",
    "exec-server run --url unix:///no/such.sock -- true",
    "exec-server run --url ws://127.0.0.1:1 --token-file /no/such -- true",
    "exec-server run --url ws://box.example:1 --token-file /no/such -- true",
    "exec-server run -- nosuch-program",
    "exec-server run -- /etc/passwd",
    "exec-server run --cwd /no/such -- true",
    "exec-server run --env-file /no/such -- true",
    "exec-server run -d -- true",
    "exec-server shell nosuch",
    "exec-server attach nightly",
    "exec-server ps",
    "exec-server ps -E box",
    "exec-server logs -E box nightly",
    "exec-server env add box ws://127.0.0.1:2",
    "exec-server env add two ftp://x",
    "exec-server env add two https://registry.example",
    "exec-server env add two ws://127.0.0.1:2 --resident",
    "exec-server env add two unix://relative",
    "exec-server env add two:x ws://127.0.0.1:2",
    "exec-server env use nosuch",
    "exec-server env rm nosuch",
    "exec-server env stop nosuch",
    "exec-server env status nosuch",
    "exec-server env status box",
    "exec-server cp nosuch :/tmp/nosuch",
    "exec-server cp nosuch:x .",
    "exec-server ls /no/such",
    "exec-server cat /no/such",
    "exec-server port-forward x",
    "exec-server --listen ws://0.0.0.0:0",
    "exec-server rendezvous --listen 0.0.0.0:0",
    "exec-server help nosuch",
    "login status",
];

#[tokio::test]
async fn typical_errors_are_told_as_written() {
    let mut home = Home::new();
    home.set("RUST_LOG", "");
    let added = home.run(&["exec-server", "env", "add", "box", "ws://127.0.0.1:1"]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    let own = home.beside("").display().to_string();
    let mut text = String::new();
    for line in SLIPS {
        let ended = home.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(ended.stdout, "", "{line}: {ended:?}");
        let said = ended.stderr.replace(own.trim_end_matches('/'), "~");
        let _ = write!(text, "$ codex {line}\n{said}exit code {}\n\n", ended.status.code().unwrap());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/errors.txt");
    if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).find(|(written, now)| written != now);
    assert!(
        written == text,
        "tests/snapshots/errors.txt is stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-e2e --test e2e errors::; \
         first change: {differs:?}"
    );
}
