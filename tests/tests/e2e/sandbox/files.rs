//! File operations under a sandbox: contents, races, helpers.

use codex_e2e::machine::{children, eventually};
use codex_e2e::{base64, bytes_of};

use super::*;

#[tokio::test]
async fn contents_pass_unchanged_whatever_their_size() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandbox = workspace(&ground);
    for size in [0, 1, 65_537, 3 << 20] {
        let data: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).expect("small")).collect();
        let path = ground.uri("w/data");
        client
            .ok("fs/writeFile", json!({"path": path, "dataBase64": base64(&data), "sandbox": sandbox}))
            .await;
        let read = client.ok("fs/readFile", json!({"path": path, "sandbox": sandbox})).await;
        assert_eq!(bytes_of(&read["dataBase64"]), data, "{size} bytes");
    }
    let metadata =
        client.ok("fs/getMetadata", json!({"path": ground.uri("w/file"), "sandbox": sandbox})).await;
    assert_eq!((&metadata["isFile"], &metadata["size"]), (&json!(true), &json!(4)));
    let listed =
        client.ok("fs/readDirectory", json!({"path": ground.uri("w/sub"), "sandbox": sandbox})).await;
    assert_eq!(listed["entries"], json!([{"fileName": "deep", "isDirectory": true, "isFile": false}]));
}

#[tokio::test]
async fn a_path_that_changes_hands_meanwhile_never_leads_outside() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandbox = workspace(&ground);
    std::fs::create_dir(ground.at("w/real")).expect("a directory");
    std::os::unix::fs::symlink("../o", ground.at("w/real2")).expect("a link");
    let (a, b) = (ground.at("w/real"), ground.at("w/real2"));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let swapper = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).expect("they swap");
        }
    });
    for round in 0..codex_e2e::rounds(40, 150) {
        let path = ground.uri("w/real/precious");
        for (method, params) in [
            ("fs/writeFile", json!({"path": path, "dataBase64": base64("x"), "sandbox": sandbox})),
            ("fs/createDirectory", json!({"path": format!("{path}-{round}"), "sandbox": sandbox})),
            (
                "fs/copy",
                json!({"sourcePath": ground.uri("w/file"), "destinationPath": path, "recursive": false, "sandbox": sandbox}),
            ),
            (
                "fs/open",
                json!({"path": path, "handleId": round.to_string(), "mode": "replace", "sandbox": sandbox}),
            ),
            ("fs/remove", json!({"path": path, "force": false, "sandbox": sandbox})),
        ] {
            // Through the link it is refused, through the directory it is done; both are fine.
            let _ = client.call(method, params).await;
        }
        client.ok("fs/close", json!({"handleId": round.to_string()})).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().expect("the swapper ends");
    ground.is_untouched(&["w/real"]);
}

#[tokio::test]
async fn a_directory_that_was_made_anew_is_the_one_that_counts() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandbox =
        ground.profile(json!([special("root", "read"), entry(&ground.uri("o/sub"), "write")]), "restricted");
    for round in 0..3 {
        let path = ground.uri("o/sub/new");
        client.ok("fs/writeFile", json!({"path": path, "dataBase64": "", "sandbox": sandbox})).await;
        assert!(ground.at("o/sub/new").exists(), "round {round}");
        std::fs::remove_dir_all(ground.at("o/sub")).expect("removed");
        std::fs::create_dir(ground.at("o/sub")).expect("made anew");
    }
}

#[tokio::test]
async fn a_denied_file_that_was_replaced_again_and_again_stays_denied() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let denied = ground.at("w/.env");
    std::fs::write(&denied, "secret").expect("written");
    let glob =
        json!({"path": {"type": "glob_pattern", "pattern": ground.text("w/**/.env")}, "access": "deny"});
    for deny in [glob, entry(&ground.uri("w/.env"), "deny")] {
        let entries = json!([special("root", "read"), deny, entry(&ground.uri("o"), "write")]);
        let sandbox = ground.profile(entries, "restricted");
        for round in 0..6 {
            let copy = format!("o/copy-{round}");
            let params = json!({"sourcePath": ground.uri("w"), "destinationPath": ground.uri(&copy),
                "recursive": true, "sandbox": sandbox});
            let _ = client.call("fs/copy", params).await;
            let copied = std::fs::read_to_string(ground.at(&copy).join(".env")).unwrap_or_default();
            assert_eq!(copied, "", "round {round}");
            let _ = std::fs::remove_dir_all(ground.at(&copy));
            // As editors save: an inode's number comes again at the second time.
            for _ in 0..=round % 3 {
                std::fs::write(ground.at("w/.env.new"), "secret").expect("written");
                std::fs::rename(ground.at("w/.env.new"), &denied).expect("replaced");
            }
        }
    }
}

#[tokio::test]
async fn a_helper_that_was_killed_while_it_waited_is_replaced() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let read = json!({"path": ground.uri("w/file"), "sandbox": read_only(&ground)});
    for _ in 0..3 {
        client.ok("fs/readFile", read.clone()).await;
        for helper in children(server.pid()) {
            codex_e2e::machine::kill(helper);
        }
    }
}

#[tokio::test]
async fn what_a_call_says_is_so_also_where_programs_have_something_of_their_own() {
    if !enforceable() {
        return;
    }
    let shared = tempfile::tempdir_in("/dev/shm").expect("shared memory is there");
    let at = |name: &str| shared.path().join(name);
    let uri = |name: &str| format!("file://{}", at(name).display());
    std::fs::write(at("there"), "there").expect("written");
    for namespaces in ["any", "user"] {
        let server = Server::builder().args(["--sandbox-namespaces", namespaces]).start().await;
        let mut client = server.client().await;
        let ground = Ground::new();
        let listed = entry(&uri(""), "write");
        let (root, project) = (special("root", "read"), special("project_roots", "write"));
        for (name, entries, reads, writes) in [
            ("root read", json!([root]), true, false),
            ("project write", json!([root, project]), true, false),
            ("named", json!([root, listed]), true, true),
            ("only itself", json!([listed]), true, true),
            ("only the project", json!([project]), false, false),
            ("all but one", json!([special("root", "write"), entry(&ground.uri("d"), "deny")]), true, true),
        ] {
            let sandbox = ground.profile(entries, "restricted");
            let name = format!("{name} with namespaces {namespaces}");
            let read = client.call("fs/readFile", json!({"path": uri("there"), "sandbox": sandbox})).await;
            assert_eq!(read.is_ok(), reads, "{name}: {read:?}");
            for (method, params) in [
                ("fs/writeFile", json!({"path": uri("new"), "dataBase64": base64("x"), "sandbox": sandbox})),
                ("fs/createDirectory", json!({"path": uri("new"), "recursive": false, "sandbox": sandbox})),
                (
                    "fs/copy",
                    json!({"sourcePath": uri("there"), "destinationPath": uri("new"), "recursive": false,
                    "sandbox": sandbox}),
                ),
                (
                    "fs/open",
                    json!({"path": uri("new"), "handleId": "h", "mode": "replace", "sandbox": sandbox}),
                ),
            ] {
                let answer = client.call(method, params).await;
                assert_eq!(answer.is_ok(), writes, "{name}: {method}: {answer:?}");
                assert_eq!(at("new").exists(), writes, "{name}: {method}");
                let gone = client.call("fs/remove", json!({"path": uri("new"), "sandbox": sandbox})).await;
                assert!(!at("new").exists(), "{name}: {method}: {gone:?}");
            }
            let _ = client.call("fs/close", json!({"handleId": "h"})).await;
        }
    }
}

#[tokio::test]
async fn helpers_are_bounded_and_end_with_their_connection() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    for round in 0..12 {
        let sandbox = ground.profile(
            json!([
                special("root", "read"),
                entry(&ground.uri("w"), "write"),
                entry(
                    &ground.uri(&format!("o/{}", ["sub", "precious", "secret"][round % 3])),
                    ["write", "deny"][round / 3 % 2]
                )
            ]),
            "restricted",
        );
        for _ in 0..3 {
            client.send("fs/getMetadata", json!({"path": ground.uri("w/file"), "sandbox": sandbox})).await;
        }
        client.ok("fs/getMetadata", json!({"path": ground.uri("w/file"), "sandbox": sandbox})).await;
    }
    assert!(children(server.pid()).len() <= 12, "{:?}", children(server.pid()));
    drop(client);
    eventually("all helpers are gone", || children(server.pid()).is_empty()).await;
}
