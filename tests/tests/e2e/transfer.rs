//! What copies are made with on the wire (`docs/extensions.md`): stat, list, hash, link, place, and handles for updates.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use codex_e2e::{Server, base64};
use serde_json::{Value, json};

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn path(directory: &Path, name: &str) -> Value {
    json!(directory.join(name))
}

#[tokio::test]
async fn files_are_examined_hashed_and_placed() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let here = directory.path();
    let mut client = server.connect().await;
    let hello = client.ok("initialize", json!({"clientName": "t"})).await;
    assert_eq!(hello["environmentInfo"]["capabilities"]["fileTransfer"], true);
    client.notify("initialized", json!({})).await;
    std::fs::write(here.join("a"), "hello").unwrap();
    let hash = client.ok("fs/hash", json!({"path": path(here, "a")})).await;
    assert_eq!(hash, json!({"sha256": HELLO, "bytes": 5}));
    let first = client.ok("fs/hash", json!({"path": path(here, "a"), "length": 0})).await;
    assert_eq!((&first["bytes"], first["sha256"].as_str().unwrap().len()), (&json!(0), 64));
    let place = |more: Value| {
        let mut params = json!({"path": path(here, "a"), "destination": path(here, "b")});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    // What does not hold what it should is left where it is.
    let wrong = place(json!({"sha256": "0".repeat(64), "mode": 0o777}));
    assert_eq!(client.refused("fs/place", wrong).await, -32600);
    assert!(here.join("a").exists() && !here.join("b").exists());
    let all = place(json!({"sha256": HELLO, "size": 5, "mode": 0o4640, "modifiedAtNs": 1_000_000_001_i64}));
    client.ok("fs/place", all).await;
    let found = here.join("b").metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.mtime_nsec()), (0o4640, 1, 1));
    let stat = client.ok("fs/getEntry", json!({"path": path(here, "b")})).await;
    assert_eq!((&stat["kind"], &stat["size"], &stat["mode"]), (&json!("file"), &json!(5), &json!(0o4640)));
    assert_eq!(stat["modifiedAtNs"], 1_000_000_001_i64);
    // An editor's question: is it still what it was?
    std::fs::write(here.join("a"), "new").unwrap();
    assert_eq!(client.refused("fs/place", place(json!({"replacesSha256": "0".repeat(64)}))).await, -32600);
    client.ok("fs/place", place(json!({"replacesSha256": HELLO}))).await;
    assert_eq!(std::fs::read(here.join("b")).unwrap(), b"new");
    assert_eq!(client.refused("fs/place", json!({"path": path(here, "none")})).await, -32004);
    assert_eq!(client.refused("fs/hash", json!({"path": here})).await, -32600, "a directory has no hash");
}

#[tokio::test]
async fn links_and_holes_are_told_and_made() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let here = directory.path();
    let mut client = server.client().await;
    let link = |target: &str| json!({"path": path(here, "l"), "target": base64(target), "modifiedAtNs": 5});
    client.ok("fs/link", link("one")).await;
    client.ok("fs/link", link("two")).await;
    assert_eq!(std::fs::read_link(here.join("l")).unwrap(), Path::new("two"));
    std::fs::create_dir(here.join("d")).unwrap();
    let in_the_way = json!({"path": path(here, "d"), "target": base64("x")});
    assert_eq!(client.refused("fs/link", in_the_way).await, -32603);
    let file = std::fs::File::create(here.join("s")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 32 << 20).unwrap();
    let stat = client.ok("fs/getEntry", json!({"path": path(here, "s"), "extents": true})).await;
    let extents = stat["extents"].as_array().unwrap();
    assert_eq!(extents.len(), 1, "{stat}");
    assert!(extents[0][0].as_u64().unwrap() <= 32 << 20 && extents[0][1].as_u64().unwrap() < 1 << 20);
    let listed = client.ok("fs/list", json!({"path": here})).await;
    let kinds: Vec<_> =
        listed["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["directory", "symlink", "file"]);
    assert_eq!(listed["entries"][1]["target"], base64("two"));
    let stat = client.ok("fs/getEntry", json!({"path": path(here, "l"), "followSymlinks": false})).await;
    assert_eq!((&stat["kind"], &stat["modifiedAtNs"]), (&json!("symlink"), &json!(5)));
}

#[tokio::test]
async fn a_file_is_updated_where_it_is_and_a_new_one_is_its_owners() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let here = directory.path();
    let mut client = server.client().await;
    for (name, expected) in [("old", "heLLo"), ("new", "\0\0LL")] {
        if name == "old" {
            std::fs::write(here.join(name), "hello").unwrap();
        }
        client.ok("fs/open", json!({"handleId": name, "path": path(here, name), "mode": "update"})).await;
        client.ok("fs/writeBlock", json!({"handleId": name, "offset": 2, "chunk": base64("LL")})).await;
        client.ok("fs/close", json!({"handleId": name})).await;
        assert_eq!(std::fs::read(here.join(name)).unwrap(), expected.as_bytes(), "{name}");
    }
    assert_eq!(here.join("new").metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_sandbox_holds_for_copies_too() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let (open, closed) = (directory.path().join("open"), directory.path().join("closed"));
    std::fs::create_dir(&open).unwrap();
    std::fs::create_dir(&closed).unwrap();
    std::fs::write(open.join("a"), "hello").unwrap();
    let entries = json!([
        {"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"},
        {"path": {"type": "path", "path": open}, "access": "write"},
    ]);
    let sandbox = json!({
        "permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "restricted", "entries": entries}},
        "windowsSandboxLevel": "disabled",
    });
    let mut client = server.client().await;
    let place = |to: &Path| json!({"path": open.join("a"), "destination": to, "sandbox": sandbox});
    let (code, text) = client.call("fs/place", place(&closed.join("b"))).await.unwrap_err();
    if text.contains("sandbox") && text.contains("can't") {
        // This machine enforces none of this kind; it is refused, which holds as well.
        return;
    }
    assert!(matches!(code, -32600 | -32603), "{code} {text}");
    assert!(!closed.join("b").exists());
    client.ok("fs/place", place(&open.join("b"))).await;
    let link = json!({"path": closed.join("l"), "target": base64("x"), "sandbox": sandbox});
    assert!(client.call("fs/link", link).await.is_err());
    let stat = json!({"path": open.join("b"), "sandbox": sandbox});
    assert_eq!(client.ok("fs/getEntry", stat).await["size"], 5);
}
