//! The escape suite: every attempt, for real, under each profile that has to stop it.

use super::attacker::asked;
use super::attacks::{PROFILES, all};
use super::bystander::Bystander;
use super::*;

pub(super) fn profile(name: &str, ground: &Ground) -> Value {
    let (root, project) = (special("root", "read"), special("project_roots", "write"));
    let binary = std::env::current_exe().expect("the test knows its own file");
    let kept = entry(&ground.uri("w/sub/deep/kept"), "read");
    match name {
        "read" => read_only(ground),
        "workspace" => workspace(ground),
        "deny" => ground.profile(
            json!([
                root,
                project,
                entry(&ground.uri("d"), "deny"),
                entry(&ground.uri("o/secret"), "deny"),
                kept
            ]),
            "restricted",
        ),
        "path" => ground
            .profile(json!([project, entry(binary.to_str().expect("text"), "read"), kept]), "restricted"),
        "wide" => ground.profile(
            json!([
                special("root", "write"),
                entry(&ground.uri("d"), "deny"),
                entry(&ground.uri("o/secret"), "deny")
            ]),
            "restricted",
        ),
        "filtered" | "transparent" => ground.profile(json!([root, project]), "restricted"),
        "online" => ground.profile(json!([root, project]), "enabled"),
        _ => ground.sandbox(json!({"type": "external", "network": "restricted"})),
    }
}

/// What is asked for beside the profile.
pub(super) fn network_of(name: &str) -> Value {
    if name == "filtered" {
        // All that can be allowed is: even so the server itself is out of reach.
        let domains = json!({"*": "allow", "localhost": "allow", "127.0.0.1": "allow"});
        let settings = json!({"allowLocalBinding": true, "domains": domains});
        json!({"networkProxy": {"proxy": crate::network::proxy(settings)}})
    } else if name == "transparent" {
        // A device that leads out, and rules by which nothing goes there.
        let settings = json!({"transparentTcp": true, "domains": {"nowhere.test": "allow"}});
        json!({"networkProxy": {"proxy": crate::network::proxy(settings)}})
    } else {
        json!({})
    }
}

/// Whether programs can have network devices here: for that profile.
fn has_devices() -> bool {
    let there = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok();
    if !there {
        eprintln!("SKIPPED: no network devices, /dev/net/tun is not there or closed to this user");
    }
    there
}

#[tokio::test]
async fn none_of_the_attempts_gets_through() {
    // Where nothing but reading is enforced, that is attacked.
    if !enforceable() && !super::promises::held(&[], "read-only") {
        return;
    }
    let (mut held, mut through) = (0, Vec::new());
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        for name in PROFILES {
            // Without namespaces the others are refused up front, which has its own test.
            if namespaces == "off" && !["read", "external"].contains(&name) {
                continue;
            }
            if name == "transparent" && !has_devices() {
                continue;
            }
            let ground = Ground::new();
            let sandbox = profile(name, &ground);
            let bystander = Bystander::new();
            let mut asked = asked(&format!("profile:{name}"), &ground);
            asked.insert(1, bystander.variable());
            let port = server.url.rsplit(':').next().expect("a port").trim_end_matches('/');
            asked.insert(1, format!("{}={port}", super::attacker::SERVER));
            let ran = run_with(&mut client, &ground, &sandbox, asked, network_of(name)).await;
            let lines = |word: &str| ran.output.lines().filter(|line| line.starts_with(word)).count();
            let context = format!("{name} with namespaces {namespaces}");
            let escaped = ran.output.lines().filter(|line| line.starts_with("ESCAPED"));
            let before = through.len();
            through.extend(escaped.map(|line| format!("{context}: {line}")));
            let expected =
                all(&ground.root).iter().filter(|attack| attack.stopped_by.contains(&name)).count();
            let made = lines("held") + through.len() - before;
            assert_eq!(made, expected, "{context}: every attempt was made: {}", ran.output);
            held += expected;
            let is_open = ["external", "wide"].contains(&name);
            ground.is_untouched(if is_open { &["w/", "o/"] } else { &["w/"] });
            for protected in ["w/.git/config", "w/.git/hooks/post", "w/.codex/config.toml"] {
                let text = std::fs::read_to_string(ground.at(protected)).expect("it is there");
                assert!(is_open || !text.contains("evil"), "{context}: {protected}");
            }
            assert!(!ground.at("w/.agents").join("made").exists(), "{context}");
        }
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
    assert!(held > 1000, "only {held} attempts");
}

/// Whether an attempt is on a name that is protected in a workspace.
fn is_on_protected_names(name: &str) -> bool {
    ["w/.git", "w/.codex", "protected", "make something in it", "remove its place"]
        .iter()
        .any(|part| name.contains(part))
}

#[tokio::test]
async fn where_protected_names_are_given_up_nothing_else_is() {
    if !enforceable() {
        return;
    }
    let flags = ["--sandbox-namespaces", "off", "--without-namespaces", "unprotected-names"];
    let server = Server::builder().args(flags).start().await;
    let mut client = server.client().await;
    for name in ["read", "workspace", "online", "external"] {
        let ground = Ground::new();
        let sandbox = profile(name, &ground);
        let expected = all(&ground.root).iter().filter(|attack| attack.stopped_by.contains(&name)).count();
        let bystander = Bystander::new();
        let mut asked = asked(&format!("profile:{name}"), &ground);
        asked.insert(1, bystander.variable());
        let ran = run(&mut client, &ground, &sandbox, asked).await;
        let lines = |word: &'static str| ran.output.lines().filter(move |line| line.starts_with(word));
        let escaped: Vec<&str> = lines("ESCAPED").filter(|line| !is_on_protected_names(line)).collect();
        assert!(escaped.is_empty(), "{name}: {escaped:?}");
        let made = lines("held").count() + lines("ESCAPED").count();
        assert_eq!(made, expected, "{name}: every attempt was made: {}", ran.output);
        ground.is_untouched(if name == "external" { &["w/", "o/"] } else { &["w/"] });
    }
}

#[tokio::test]
async fn the_attempts_work_where_nothing_stops_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ground = Ground::new();
    let attempts: Vec<String> = all(&ground.root)
        .into_iter()
        .filter(|attack| attack.works_outside)
        .map(|attack| attack.name)
        .collect();
    assert!(attempts.len() >= 120, "{}", attempts.len());
    let (mut works, mut not) = (0, Vec::new());
    for chosen in attempts.chunks(1) {
        // Each on a ground of its own, since they destroy it.
        let ground = Ground::new();
        let sandbox = ground.sandbox(json!({"type": "disabled"}));
        let bystander = Bystander::new();
        let mut asked = asked(&chosen.join(","), &ground);
        asked.insert(1, bystander.variable());
        let ran = run(&mut client, &ground, &sandbox, asked).await;
        if ran.output.contains("ESCAPED") {
            works += 1;
        } else {
            not.push(ran.output);
        }
    }
    // Some need an administrator, a file system's flags, or another place than this process's own.
    assert!(works * 10 >= attempts.len() * 8, "{works} of {}: {not:?}", attempts.len());
}

/// `nobody`, who owns nothing that matters.
pub(super) const NOBODY: u32 = 65534;

/// Who runs `codex sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    Root,
    /// An ordinary user who may make user namespaces.
    Ordinary,
    /// One who may not.
    WithoutNamespaces,
}

/// Those that there can be here: another user only where this one is root, and can be given the binary.
pub(super) fn users() -> Vec<User> {
    if !rustix::process::geteuid().is_root() {
        return vec![User::Root];
    }
    let ordinary = [User::Ordinary, User::WithoutNamespaces].into_iter().filter(|user| {
        match user.codex().arg("doctor").output() {
            // Without namespaces it says so; on older kernels nothing is enforced then.
            Ok(output) if *user == User::WithoutNamespaces => {
                output.status.code() == Some(1)
                    && String::from_utf8_lossy(&output.stdout).contains("\nok      read-only:")
            }
            Ok(output) if output.status.success() => true,
            other => {
                eprintln!("SKIPPED: no sandbox as {user:?}: {other:?}");
                false
            }
        }
    });
    [User::Root].into_iter().chain(ordinary).collect()
}

impl User {
    /// The binary, as this user runs it. The tests may run under nohup, which it must not inherit.
    pub(super) fn codex(self) -> std::process::Command {
        use std::os::unix::process::CommandExt;
        const ENV: [&str; 2] = ["env", "--default-signal=HUP,INT,QUIT"];
        let codex = codex_e2e::binary::codex();
        match self {
            Self::Root | Self::Ordinary => {
                let mut command = std::process::Command::new(ENV[0]);
                if self == Self::Ordinary {
                    command.uid(NOBODY).gid(NOBODY);
                }
                command.arg(ENV[1]).arg(codex);
                command
            }
            Self::WithoutNamespaces => {
                // In a user namespace in which there can be no further one, and without any capability in it.
                let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                              exec setpriv --bounding-set -all --inh-caps -all -- \"$@\"";
                let mut command = std::process::Command::new("unshare");
                command.uid(NOBODY).gid(NOBODY).args(["-U", "-r", "sh", "-c", script, "sh"]);
                command.args(ENV).arg(codex);
                command
            }
        }
    }

    /// Whether this user's programs see nobody else's processes.
    pub(super) fn has_own_pids(self) -> bool {
        let doctor = self.codex().arg("doctor").output().expect("it runs");
        String::from_utf8_lossy(&doctor.stdout).contains("processes: programs can have")
    }

    /// Whether a profile can be enforced for this user; others are refused up front, which has its own test.
    pub(super) fn may_have(self, profile: &str) -> bool {
        self != Self::WithoutNamespaces || ["read", "external"].contains(&profile)
    }

    /// Gives the user the ground, as far as the programs' own files go.
    pub(super) fn owns(self, ground: &Ground) {
        if self == Self::Root {
            return;
        }
        let mut queue = vec![ground.root.clone()];
        while let Some(path) = queue.pop() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).expect("readable");
                queue.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        }
    }

    /// Writes a file of the user's.
    pub(super) fn wrote(self, path: &std::path::Path, text: &str) {
        std::fs::write(path, text).expect("written");
        if self != Self::Root {
            std::os::unix::fs::chown(path, Some(NOBODY), None).expect("root may");
        }
    }
}

#[test]
fn who_runs_it_by_hand_is_confined_as_well() {
    if !enforceable() {
        return;
    }
    let mut through = Vec::new();
    for user in users() {
        // The command line has no filtered network; that is tested with a server of this user's.
        for name in PROFILES
            .into_iter()
            .filter(|name| !["filtered", "transparent"].contains(name) && user.may_have(name))
        {
            let ground = Ground::new();
            user.owns(&ground);
            let file = tempfile::NamedTempFile::new().expect("a file");
            user.wrote(file.path(), &profile(name, &ground)["permissions"].to_string());
            let bystander = Bystander::new();
            let mut asked = asked(&format!("profile:{name}"), &ground);
            asked.insert(1, bystander.variable());
            let mut command = user.codex();
            command
                .arg("sandbox")
                .arg("--cwd")
                .arg(ground.at("w"))
                .arg("--profile")
                .arg(file.path())
                .arg("--");
            let output = command.args(asked).output().expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout);
            let escaped = said.lines().filter(|line| line.starts_with("ESCAPED"));
            through.extend(escaped.map(|line| format!("{name} as {user:?}: {line}")));
            let made = said.lines().filter(|line| line.starts_with("held")).count();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(made > 100 || !through.is_empty(), "{name} as {user:?}: {said} {told}");
            assert!(output.status.success() || !through.is_empty(), "{name} as {user:?}: {told}");
            ground.is_untouched(if ["external", "wide"].contains(&name) { &["w/", "o/"] } else { &["w/"] });
        }
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
}
