//! Files: what the recordings do not show already (section 10).

use std::os::unix::fs::{PermissionsExt, symlink};

use codex_e2e::{Server, base64, bytes_of};
use serde_json::{Value, json};
use tempfile::TempDir;

fn tree() -> (TempDir, impl Fn(&str) -> Value) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("file"), "hello").unwrap();
    std::fs::create_dir_all(at.join("dir/deep")).unwrap();
    symlink("file", at.join("link")).unwrap();
    symlink("dir", at.join("dirlink")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    symlink("loop", at.join("loop")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    let root = at.to_path_buf();
    (directory, move |name: &str| json!(root.join(name)))
}

#[tokio::test]
async fn refusals_have_the_codes_of_their_kinds() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_kept, path) = tree();
    let options = |follow: bool| json!({"maxDepth": 1, "maxDirectories": 9, "maxEntries": 9, "followDirectorySymlinks": follow});
    let cases = [
        ("fs/readFile", json!({"path": path("missing")}), -32004),
        ("fs/readFile", json!({"path": path("dangling")}), -32004),
        ("fs/readFile", json!({"path": path("dir")}), -32600),
        ("fs/readFile", json!({"path": path("fifo")}), -32600),
        ("fs/readFile", json!({"path": "/dev/null"}), -32600),
        ("fs/readFile", json!({"path": path("file/x")}), -32603),
        ("fs/readFile", json!({"path": path("loop")}), -32603),
        ("fs/readFile", json!({"path": path("link"), "followSymlinks": false}), -32603),
        ("fs/readFile", json!({"path": path("dirlink/x"), "followSymlinks": false}), -32603),
        ("fs/writeFile", json!({"path": path("no/x"), "dataBase64": ""}), -32004),
        ("fs/writeFile", json!({"path": path("dir"), "dataBase64": ""}), -32603),
        ("fs/writeFile", json!({"path": path("x"), "dataBase64": "@@"}), -32600),
        ("fs/writeFile", json!({"path": path("x"), "dataBase64": "YQ"}), -32600),
        ("fs/writeFile", json!({"path": path("x")}), -32602),
        ("fs/writeFile", json!({"path": path("link"), "dataBase64": "", "followSymlinks": false}), -32603),
        ("fs/createDirectory", json!({"path": path("a/b"), "recursive": false}), -32004),
        ("fs/createDirectory", json!({"path": path("dir"), "recursive": false}), -32603),
        ("fs/createDirectory", json!({"path": path("file")}), -32603),
        ("fs/getMetadata", json!({"path": path("dangling")}), -32004),
        ("fs/getMetadata", json!({"path": path("link"), "followSymlinks": false}), -32600),
        ("fs/getMetadata", json!({"path": path("dirlink/deep"), "followSymlinks": false}), -32603),
        ("fs/canonicalize", json!({"path": path("dangling")}), -32004),
        ("fs/readDirectory", json!({"path": path("file")}), -32603),
        ("fs/walk", json!({"path": path("dangling"), "options": options(false)}), -32004),
        ("fs/walk", json!({"path": path("dangling"), "options": options(true)}), -32004),
        ("fs/walk", json!({"path": path("loop"), "options": options(false)}), -32603),
        ("fs/walk", json!({"path": path("loop"), "options": options(true)}), -32603),
        ("fs/walk", json!({"path": path("file/x"), "options": options(false)}), -32603),
        ("fs/remove", json!({"path": path("missing"), "force": false}), -32004),
        ("fs/remove", json!({"path": path("dir"), "recursive": false}), -32603),
        ("fs/remove", json!({"path": path("file/x")}), -32603),
        ("fs/remove", json!({"path": path("dir"), "followSymlinks": false}), -32603),
        ("fs/remove", json!({"path": path("link"), "recursive": false, "followSymlinks": false}), -32600),
        (
            "fs/copy",
            json!({"sourcePath": path("dir"), "destinationPath": path("c"), "recursive": false}),
            -32600,
        ),
        (
            "fs/copy",
            json!({"sourcePath": path("dir"), "destinationPath": path("dir/c"), "recursive": true}),
            -32600,
        ),
        (
            "fs/copy",
            json!({"sourcePath": path("fifo"), "destinationPath": path("c"), "recursive": false}),
            -32600,
        ),
        (
            "fs/copy",
            json!({"sourcePath": path("file"), "destinationPath": path("dir"), "recursive": false}),
            -32603,
        ),
        (
            "fs/copy",
            json!({"sourcePath": path("link"), "destinationPath": path("file"), "recursive": false}),
            -32603,
        ),
        ("fs/copy", json!({"sourcePath": path("file"), "destinationPath": path("c")}), -32602),
        ("fs/open", json!({"handleId": "x".repeat(33), "path": path("file")}), -32600),
        ("fs/open", json!({"handleId": "h", "path": path("dir")}), -32600),
        ("fs/open", json!({"handleId": "h", "path": path("file"), "mode": "append"}), -32602),
        ("fs/open", json!({"handleId": "h", "path": path("file"), "mode": null}), -32602),
        ("fs/readBlock", json!({"handleId": "h", "offset": 0, "len": 1}), -32004),
        ("fs/writeBlock", json!({"handleId": "h", "offset": 0, "chunk": "eA=="}), -32004),
    ];
    for (method, params, code) in cases {
        assert_eq!(client.refused(method, params.clone()).await, code, "{method} {params}");
    }
}

#[tokio::test]
async fn metadata_tells_links_from_their_targets() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_kept, path) = tree();
    for (name, directory, file, link) in [
        ("file", false, true, false),
        ("link", false, true, true),
        ("dir", true, false, false),
        ("dirlink", true, false, true),
        ("fifo", false, false, false),
    ] {
        let data = client.ok("fs/getMetadata", json!({"path": path(name)})).await;
        assert_eq!(
            (&data["isDirectory"], &data["isFile"], &data["isSymlink"]),
            (&json!(directory), &json!(file), &json!(link)),
            "{name}"
        );
        assert!(
            data["modifiedAtMs"].as_i64().unwrap() > 1_000_000_000_000 && data["createdAtMs"].is_i64(),
            "{data}"
        );
    }
}

#[tokio::test]
async fn a_large_file_goes_through_whole_and_by_blocks() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_kept, path) = tree();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    client.ok("fs/writeFile", json!({"path": path("big"), "dataBase64": base64(&data)})).await;
    let whole = client.ok("fs/readFile", json!({"path": path("big")})).await;
    assert!(bytes_of(&whole["dataBase64"]) == data);
    client.ok("fs/open", json!({"handleId": "h", "path": path("big")})).await;
    let mut read = Vec::new();
    loop {
        let block =
            client.ok("fs/readBlock", json!({"handleId": "h", "offset": read.len(), "len": 1 << 20})).await;
        read.extend(bytes_of(&block["chunk"]));
        if block["eof"] == true {
            break;
        }
    }
    assert!(read == data);
    client.ok("fs/open", json!({"handleId": "w", "path": path("copy"), "mode": "replace"})).await;
    for (offset, part) in data.chunks(1 << 20).enumerate().rev() {
        let params = json!({"handleId": "w", "offset": offset << 20, "chunk": base64(part)});
        assert_eq!(client.ok("fs/writeBlock", params).await, json!({}));
    }
    client.ok("fs/close", json!({"handleId": "w"})).await;
    assert!(bytes_of(&client.ok("fs/readFile", json!({"path": path("copy")})).await["dataBase64"]) == data);
}

#[tokio::test]
async fn one_handle_too_many_is_refused_until_one_is_closed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_kept, path) = tree();
    for n in 0..128 {
        client.ok("fs/open", json!({"handleId": n.to_string(), "path": path("file")})).await;
    }
    assert_eq!(client.refused("fs/open", json!({"handleId": "more", "path": path("file")})).await, -32600);
    client.ok("fs/close", json!({"handleId": "5"})).await;
    client.ok("fs/open", json!({"handleId": "more", "path": path("file")})).await;
}

#[tokio::test]
async fn copies_keep_modes_links_and_other_files() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    std::fs::write(kept.path().join("dir/script"), "x").unwrap();
    std::fs::set_permissions(kept.path().join("dir/script"), PermissionsExt::from_mode(0o751)).unwrap();
    symlink("script", kept.path().join("dir/to-script")).unwrap();
    let copy = json!({"sourcePath": path("dir"), "destinationPath": path("new"), "recursive": true});
    client.ok("fs/copy", copy.clone()).await;
    let mode = std::fs::metadata(kept.path().join("new/script")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o751);
    assert_eq!(std::fs::read_link(kept.path().join("new/to-script")).unwrap().to_str(), Some("script"));
    assert_eq!(client.refused("fs/copy", copy).await, -32603, "a taken symlink's name stops a merge");
}

#[tokio::test]
async fn a_copied_directory_gets_the_parents_that_are_missing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    let copy = |from: &str, to: &str| json!({"sourcePath": path(from), "destinationPath": path(to), "recursive": true});
    client.ok("fs/copy", copy("dir", "one/two/three")).await;
    assert!(kept.path().join("one/two/three/deep").is_dir());
    // Only a directory's are made, and none for a copy that is refused.
    assert_eq!(client.refused("fs/copy", copy("file", "no/file")).await, -32004);
    assert_eq!(client.refused("fs/copy", copy("dir", "dir/deep/no/such")).await, -32600);
    assert_eq!(client.refused("fs/copy", copy("dir", "file/x/y")).await, -32603);
    assert!(!kept.path().join("no").exists() && !kept.path().join("dir/deep/no").exists());
    // What follows finds the parents that an unanswered copy makes.
    let waiting = client.send("fs/copy", copy("dir", "four/five/six")).await;
    client.ok("fs/writeFile", json!({"path": path("four/five/new"), "dataBase64": ""})).await;
    client.answer(waiting).await.unwrap();
}

#[tokio::test]
async fn set_id_bits_are_copied_only_where_the_owner_stays_the_same() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make files of another user");
        return;
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    let make = |name: &str, user: u32, group: u32| {
        let file = kept.path().join(name);
        std::fs::write(&file, name).unwrap();
        std::os::unix::fs::chown(&file, Some(user), Some(group)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o6755)).unwrap();
    };
    let mode = |name: &str| std::fs::metadata(kept.path().join(name)).unwrap().permissions().mode() & 0o7777;
    for (name, user, group, expected) in
        [("dir/ours", 0, 0, 0o6755), ("dir/group", 0, 12345, 0o4755), ("dir/theirs", 12345, 0, 0o755)]
    {
        make(name, user, group);
        let copy = json!({"sourcePath": path(name), "destinationPath": path("copy"), "recursive": false});
        client.ok("fs/copy", copy).await;
        assert_eq!(mode("copy"), expected, "{name}");
        std::fs::remove_file(kept.path().join("copy")).unwrap();
    }
    client
        .ok("fs/copy", json!({"sourcePath": path("dir"), "destinationPath": path("tree"), "recursive": true}))
        .await;
    assert_eq!((mode("tree/ours"), mode("tree/group"), mode("tree/theirs")), (0o6755, 0o4755, 0o755));
    // The copy may be somebody's already.
    make("mine", 12345, 12345);
    client
        .ok(
            "fs/copy",
            json!({"sourcePath": path("dir/ours"), "destinationPath": path("mine"), "recursive": false}),
        )
        .await;
    assert_eq!(mode("mine"), 0o755);
}

#[tokio::test]
async fn a_copy_has_the_holes_of_its_source() {
    use std::os::unix::fs::{FileExt, MetadataExt};

    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    let blocks = |name: &str| std::fs::metadata(kept.path().join(name)).unwrap().blocks();
    const SIZE: u64 = 64 << 20;
    for (name, pieces) in [
        ("empty", [].as_slice()),
        ("within", &[(1 << 20, "one"), (50 << 20, "two")]),
        ("ends", &[(0, "first"), (SIZE - 4, "last")]),
    ] {
        let sparse = std::fs::File::create(kept.path().join(name)).unwrap();
        sparse.set_len(SIZE).unwrap();
        pieces.iter().for_each(|(at, text)| sparse.write_all_at(text.as_bytes(), *at).unwrap());
        if blocks(name) > 1000 {
            eprintln!("SKIPPED: the file system knows no holes");
            return;
        }
        std::fs::write(kept.path().join("full"), vec![b'x'; 1 << 20]).unwrap();
        for to in ["new", "full"] {
            let copy = json!({"sourcePath": path(name), "destinationPath": path(to), "recursive": false});
            client.ok("fs/copy", copy).await;
            let copied = std::fs::File::open(kept.path().join(to)).unwrap();
            assert!(blocks(to) < 1000, "{name} to {to}: {} blocks", blocks(to));
            assert_eq!(copied.metadata().unwrap().len(), SIZE, "{name} to {to}");
            let equal = std::process::Command::new("cmp")
                .arg(kept.path().join(name))
                .arg(kept.path().join(to))
                .status();
            assert!(equal.unwrap().success(), "{name} to {to}");
        }
    }
}

/// A file system of one MiB, as long as this is.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("SKIPPED: no file system can be mounted here");
            return None;
        }
        Some(Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_leaves_what_was_there() {
    use std::os::unix::fs::MetadataExt;

    let Some(small) = Small::mount() else { return };
    let server = Server::start().await;
    let mut client = server.client().await;
    let at = |name: &str| small.0.path().join(name);
    let large = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(large.path(), vec![b'n'; 2 << 20]).unwrap();
    std::fs::write(at("kept"), "what was there").unwrap();
    std::fs::hard_link(at("kept"), at("other name")).unwrap();
    let inode = std::fs::metadata(at("kept")).unwrap().ino();

    let write = |name: &str, content: &[u8]| json!({"path": at(name), "dataBase64": base64(content)});
    let copy =
        |name: &str| json!({"sourcePath": large.path(), "destinationPath": at(name), "recursive": false});
    for (method, params) in [("fs/writeFile", write("kept", &vec![b'n'; 2 << 20])), ("fs/copy", copy("kept"))]
    {
        let refused = client.call(method, params).await.unwrap_err();
        assert_eq!(refused.0, -32603, "{method}");
        let said = refused.1;
        assert!(
            said.starts_with("No space left on device (os error 28)") && said.contains("keeps"),
            "{said}"
        );
        assert_eq!(std::fs::read_to_string(at("other name")).unwrap(), "what was there", "{method}");
    }
    // A file that held nothing tells how far it came.
    let refused = client.call("fs/writeFile", write("new", &vec![b'n'; 2 << 20])).await.unwrap_err();
    let held = std::fs::metadata(at("new")).unwrap().len();
    assert!(refused.1.contains(&format!("the first {held} of 2097152")), "{refused:?}");
    std::fs::remove_file(at("new")).unwrap();
    // What fits replaces all of it, in the same file.
    for content in ["longer than what was there before", "short", ""] {
        client.ok("fs/writeFile", write("kept", content.as_bytes())).await;
        assert_eq!(std::fs::read_to_string(at("other name")).unwrap(), content);
    }
    std::fs::write(large.path(), "copied").unwrap();
    client.ok("fs/copy", copy("kept")).await;
    assert_eq!(std::fs::read_to_string(at("other name")).unwrap(), "copied");
    assert_eq!(std::fs::metadata(at("kept")).unwrap().ino(), inode);
}

#[tokio::test]
async fn a_walk_is_breadth_first_sorted_and_bounded() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    let root = kept.path().to_str().unwrap();
    std::fs::create_dir_all(kept.path().join(".hidden/inside")).unwrap();
    let walk = |entries: u64, follow: bool, prune: bool| {
        json!({"path": path(""), "options": {"maxDepth": 5, "maxDirectories": 100, "maxEntries": entries,
            "followDirectorySymlinks": follow, "pruneHiddenDirectories": prune}})
    };
    let names = |result: &Value| -> Vec<String> {
        let prefix = format!("file://{root}/");
        result["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["path"].as_str().unwrap().replace(&prefix, ""))
            .collect()
    };
    let plain = client.ok("fs/walk", walk(100, false, false)).await;
    assert_eq!(names(&plain), [".hidden", "dir", "file", ".hidden/inside", "dir/deep"]);
    assert_eq!(plain["truncated"], false);
    assert_eq!(
        names(&client.ok("fs/walk", walk(100, true, true)).await),
        [".hidden", "dir", "dirlink", "file", "dir/deep"]
    );
    let short = client.ok("fs/walk", walk(2, false, false)).await;
    assert_eq!(
        (names(&short), &short["truncated"]),
        (vec![".hidden".into(), "dir".to_string()], &json!(true))
    );
    assert_eq!(client.refused("fs/walk", walk(0, false, false)).await, -32600);
    assert_eq!(client.refused("fs/walk", walk(50_001, false, false)).await, -32600);
}

#[tokio::test]
async fn a_watch_tells_once_when_a_missing_path_appears() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["fsWatchMissing"], true, "announced because it works");
    let (kept, path) = tree();
    let watch = |id: u64, missing: &[&str], present: Option<&str>| {
        let missing: Vec<Value> = missing.iter().map(|name| path(name)).collect();
        json!({"watchId": id, "missing": missing, "present": present.map(&path)})
    };
    let cases = [
        (watch(0, &["a"], None), false),
        (watch(1, &[], None), false),
        (watch(2, &["file"], None), false),
        (watch(3, &["dangling"], None), false),
        (watch(4, &["a"], Some("gone")), false),
        (watch(5, &["a/b/c"], Some("file")), true),
        (watch(5, &["a"], None), false),
    ];
    for (params, watching) in cases {
        assert_eq!(client.ok("fs/watchMissing", params.clone()).await["watching"], watching, "{params}");
    }
    std::fs::write(kept.path().join("unrelated"), "").unwrap();
    std::fs::create_dir(kept.path().join("a")).unwrap();
    assert_eq!(client.next_notification("fs/missingChanged").await, json!({"watchId": 5}));
    // Over: a new one is needed, and it tells of the present path too.
    assert_eq!(client.ok("fs/watchMissing", watch(6, &["zz"], Some("file"))).await["watching"], true);
    std::fs::write(kept.path().join("file"), "changed").unwrap();
    assert_eq!(client.next_notification("fs/missingChanged").await, json!({"watchId": 6}));
    assert_eq!(client.ok("fs/watchMissing", watch(7, &["zz"], None)).await["watching"], true);
    assert_eq!(client.ok("fs/watchMissing", watch(8, &["zz", "y"], None)).await["watching"], true);
    std::fs::write(kept.path().join("zz"), "").unwrap();
    assert_eq!(
        client.next_notification("fs/missingChanged").await,
        json!({"watchId": 8}),
        "the newer one replaced the older"
    );
}

#[tokio::test]
async fn a_file_that_hangs_stalls_only_itself() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (kept, path) = tree();
    // Opening a FIFO for writing waits for a reader: a file operation that hangs.
    let hanging =
        client.send("fs/writeFile", json!({"path": path("fifo"), "dataBase64": base64("late")})).await;
    for _ in 0..20 {
        assert_eq!(
            client.ok("fs/readFile", json!({"path": path("file")})).await["dataBase64"],
            base64("hello")
        );
    }
    let fifo = kept.path().join("fifo");
    let read = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    // Either way of treating a FIFO is fine (10.2 does not say), as long as nothing else waits.
    let answer = client.answer(hanging).await;
    if answer.is_ok() {
        assert_eq!(read.await.unwrap(), b"late");
    } else {
        std::fs::write(kept.path().join("fifo"), "").ok();
    }
}
