//! Sandboxes: what 14.2 says for programs and files, how confined programs behave, and what none of them gets out to.

mod attacker;
mod attacks;
mod bystander;
mod command;
mod doctor;
mod endings;
mod escapes;
mod files;
mod limits;
mod pids;
mod profiles;
mod programs;
mod promises;
mod root_write;
mod sockets;
mod stdio;
mod tables;
mod tools;

use std::path::PathBuf;

use codex_e2e::{Server, TestClient, client::start_params};
use serde_json::{Value, json};
pub(crate) use tools::serve;

/// Whether sandboxes can be enforced here, as the binary says itself; without, the tests here say so and pass, but in CI
/// they fail where the kernel is new enough.
pub(crate) fn enforceable() -> bool {
    static ENFORCEABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ENFORCEABLE.get_or_init(|| {
        let held = promises::held(&[], "workspace-write");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0_u32));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let must = version >= (6, 12) && std::env::var_os("CI").is_some();
        assert!(
            held || !must || promises::is_without_namespaces(),
            "sandboxes must be enforced on {release}"
        );
        if !held {
            eprintln!("SKIPPED: no sandboxes on this machine, Linux {release}");
        }
        held
    })
}

/// A workspace `w`, things outside in `o`, and what is denied in `d`.
pub(crate) struct Ground {
    _directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
    /// A port that TCP and UDP are listened for on, as by other programs of the machine.
    pub(crate) outside: u16,
    _listening: (std::net::TcpListener, std::net::UdpSocket),
}

/// Files of the ground, with their content.
const FILES: [(&str, &str); 9] = [
    ("w/file", "mine"),
    ("w/.git/config", "[core]"),
    ("w/.git/hooks/post", "hook"),
    ("w/.codex/config.toml", "trust"),
    ("w/sub/deep/kept", "kept"),
    ("o/precious", "precious"),
    ("o/sub/x", "x"),
    ("d/secret", "hidden words"),
    ("o/secret", "hidden words"),
];

impl Ground {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// One in some directory.
    pub(crate) fn below(directory: &std::path::Path) -> Self {
        let directory = tempfile::tempdir_in(directory).expect("a directory");
        let root = directory.path().canonicalize().expect("it exists");
        for (name, text) in FILES {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        // Programs of another user come in too.
        for name in ["", "w", "o", "d"] {
            use std::os::unix::fs::PermissionsExt;
            let path = root.join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("modes");
        }
        let (outside, listening) = (0..100)
            .find_map(|_| {
                let listener = std::net::TcpListener::bind("0.0.0.0:0").ok()?;
                let port = listener.local_addr().ok()?.port();
                Some((port, (listener, std::net::UdpSocket::bind(("0.0.0.0", port)).ok()?)))
            })
            .expect("a port that is free for both");
        Self { _directory: directory, root, outside, _listening: listening }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("text").to_owned()
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("file://{}", self.text(name))
    }

    /// Everything but the writable rest of the workspace is as it was.
    pub(crate) fn is_untouched(&self, but: &[&str]) {
        let mut names = Vec::new();
        let mut queue = vec![self.root.clone()];
        while let Some(directory) = queue.pop() {
            // What is free may go while this looks.
            let entries = match std::fs::read_dir(directory) {
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.expect("readable"),
            };
            for entry in entries {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(&self.root).expect("below").to_str().expect("text").to_owned();
                if path.is_dir() && !path.is_symlink() {
                    queue.push(path);
                }
                names.push(name);
            }
        }
        let known = |name: &String| {
            FILES.iter().any(|(file, _)| file == name || file.starts_with(&format!("{name}/")))
        };
        let free = |name: &String| but.iter().any(|free| name.starts_with(free));
        let new: Vec<&String> = names.iter().filter(|name| !known(name) && !free(name)).collect();
        assert!(new.is_empty(), "made outside of what is allowed: {new:?}");
        for (name, text) in FILES.iter().filter(|(name, _)| !free(&(*name).to_owned())) {
            let path = self.at(name);
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some(*text), "{name}");
            use std::os::unix::fs::PermissionsExt;
            let mode = path.metadata().expect("metadata").permissions().mode() & 0o7777;
            assert!(mode & 0o7022 == 0, "{name} has the mode {mode:o}");
        }
    }

    /// A profile of entries, with `w` as the workspace.
    pub(crate) fn profile(&self, entries: Value, network: &str) -> Value {
        let file_system = json!({"type": "restricted", "entries": entries});
        self.sandbox(json!({"type": "managed", "network": network, "file_system": file_system}))
    }

    pub(crate) fn sandbox(&self, permissions: Value) -> Value {
        json!({"permissions": permissions, "cwd": self.uri("w"), "windowsSandboxLevel": "disabled"})
    }
}

pub(crate) fn special(kind: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access})
}

pub(crate) fn entry(path: &str, access: &str) -> Value {
    json!({"path": {"type": "path", "path": path}, "access": access})
}

pub(crate) fn read_only(ground: &Ground) -> Value {
    ground.profile(json!([special("root", "read")]), "restricted")
}

pub(crate) fn workspace(ground: &Ground) -> Value {
    ground.profile(json!([special("root", "read"), special("project_roots", "write")]), "restricted")
}

/// What a confined program did.
pub(crate) struct Ran {
    pub(crate) code: i64,
    pub(crate) denied: bool,
    pub(crate) output: String,
}

/// Runs a program in the workspace under a sandbox.
pub(crate) async fn run<S: AsRef<str>>(
    client: &mut TestClient,
    ground: &Ground,
    sandbox: &Value,
    argv: impl IntoIterator<Item = S>,
) -> Ran {
    run_with(client, ground, sandbox, argv, json!({})).await
}

/// As [`run`], with more params.
pub(crate) async fn run_with<S: AsRef<str>>(
    client: &mut TestClient,
    ground: &Ground,
    sandbox: &Value,
    argv: impl IntoIterator<Item = S>,
    further: Value,
) -> Ran {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let id = format!("s{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut more = json!({"sandbox": sandbox, "cwd": ground.uri("w")});
    more.as_object_mut()
        .expect("an object")
        .extend(further.as_object().expect("an object of params").clone());
    let answer = client.ok("process/start", start_params(&id, argv, more)).await;
    assert_eq!(answer["sandboxType"], "linuxSeccomp");
    let ended = client.finish(&id).await;
    Ran {
        code: ended.code(),
        denied: ended.exited["sandboxDenied"] == true,
        output: format!("{}{}", ended.stdout(), ended.text("stderr")),
    }
}

/// Runs a shell command in the workspace under a sandbox.
pub(crate) async fn shell(client: &mut TestClient, ground: &Ground, sandbox: &Value, command: &str) -> Ran {
    run(client, ground, sandbox, ["/bin/sh", "-c", command]).await
}

/// Servers as they may be: with everything, with what an ordinary user may have, without Landlock, and without namespaces;
/// those of them that enforce anything here. Whichever has no namespaces is called "off".
pub(crate) async fn servers() -> Vec<(&'static str, Server)> {
    let mut servers = Vec::new();
    // Where time is short.
    let chosen = std::env::var("CODEX_E2E_MECHANISMS").ok();
    let is_chosen = |name: &str| chosen.as_ref().is_none_or(|names| names.split(',').any(|one| one == name));
    for (name, arguments) in promises::MECHANISMS.into_iter().filter(|(name, _)| is_chosen(name)) {
        if promises::held(arguments, "read-only") {
            let name = if promises::held(arguments, "workspace-write") { name } else { "off" };
            servers.push((name, Server::builder().args(arguments).start().await));
        }
    }
    assert!(!servers.is_empty(), "some sandboxes are enforced");
    servers
}
