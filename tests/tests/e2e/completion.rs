//! What a shell completes: names of environments and programs, as they are at that moment.

use std::process::Stdio;

use codex_e2e::Server;
use codex_e2e::client::guarded;
use codex_e2e::login::Home;
use tokio::process::Command;

/// What bash completes this line to; the last word is the one that was begun.
async fn completed(home: &Home, line: &str) -> Vec<String> {
    let script = format!(
        "source <(codex completion bash); COMP_WORDS=({line}); [[ '{line}' == *' ' ]] && COMP_WORDS+=(''); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _codex codex \"${{COMP_WORDS[COMP_CWORD]}}\" \
         \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let mut command = Command::new("bash");
    home.dress(&mut command);
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(codex_e2e::binary::codex(), directory.path().join("codex")).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    command.args(["--norc", "-c", &script]).env("PATH", path).env_remove("RUST_LOG").stdin(Stdio::null());
    let output = guarded("bash", command.output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn names_of_environments_and_programs_are_completed_where_they_may_stand() {
    let server = Server::start().await;
    let home = Home::new();
    for words in [
        &["env", "add", "box", &server.url, "--use"][..],
        &["env", "add", "bay", "ws://127.0.0.1:1"],
        &["run", "-d", "--name", "nightly", "--", "sleep", "1000"],
        &["run", "-d", "--name", "noon", "--", "true"],
    ] {
        let ended = home.run(&[&["exec-server"], words].concat()).await;
        assert_eq!(ended.status.code(), Some(0), "{words:?}: {ended:?}");
    }
    for (line, names) in [
        ("codex exec-server ps -E b", &["box", "bay"][..]),
        ("codex exec-server run --environment lo", &["local"]),
        ("codex exec-server env pause ", &["local", "box", "bay"]),
        ("codex exec-server shell ba", &["bay"]),
        ("codex exec-server logs n", &["nightly", "noon"]),
        ("codex exec-server logs -f -E box ni", &["nightly"]),
        ("codex exec-server kill nightly no", &["noon"]),
    ] {
        assert_eq!(completed(&home, line).await, names, "{line}");
    }
    // Where nobody answers, or no name may stand, it is as ever.
    assert_eq!(completed(&home, "codex exec-server logs -E bay n").await, [""; 1]);
    let flags = completed(&home, "codex exec-server logs --ta").await;
    assert_eq!(flags, ["--tail"]);
    let verbs = completed(&home, "codex exec-server po").await;
    assert_eq!(verbs, ["port-forward"]);
}
