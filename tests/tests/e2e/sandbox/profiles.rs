//! Profiles that people really write, each by programs and by file calls, as root and as an ordinary user.

mod table;

use std::path::Path;

use codex_e2e::base64;
use codex_e2e::machine::{alive, eventually, inner_pid_in};

use super::*;
use table::{ROWS, and, sub};

/// Another user than root; without other groups.
const NOBODY: u32 = 65534;
const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A server, and whose it is.
struct Host {
    name: &'static str,
    server: Server,
    is_ordinary: bool,
}

/// With everything, with what an ordinary user may have, and an ordinary user's, as far as there can be one here.
async fn hosts() -> Vec<Host> {
    let is_root = rustix::process::geteuid().is_root();
    let mut hosts = Vec::new();
    for namespaces in ["any", "user"] {
        let server = Server::builder().args(["--sandbox-namespaces", namespaces]).start().await;
        hosts.push(Host { name: namespaces, server, is_ordinary: !is_root });
    }
    let doctor = std::process::Command::new(AS_NOBODY[0])
        .args(&AS_NOBODY[1..])
        .arg(codex_e2e::binary::codex())
        .arg("doctor")
        .output();
    if is_root && doctor.is_ok_and(|doctor| doctor.status.success()) {
        let server = Server::builder().under(AS_NOBODY).start().await;
        hosts.push(Host { name: "nobody", server, is_ordinary: true });
    } else if is_root {
        eprintln!("SKIPPED: another user can't run the server here, or has no user namespaces");
    }
    hosts
}

impl Host {
    /// A ground that is this server's own, with more files.
    fn ground(&self, files: &[&str]) -> Ground {
        let ground = Ground::new();
        self.add(&ground, files);
        ground
    }

    fn add(&self, ground: &Ground, files: &[&str]) {
        for name in files {
            let path = ground.at(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, "hidden words").expect("a file");
        }
        self.own(&ground.root);
    }

    /// Gives a tree to the server's user.
    fn own(&self, path: &Path) {
        if !self.is_ordinary || !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
        if path.is_dir() && !path.is_symlink() {
            for entry in std::fs::read_dir(path).expect("readable") {
                self.own(&entry.expect("an entry").path());
            }
        }
    }
}

#[tokio::test]
async fn each_profile_does_what_it_says_for_programs() {
    if !enforceable() {
        return;
    }
    for host in hosts().await {
        let mut client = host.server.client().await;
        for row in &ROWS {
            let ground = host.ground(row.files);
            let sandbox = ground.profile((row.entries)(&ground), "restricted");
            let context = format!("{} ({})", row.name, host.name);
            // Each in a program of its own, since one may prepare what the next one finds.
            for _ in 0..2 {
                for command in row.refused {
                    let ran = shell(&mut client, &ground, &sandbox, command).await;
                    assert_ne!(ran.code, 0, "{context}: {command}: {}", ran.output);
                    assert!(!ran.output.contains("hidden words"), "{context}: {command}: {}", ran.output);
                }
            }
            for command in row.fine {
                let ran = shell(&mut client, &ground, &sandbox, command).await;
                assert_eq!(ran.code, 0, "{context}: {command}: {}", ran.output);
            }
            eventually(&format!("{context}: no placeholder is left"), || !ground.at("w/.agents").exists())
                .await;
        }
    }
}

#[tokio::test]
async fn each_profile_does_what_it_says_for_file_calls() {
    if !enforceable() {
        return;
    }
    for host in hosts().await {
        let mut client = host.server.client().await;
        for row in &ROWS {
            let ground = host.ground(row.files);
            let sandbox = ground.profile((row.entries)(&ground), "restricted");
            let context = format!("{} ({})", row.name, host.name);
            for (name, code) in row.unread {
                if *name == "w/link/secret" {
                    std::os::unix::fs::symlink("../d", ground.at("w/link")).expect("a link");
                }
                let params = json!({"path": ground.uri(name), "sandbox": sandbox});
                assert_eq!(client.refused("fs/readFile", params).await, *code, "{context}: {name}");
            }
            for (name, code) in row.closed {
                let params = json!({"path": ground.uri(name), "dataBase64": base64("x"), "sandbox": sandbox});
                assert_eq!(client.refused("fs/writeFile", params).await, *code, "{context}: {name}");
            }
            for name in row.written {
                let parent = name.rsplit_once('/').expect("a parent").0;
                let params = json!({"path": ground.uri(parent), "sandbox": sandbox});
                client.ok("fs/createDirectory", params).await;
                assert!(ground.at(parent).is_dir(), "{context}: {parent} stays");
                let params = json!({"path": ground.uri(name), "dataBase64": base64("x"), "sandbox": sandbox});
                client.ok("fs/writeFile", params).await;
                assert_eq!(
                    std::fs::read_to_string(ground.at(name)).ok().as_deref(),
                    Some("x"),
                    "{context}: {name}"
                );
            }
            assert!(!ground.at("w/.agents").exists() && !ground.at("w/a/b/secret").exists(), "{context}");
        }
    }
}

#[tokio::test]
async fn a_worktrees_own_git_directory_can_be_granted_and_is_protected_else() {
    if !enforceable() {
        return;
    }
    for host in hosts().await {
        let mut client = host.server.client().await;
        let ground = host.ground(&["repo/.git/HEAD", "repo/.git/worktrees/t/HEAD", "t/file"]);
        std::fs::write(ground.at("t/.git"), format!("gitdir: {}\n", ground.text("repo/.git/worktrees/t")))
            .expect("written");
        host.own(&ground.root);
        for (granted, fine) in
            [("t", false), ("repo", false), ("repo/.git/worktrees/t", true), ("repo/.git", true)]
        {
            let entries = and(&[entry(&ground.uri(granted), "write")]);
            let mut sandbox = ground.profile(entries, "restricted");
            sandbox["cwd"] = json!(ground.uri("t"));
            let command = "echo x > ../repo/.git/worktrees/t/index";
            let ran = run_with(
                &mut client,
                &ground,
                &sandbox,
                ["sh", "-c", command],
                json!({"cwd": ground.uri("t")}),
            )
            .await;
            assert_eq!(ran.code == 0, fine, "{granted} ({}): {}", host.name, ran.output);
            let params = json!({"path": ground.uri("repo/.git/worktrees/t/lock"), "dataBase64": "", "sandbox": sandbox});
            assert_eq!(client.call("fs/writeFile", params).await.is_ok(), fine, "{granted} ({})", host.name);
            let params = json!({"path": ground.uri("t/.git"), "dataBase64": "", "sandbox": sandbox});
            client.call("fs/writeFile", params).await.expect_err("the file itself is protected");
        }
    }
}

#[tokio::test]
async fn a_directory_that_was_shut_to_be_forgotten_stays_shut() {
    if !enforceable() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    for host in hosts().await.into_iter().filter(|host| host.is_ordinary) {
        let mut client = host.server.client().await;
        let ground = host.ground(&["w/shut/.env", "w/glob/deep/.env"]);
        let glob =
            json!({"path": {"type": "glob_pattern", "pattern": ground.text("w/**/.env")}, "access": "deny"});
        for (directory, deny) in [("shut", entry(&ground.uri("w/shut/.env"), "deny")), ("glob", glob)] {
            let sandbox = ground.profile(and(std::slice::from_ref(&deny)), "restricted");
            for mode in [0o000, 0o444, 0o111] {
                let shut = ground.at("w").join(directory);
                std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(mode)).expect("modes");
                let command = format!("chmod 755 {directory}; cat {directory}/.env {directory}/deep/.env");
                let ran = shell(&mut client, &ground, &sandbox, &command).await;
                let is_read = ran.output.contains("hidden words");
                assert!(!is_read, "{deny} {mode:o} ({}): {}", host.name, ran.output);
                std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o755)).expect("modes");
            }
        }
    }
}

#[tokio::test]
async fn large_trees_and_many_matches_are_no_reason_to_refuse() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    for directory in 0..60 {
        std::fs::create_dir_all(ground.at(&format!("w/d{directory}"))).expect("a directory");
        for file in 0..225 {
            let kind = if file < 25 { "key" } else { "txt" };
            std::fs::write(ground.at(&format!("w/d{directory}/{file}.{kind}")), "hidden words")
                .expect("a file");
        }
    }
    let glob = |pattern: &str| json!({"path": {"type": "glob_pattern", "pattern": ground.text(pattern)}, "access": "deny"});
    let mut more: Vec<Value> = (0..14).map(|number| glob(&format!("w/**/*.none{number}"))).collect();
    more.push(glob("w/**/*.key"));
    let sandbox = ground.profile(and(&more), "restricted");
    for (name, server) in servers().await.into_iter().filter(|(name, _)| *name != "off") {
        let mut client = server.client().await;
        let command =
            "cat d7/30.txt > read && ln read d7/hard && ! grep hidden d7/3.key d59/24.key && rm d7/hard";
        let ran = shell(&mut client, &ground, &sandbox, command).await;
        assert_eq!(ran.code, 0, "{name}: {}", ran.output);
        assert!(!ran.output.contains("hidden words"), "{name}");
        let params = json!({"path": ground.uri("w/d30/12.key"), "sandbox": sandbox});
        assert_eq!(client.refused("fs/readFile", params).await, -32600, "{name}");
        client.ok("fs/readFile", json!({"path": ground.uri("w/d30/100.txt"), "sandbox": sandbox})).await;
    }
}

#[tokio::test]
async fn a_workspace_of_somebody_else_needs_no_placeholders() {
    if !enforceable() || !rustix::process::geteuid().is_root() {
        return;
    }
    for host in hosts().await.into_iter().filter(|host| host.is_ordinary) {
        let mut client = host.server.client().await;
        let ground = Ground::new();
        std::fs::create_dir(ground.at("w/mine")).expect("a directory");
        host.own(&ground.at("w/mine"));
        let sandbox = workspace(&ground);
        let command = "echo x > new && ! mkdir ../.agents && ! mkdir ../new";
        let more = json!({"cwd": ground.uri("w/mine")});
        let ran = run_with(&mut client, &ground, &sandbox, ["sh", "-c", command], more).await;
        assert_eq!(ran.code, 0, "{}", ran.output);
        let params = json!({"path": ground.uri("w/mine/by-call"), "dataBase64": "", "sandbox": sandbox});
        client.ok("fs/writeFile", params).await;
        assert!(ground.at("w/mine/new").exists() && ground.at("w/mine/by-call").exists());
        // Who could let it be made by changing a mode is refused as before.
        use std::os::unix::fs::PermissionsExt;
        host.own(&ground.at("w"));
        std::fs::set_permissions(ground.at("w"), std::fs::Permissions::from_mode(0o555)).expect("modes");
        let more = json!({"cwd": ground.uri("w/mine"), "sandbox": sandbox});
        assert_eq!(client.refused("process/start", start_params("no", ["true"], more)).await, -32600);
    }
}

#[tokio::test]
async fn a_workspace_in_shared_memory_is_where_it_was() {
    if !enforceable() {
        return;
    }
    for host in hosts().await {
        let mut client = host.server.client().await;
        let ground = Ground::below(Path::new("/dev/shm"));
        host.add(&ground, &["w/sub/.env"]);
        let deny = entry(&ground.uri("w/sub/.env"), "deny");
        for (name, sandbox, writable) in [
            ("read-only", read_only(&ground), false),
            ("workspace", ground.profile(and(std::slice::from_ref(&deny)), "restricted"), true),
            (
                "workspace alone",
                ground.profile(json!([special("project_roots", "write"), deny]), "restricted"),
                true,
            ),
        ] {
            let context = format!("{name} ({})", host.name);
            let command = "cat file && cat ../w/file && ! echo x > .git/config && ! echo x > ../o/new && touch /dev/shm/x";
            let ran = shell(&mut client, &ground, &sandbox, command).await;
            assert_eq!(ran.code, 0, "{context}: {}", ran.output);
            assert!(!Path::new("/dev/shm/x").exists(), "{context}: nobody else sees what else it has there");
            let ran = shell(&mut client, &ground, &sandbox, "echo x > new && ! grep hidden sub/.env").await;
            assert_eq!(ran.code == 0, writable, "{context}: {}", ran.output);
            assert_eq!(ground.at("w/new").exists(), writable, "{context}");
            let params = json!({"path": ground.uri("w/by-call"), "dataBase64": "", "sandbox": sandbox});
            assert_eq!(client.call("fs/writeFile", params).await.is_ok(), writable, "{context}");
            assert_eq!(ground.at("w/by-call").exists(), writable, "{context}");
        }
    }
}

#[tokio::test]
async fn placeholders_outlive_neither_a_killed_server_nor_another_program() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let sandbox = workspace(&ground);
    let mut killed = Server::builder().alone().start().await;
    let mut client = killed.client().await;
    let more = json!({"sandbox": sandbox, "cwd": ground.uri("w")});
    client.ok("process/start", start_params("p", ["sh", "-c", "echo $$ > pid; exec sleep 1000"], more)).await;
    let pid = inner_pid_in(&ground.at("w/pid")).await;
    killed.signal(rustix::process::Signal::KILL);
    killed.ended().await;
    eventually("its program is gone", || !alive(pid)).await;
    assert!(ground.at("w/.agents").is_dir(), "it is there, or nothing is to be done");
    let server = Server::start().await;
    let mut client = server.client().await;
    // A long one and a short one: what the one needs doesn't go with the other.
    let more = json!({"sandbox": sandbox, "cwd": ground.uri("w"), "pipeStdin": true});
    let command = "echo up; read x; mkdir .agents && echo made; echo end";
    client.ok("process/start", start_params("long", ["sh", "-c", command], more)).await;
    client.output_until("long", "up").await;
    assert_eq!(shell(&mut client, &ground, &sandbox, "! mkdir .agents").await.code, 0);
    client.write("long", "\n").await;
    let ended = client.finish_after("long", 1).await;
    assert!(!ended.stdout().contains("made"), "{}", ended.stdout());
    eventually("the place is free", || !ground.at("w/.agents").exists()).await;
    std::fs::create_dir(ground.at("w/.agents")).expect("a directory of somebody's own");
    assert_eq!(shell(&mut client, &ground, &sandbox, "! touch .agents/x").await.code, 0);
    assert!(ground.at("w/.agents").is_dir(), "it stays");
}

#[tokio::test]
async fn without_namespaces_only_protected_names_are_given_up_and_only_where_it_is_said() {
    if !enforceable() {
        return;
    }
    let off = ["--sandbox-namespaces", "off"];
    let named = ["--sandbox-namespaces", "off", "--without-namespaces", "unprotected-names"];
    let by_file = tempfile::tempdir().expect("a directory");
    let setting = "[exec_server.sandbox]\nwithout_namespaces = \"unprotected-names\"\n";
    std::fs::write(by_file.path().join("config.toml"), setting).expect("written");
    let home = by_file.path().to_str().expect("text");
    for (server, is_allowed) in [
        (Server::builder().args(off), false),
        (Server::builder().args(named), true),
        (Server::builder().args(off).env("CODEX_HOME", home), true),
    ] {
        let server = server.start().await;
        assert_eq!(server.told().contains("`.agents` of a writable workspace are not protected"), is_allowed);
        let mut client = server.client().await;
        let ground = Ground::new();
        let explicit = |name: &str| {
            let mut entry = sub(name, "read");
            entry["missing_path_behavior"] = json!("skip");
            entry
        };
        let kept = entry(&ground.uri("w/sub/deep/kept"), "read");
        let denied = entry(&ground.uri("o"), "deny");
        // Profiles; whether they run, and whether they leave names unprotected.
        for (name, entries, runs, leaves) in [
            ("read-only", json!([special("root", "read")]), true, false),
            ("workspace", and(&[]), is_allowed, true),
            (
                "as clients send it",
                and(&[explicit(".git"), explicit(".codex"), explicit(".agents")]),
                is_allowed,
                true,
            ),
            ("the workspace alone", json!([special("project_roots", "write")]), is_allowed, true),
            (
                "another directory",
                json!([special("root", "read"), entry(&ground.uri("o/sub"), "write")]),
                is_allowed,
                false,
            ),
            ("something read-only in the workspace", and(std::slice::from_ref(&kept)), false, false),
            ("something denied elsewhere", and(std::slice::from_ref(&denied)), false, false),
            ("something denied in the workspace", and(&[entry(&ground.uri("w/sub"), "deny")]), false, false),
            (
                "something missing denied in the workspace",
                and(&[entry(&ground.uri("w/none"), "deny")]),
                false,
                false,
            ),
            ("all but a part", json!([special("root", "write"), denied.clone()]), false, false),
        ] {
            let sandbox = ground.profile(entries, "restricted");
            let more = json!({"sandbox": sandbox, "cwd": ground.uri("w")});
            let command =
                "echo x > new; echo x > .git/new; chmod 777 new; echo x > ../o/precious; echo x > ../o/new";
            let params = start_params(name, ["/bin/sh", "-c", command], more);
            let params_of_call =
                json!({"path": ground.uri("w/by-call"), "dataBase64": "", "sandbox": sandbox});
            if !runs {
                assert_eq!(client.refused("process/start", params).await, -32600, "{name}");
                assert_eq!(client.refused("fs/writeFile", params_of_call).await, -32600, "{name}");
                continue;
            }
            let answer = client.ok("process/start", params).await;
            assert_eq!(answer.get("unprotectedNames"), leaves.then_some(&json!(true)), "{name}: {answer}");
            client.finish(name).await;
            let written = ground.at("w/new").exists();
            assert_eq!(written, leaves, "{name}");
            assert_eq!(ground.at("w/.git/new").exists(), leaves, "{name}");
            assert_eq!(client.call("fs/writeFile", params_of_call).await.is_ok(), leaves, "{name}");
            for made in ["w/new", "w/.git/new", "w/by-call"] {
                use std::os::unix::fs::PermissionsExt;
                let path = ground.at(made);
                if let Ok(found) = path.metadata() {
                    assert_eq!(found.permissions().mode() & 0o022, 0, "{name}: modes stay");
                    std::fs::remove_file(path).expect("removed");
                }
            }
            assert!(!ground.at("w/.agents").exists(), "{name}: no place is held");
            ground.is_untouched(&[]);
        }
    }
}
