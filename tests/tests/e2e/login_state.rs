//! Commands that get the state of a login shell instead of logging in (21.9).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_e2e::client::start_params;
use codex_e2e::machine::eventually;
use codex_e2e::{Server, TestClient};
use serde_json::{Value, json};

use crate::sandbox::enforceable;

/// Start-up files that use all that a shell can have, and tell each login.
const PROFILE: &str = r#"
echo login >> "$HOME/logins"
echo "welcome from the profile"
echo "something went wrong" >&2
export SET="it's \"quoted\"
over lines"
export PATH="$HOME/bin:$PATH"
unset GIVEN
PLAIN='not exported'
LIST=(one "two three")
declare -A MAP=([key]='a value')
shopt -s expand_aliases extglob
alias hello='echo hello from an alias'
greet() { case "$1" in +([0-9])) echo "number $1";; *) echo "hello $1";; esac; }
shout() { echo "$1!"; }
export -f shout
set -o noglob
umask 027
. "$HOME/more"
"#;

/// Tells all of it.
const TELL: &str = r#"printf '%s|' "$SET" "$PATH" "${GIVEN-gone}" "$PLAIN" "${LIST[1]}" "${MAP[key]}" "$MORE" "$OWN"
hello; greet 5; greet you; bash -c 'shout loud'; umask; echo *; [[ ${SHELLOPTS} == *noglob* ]] && echo noglob"#;

/// The same for zsh.
const ZSH_PROFILE: &str = r#"
echo login >> "$HOME/logins"
echo "welcome from the profile"
echo "something went wrong" >&2
export SET="it's \"quoted\"
over lines"
path=($HOME/bin $path)
fpath=($HOME/functions $fpath)
unset GIVEN
PLAIN='not exported'
LIST=(one "two three")
typeset -A MAP=([key]='a value')
typeset -r FIXED=stays
alias hello='echo hello from an alias'
alias -g END='END; exit 3'
setopt extended_glob ksh_arrays
greet() { case "$1" in (<->) echo "number $1";; *) echo "hello $1";; esac; }
hash -d usr=/usr/share
set -o noglob
umask 027
. "$HOME/more"
"#;

/// Tells all of it.
const ZSH_TELL: &str = r#"printf '%s|' "$SET" "$PATH" "${GIVEN-gone}" "$PLAIN" "${LIST[1]}" "${MAP[key]}" "$MORE" "$OWN" "${fpath[0]}" "$FIXED"
hello; greet 5; greet you; umask; echo *; [[ -o noglob && -o extendedglob && -o login ]] && echo options; echo ~usr"#;

struct User {
    home: tempfile::TempDir,
    server: Server,
    client: TestClient,
    commands: u32,
}

impl User {
    async fn new(profile: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".bash_profile"), profile).unwrap();
        std::fs::write(home.path().join("more"), "MORE=first\n").unwrap();
        let server = Server::start().await;
        let client = server.client().await;
        Self { home, server, client, commands: 0 }
    }

    fn env(&self) -> Value {
        json!({"HOME": self.home.path(), "PATH": "/usr/local/bin:/usr/bin:/bin", "GIVEN": "x", "OWN": "mine"})
    }

    /// What a command prints on stdout and stderr, and its exit code.
    async fn run(&mut self, argv: &[&str], more: Value) -> (String, String, i64) {
        self.commands += 1;
        let id = format!("c{}", self.commands);
        let mut params = json!({"env": self.env(), "envPolicy": null, "cwd": "/tmp"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.client.ok("process/start", start_params(&id, argv, params)).await;
        let ended = self.client.finish(&id).await;
        (ended.stdout(), ended.text("stderr"), ended.code())
    }

    async fn with_snapshot(&mut self, text: &str) -> (String, String, i64) {
        self.run(&["/bin/bash", "-lc", text], snapshot("scope")).await
    }

    fn logins(&self) -> usize {
        std::fs::read_to_string(self.home.path().join("logins")).unwrap_or_default().lines().count()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }
}

fn snapshot(scope: &str) -> Value {
    json!({"shellSnapshot": {"scopeId": scope, "shell": {"name": "bash", "path": "/bin/bash"}}})
}

fn there_is(shell: &str) -> bool {
    let there = Path::new(shell).exists();
    if !there {
        eprintln!("SKIPPED: there is no {shell}");
    }
    there
}

fn there_is_bash() -> bool {
    there_is("/bin/bash")
}

/// A sandbox that lets all be read, but for the directory `closed`.
fn sandbox(closed: &Path) -> Value {
    json!({
        "permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "restricted", "entries": [
            {"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"},
            {"path": {"type": "path", "path": format!("file://{}", closed.display())}, "access": "deny"},
        ]}},
        "cwd": "file:///tmp", "workspaceRoots": [], "windowsSandboxLevel": "disabled",
    })
}

#[tokio::test]
async fn a_remembered_login_is_the_login_without_its_noise_and_happens_once() {
    if !there_is_bash() {
        return;
    }
    let mut user = User::new(PROFILE).await;
    let info = user.client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["shellSnapshotV2"], true);
    let (plain, _, code) = user.run(&["/bin/bash", "-lc", TELL], json!({})).await;
    let expected = plain.strip_prefix("welcome from the profile\n").unwrap();
    assert_eq!((user.logins(), code), (1, 0), "{plain}");
    assert!(
        expected.contains("|gone|not exported|two three|a value|first|mine|hello from an alias"),
        "{plain}"
    );
    for _ in 0..3 {
        let (stdout, stderr, code) = user.with_snapshot(TELL).await;
        assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
    }
    assert_eq!(user.logins(), 2, "one for all three");
    let (_, _, code) = user.with_snapshot("exit 7").await;
    assert_eq!(code, 7);
    let passing = json!({"env": {"HOME": user.home.path(), "PATH": "/usr/local/bin:/usr/bin:/bin", "GIVEN": "x",
        "OWN": "mine", "CODEX_TOOL_CALL_ID": "another", "CODEX_THREAD_ID": "other"}});
    let mut more = snapshot("scope");
    more.as_object_mut().unwrap().extend(passing.as_object().unwrap().clone());
    let (stdout, ..) = user.run(&["/bin/bash", "-lc", "echo $CODEX_THREAD_ID $MORE"], more).await;
    assert_eq!(
        (stdout.as_str(), user.logins()),
        ("other first\n", 2),
        "what passes with each command is its own"
    );
    user.run(&["/bin/bash", "-lc", "true"], snapshot("another scope")).await;
    assert_eq!(user.logins(), 3);
    let mut more = snapshot("scope");
    more["env"] = json!({"HOME": user.home.path(), "PATH": "/bin", "OWN": "different"});
    let (stdout, ..) = user.run(&["/bin/bash", "-lc", "echo $OWN $PATH"], more).await;
    assert_eq!(user.logins(), 4, "another environment may make another state");
    assert!(stdout.starts_with("different ") && stdout.contains("/bin"), "{stdout}");
}

#[tokio::test]
async fn a_changed_start_up_file_is_noticed_before_the_next_command() {
    if !there_is_bash() {
        return;
    }
    let mut user = User::new(PROFILE).await;
    let more = "echo $MORE";
    assert_eq!(user.with_snapshot(more).await.0, "first\n");
    user.write("more", "MORE=second\n");
    assert_eq!(user.with_snapshot(more).await.0, "second\n", "a file that the profile reads");
    user.write(".bash_profile", "MORE=third; echo login >> $HOME/logins\n");
    assert_eq!(user.with_snapshot(more).await.0, "third\n");
    std::fs::remove_file(user.home.path().join(".bash_profile")).unwrap();
    user.write(".profile", "MORE=fourth\n");
    assert_eq!(user.with_snapshot(more).await.0, "fourth\n", "another file is read now");
    assert_eq!(user.logins(), 3);
}

#[tokio::test]
async fn zsh_has_its_login_remembered_too() {
    const ZSH: &str = "/usr/bin/zsh";
    if !there_is(ZSH) {
        return;
    }
    let mut user = User::new("").await;
    user.write(".zshenv", "ZDOTDIR=$HOME/dot\n");
    std::fs::create_dir(user.home.path().join("dot")).unwrap();
    user.write("dot/.zprofile", ZSH_PROFILE);
    let asked = json!({"shellSnapshot": {"scopeId": "s", "shell": {"name": "zsh", "path": ZSH}}});
    let (plain, _, code) = user.run(&[ZSH, "-lc", ZSH_TELL], json!({})).await;
    let expected = plain.strip_prefix("welcome from the profile\n").unwrap();
    assert!(expected.contains("|gone|not exported|two three|a value|first|mine|"), "{plain}");
    assert!(
        expected.contains("hello from an alias\nnumber 5\n") && expected.contains("options\n"),
        "{plain}"
    );
    assert_eq!((user.logins(), code), (1, 0), "{plain}");
    for _ in 0..3 {
        let (stdout, stderr, code) = user.run(&[ZSH, "-lc", ZSH_TELL], asked.clone()).await;
        assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
    }
    assert_eq!(user.logins(), 2, "one for all three");
    let (stdout, _, code) = user.run(&[ZSH, "-lc", "echo one END"], asked.clone()).await;
    assert_eq!((stdout.as_str(), code), ("one END\n", 3), "aliases of all kinds count");
    let in_our_words = json!({"loginEnvironment": "remembered"});
    assert_eq!(user.run(&["zsh", "-lc", "greet 7"], in_our_words).await.0, "number 7\n");
    user.write("dot/.zprofile", "MORE=changed\n");
    assert_eq!(
        user.run(&[ZSH, "-lc", "echo $MORE"], asked).await.0,
        "changed\n",
        "a file where a variable says"
    );
}

#[tokio::test]
async fn nothing_of_it_is_seen_by_others() {
    if !there_is_bash() {
        return;
    }
    let mut user = User::new("SECRET_OF_PROFILE=sesame-open\n").await;
    let text = r#"echo "$SECRET_OF_PROFILE"; ls -l /proc/$$/fd /proc/self/fd; echo told; sleep 1000; :"#;
    let mut more = snapshot("scope");
    more["env"] = user.env();
    more["envPolicy"] = Value::Null;
    user.client.start_with("p", ["/bin/bash", "-lc", text], more).await;
    let list = user.client.ok("process/list", json!({})).await;
    let pid = list["processes"][0]["pid"].as_u64().unwrap();
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let command_line = String::from_utf8(command_line).unwrap().replace('\0', " ");
    assert!(command_line.starts_with("/bin/bash -pc set +o privileged\nif ! . /dev/fd/3 "), "{command_line}");
    assert!(!command_line.contains("sesame") && !list.to_string().contains("sesame"));
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("sesame"));
    let told = user.client.output_until("p", "told\n").await;
    assert!(told.starts_with("sesame-open\n") && told.contains("-> pipe:"), "{told}");
    assert!(!told.contains("memfd"), "neither the command nor what it starts has the file: {told}");
    // What the server holds of it: no file on a disk, and for this user alone.
    let held = format!("/proc/{}/fd", user.server.pid());
    let held: Vec<_> = std::fs::read_dir(held).unwrap().map(|entry| entry.unwrap().path()).collect();
    let is_state = |path: &&std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:login"))
    };
    let states: Vec<_> = held.iter().filter(is_state).collect();
    assert_eq!(states.len(), 1, "{held:?}");
    assert_eq!(std::fs::metadata(states[0]).unwrap().permissions().mode() & 0o777, 0o400);
    assert!(std::fs::read_to_string(states[0]).unwrap().contains("sesame"));
}

#[tokio::test]
async fn what_is_not_a_login_or_can_not_be_remembered_runs_as_it_is() {
    if !there_is_bash() {
        return;
    }
    let mut user = User::new(PROFILE).await;
    for argv in [&["/bin/bash", "-c", "echo $MORE."][..], &["/bin/sh", "-c", "echo $MORE."]] {
        assert_eq!(user.run(argv, snapshot("scope")).await.0, ".\n");
    }
    assert_eq!(user.logins(), 0);
    // Each of these does something that no script can do again.
    for profile in ["exit 3\n", "exec /bin/bash --norc -c 'echo replaced'\n"] {
        user.write(".bash_profile", profile);
        let plain = user.run(&["/bin/bash", "-lc", "echo text"], json!({})).await;
        assert_eq!(user.with_snapshot("echo text").await, plain, "{profile}");
    }
    user.write(".bash_profile", "cd /usr\n");
    assert_eq!(user.with_snapshot("pwd").await.0, "/usr\n");
    let missing = json!({"shellSnapshot": {"scopeId": "s", "shell": {"name": "bash", "path": "/no/bash"}}});
    let mut params = missing;
    params["env"] = user.env();
    let params = start_params("x", ["/no/bash", "-lc", "true"], params);
    assert_eq!(user.client.refused("process/start", params).await, -32603);
}

#[tokio::test]
async fn a_client_that_asks_in_our_words_gets_the_same_and_on_a_terminal_too() {
    if !there_is_bash() {
        return;
    }
    let mut user = User::new(PROFILE).await;
    let remembered = json!({"loginEnvironment": "remembered"});
    for _ in 0..2 {
        assert_eq!(user.run(&["bash", "-lc", "greet 7"], remembered.clone()).await.0, "number 7\n");
    }
    assert_eq!(user.logins(), 1);
    let mut on_terminal = remembered;
    on_terminal["tty"] = true.into();
    on_terminal["env"] = user.env();
    on_terminal["envPolicy"] = Value::Null;
    user.client.start_with("t", ["bash", "-lc", "greet you; tty -s && echo terminal"], on_terminal).await;
    assert_eq!(user.client.finish("t").await.pty(), "hello you\r\nterminal\r\n");
    let other = start_params("x", ["true"], json!({"loginEnvironment": "forgotten"}));
    assert_eq!(user.client.refused("process/start", other).await, -32602);
}

/// A login sees what the command may see, and is remembered for that sandbox alone.
#[tokio::test]
async fn under_a_sandbox_the_login_is_one_under_that_sandbox() {
    if !there_is_bash() || !enforceable() {
        return;
    }
    let mut user =
        User::new("echo login >> $HOME/logins\n[[ -r $HOME/closed/secret ]] && . $HOME/closed/secret\n")
            .await;
    std::fs::create_dir(user.home.path().join("closed")).unwrap();
    user.write("closed/secret", "SECRET=open\n");
    let tell = "echo ${SECRET-closed}; shopt -q login_shell && echo login; tr '\\0' ' ' < /proc/$$/cmdline | head -c 70; \
                ls -l /proc/$$/fd";
    let mut confined = snapshot("scope");
    confined["sandbox"] = sandbox(&user.home.path().join("closed"));
    let read = "/bin/bash -pc set +o privileged\nif ! . /dev/fd/4 >/dev/null; then pri";
    for round in 0..3 {
        let (stdout, stderr, _) = user.run(&["/bin/bash", "-lc", tell], confined.clone()).await;
        assert!(stdout.starts_with(&format!("closed\n{read}")), "{round}: {stdout}");
        assert!(!stdout.contains("memfd") && !stderr.contains("failed"), "{round}: {stdout}{stderr}");
        // Nothing may be written there, which a login under a sandbox finds as well.
        assert_eq!(user.logins(), 0);
    }
    let (stdout, ..) = user.run(&["/bin/bash", "-lc", "echo ${SECRET-closed}"], snapshot("scope")).await;
    assert_eq!((stdout.as_str(), user.logins()), ("open\n", 1), "without a sandbox it is another");
    let mut other = confined.clone();
    std::fs::create_dir(user.home.path().join("more closed")).unwrap();
    other["sandbox"] = sandbox(&user.home.path().join("more closed"));
    let (stdout, ..) = user.run(&["/bin/bash", "-lc", "echo ${SECRET-closed}"], other).await;
    assert_eq!(stdout, "open\n", "under another sandbox it is another");
    user.write("closed/secret", "SECRET=changed\n");
    user.write(".bash_profile", "CHANGED=yes\n");
    let (stdout, ..) =
        user.run(&["/bin/bash", "-lc", "echo ${SECRET-closed} $CHANGED"], confined.clone()).await;
    assert_eq!(stdout, "closed yes\n", "a change is noticed before the next command");
    let mut on_terminal = confined;
    on_terminal["tty"] = true.into();
    on_terminal["env"] = user.env();
    on_terminal["envPolicy"] = Value::Null;
    user.client
        .start_with("t", ["/bin/bash", "-lc", "echo $CHANGED; tty -s && echo terminal"], on_terminal)
        .await;
    assert_eq!(user.client.finish("t").await.pty(), "yes\r\nterminal\r\n");
}

/// What a login starts under a sandbox belongs to no command, so it ends.
#[tokio::test]
async fn a_login_under_a_sandbox_leaves_nothing_running() {
    if !there_is_bash() || !enforceable() {
        return;
    }
    let mut user = User::new("").await;
    let mark = format!("86{}", std::process::id());
    user.write(
        ".bash_profile",
        &format!("setsid sleep {mark} >/dev/null 2>&1 </dev/null & disown\nMORE=mine\n"),
    );
    let mut more = snapshot("scope");
    more["sandbox"] = sandbox(Path::new("/nonexistent"));
    assert_eq!(user.run(&["/bin/bash", "-lc", "echo $MORE"], more).await.0, "mine\n");
    let runs = || {
        let processes = std::fs::read_dir("/proc").unwrap();
        let lines = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
        lines.filter(|line| *line == format!("sleep\0{mark}\0").as_bytes()).count()
    };
    eventually("it has ended", || runs() == 0).await;
}
