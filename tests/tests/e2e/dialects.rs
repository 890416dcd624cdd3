//! Both dialects of paths in every field (sections 7.1 and 19).

use codex_e2e::Server;
use codex_e2e::client::start_params;
use serde_json::json;

#[tokio::test]
async fn native_paths_and_uris_mean_the_same_everywhere() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for uri in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let path = |name: &str| if uri { format!("file://{root}/{name}") } else { format!("{root}/{name}") };
        client.ok("fs/createDirectory", json!({"path": path("a/b")})).await;
        client.ok("fs/writeFile", json!({"path": path("a/f"), "dataBase64": "aGk="})).await;
        client
            .ok(
                "fs/copy",
                json!({"sourcePath": path("a/f"), "destinationPath": path("a/g"), "recursive": false}),
            )
            .await;
        assert_eq!(client.ok("fs/readFile", json!({"path": path("a/g")})).await["dataBase64"], "aGk=");
        assert_eq!(client.ok("fs/getMetadata", json!({"path": path("a/g")})).await["size"], 2);
        assert_eq!(
            client.ok("fs/readDirectory", json!({"path": path("a")})).await["entries"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
        let canonical = client.ok("fs/canonicalize", json!({"path": path("a/b")})).await;
        assert_eq!(canonical["path"], format!("file://{root}/a/b"), "answers hold URIs");
        let options =
            json!({"maxDepth": 1, "maxDirectories": 10, "maxEntries": 10, "followDirectorySymlinks": false});
        let walk = client.ok("fs/walk", json!({"path": path("a"), "options": options})).await;
        assert_eq!(walk["entries"][0]["path"], format!("file://{root}/a/b"));
        client.ok("fs/open", json!({"handleId": "h", "path": path("a/f")})).await;
        client.ok("fs/close", json!({"handleId": "h"})).await;
        client.ok("fs/remove", json!({"path": path("a")})).await;
        let id = format!("uri-{uri}");
        client.start_with(&id, ["pwd"], json!({"cwd": path("")})).await;
        assert_eq!(client.finish(&id).await.stdout().trim_end(), root);
    }
}

#[tokio::test]
async fn uris_are_read_as_the_newer_releases_read_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    std::fs::write(directory.path().join("a.txt"), "x").unwrap();
    std::fs::write(directory.path().join("sp ace é"), "x").unwrap();
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(directory.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    let good = [
        format!("FILE://{root}/a.txt"),
        format!("file:{root}/a.txt"),
        format!("file://localhost{root}/a.txt"),
        format!("file://{root}/%61.txt"),
        format!("file://{root}/sub/../a.txt"),
        format!("file://{root}//a.txt"),
        format!("file://{root}/a.txt/"),
        format!("file://{root}/bad%FF"),
        format!("file://{root}/sp%20ace%20%C3%A9"),
        format!("file://{root}/nowhere/../a.txt"),
        format!("file://{root}%2Fa.txt"),
        format!("{root}/sp ace é"),
        format!("{root}/sub/../a.txt"),
    ];
    for path in good {
        assert_eq!(client.ok("fs/readFile", json!({"path": path})).await["dataBase64"], "eA==", "{path}");
    }
    let bad = [
        ("a.txt".into(), -32602),
        (String::new(), -32602),
        ("~/x".into(), -32602),
        ("./a".into(), -32602),
        (format!("file://{root}/a.txt?q"), -32602),
        (format!("file://{root}/a.txt#f"), -32602),
        (format!("file://{root}/a%00b"), -32602),
        ("https://x/y".into(), -32602),
        ("file://user@localhost/x".into(), -32602),
        ("file://localhost:80/x".into(), -32602),
        ("file://other/x".into(), -32600),
        ("file:///C:/x".into(), -32600),
        ("file:a".into(), -32004),
    ];
    for (path, code) in bad {
        assert_eq!(client.refused("fs/readFile", json!({"path": path})).await, code, "{path:?}");
    }
    assert_eq!(
        client.refused("process/start", start_params("p", ["true"], json!({"cwd": "file:///C:/x"}))).await,
        -32602
    );
    let canonical = client.ok("fs/canonicalize", json!({"path": format!("{root}/sp ace é")})).await;
    assert_eq!(canonical["path"], format!("file://{root}/sp%20ace%20%C3%A9"));
    let canonical = client.ok("fs/canonicalize", json!({"path": format!("file://{root}/bad%ff")})).await;
    assert_eq!(canonical["path"], format!("file://{root}/bad%FF"));
}

#[tokio::test]
async fn an_old_client_and_a_new_one_share_a_server() {
    let server = Server::start().await;
    let mut old = server.client().await;
    // As 0.131: native paths, no writeId, output by wake-up and read, a terminate for everything.
    old.start_with("1", ["cat"], json!({"cwd": "/tmp", "pipeStdin": true, "arg0": null})).await;
    assert_eq!(old.write("1", "old\n").await, "accepted");
    let wake = old.next_notification("process/output").await;
    let read = old
        .ok("process/read", json!({"processId": "1", "afterSeq": null, "maxBytes": null, "waitMs": 0}))
        .await;
    assert_eq!((&read["chunks"][0]["chunk"], &read["nextSeq"]), (&wake["chunk"], &json!(2)));
    assert_eq!(old.ok("process/terminate", json!({"processId": "1"})).await["running"], true);
    // As 0.169 and 0.171: URIs, writeId, metadata, pushed output.
    let mut new = server.client().await;
    let more = json!({
        "cwd": "file:///tmp", "pipeStdin": true, "sandbox": null, "enforceManagedNetwork": false, "managedNetwork": null,
        "metadata": {"threadId": "01890a5d-ac96-774b-bcce-b302099a8057", "toolCallId": "call_1"},
    });
    new.start_with("12699-x", ["head", "-n", "1"], more).await;
    let write = json!({"processId": "12699-x", "chunk": codex_e2e::base64("new\n"), "writeId": "1"});
    assert_eq!(new.ok("process/write", write).await["status"], "accepted");
    assert_eq!(new.finish("12699-x").await.stdout(), "new\n");
}
