//! Files as tools.

use codex_e2e::mcp::{McpClient, Revision};
use serde_json::json;

#[tokio::test]
async fn files_are_written_read_edited_and_found() {
    let ground = tempfile::tempdir().unwrap();
    let mcp = McpClient::stdio(Revision::New, &["--cwd", ground.path().to_str().unwrap()]).await;
    let path = "a/b/text.rs";
    let missing = mcp.refusal("write", json!({"path": path, "content": "x"})).await;
    assert!(missing.contains("No such file"), "{missing}");
    let content = "one\ntwo\nthree\ntwo\n";
    mcp.data("write", json!({"path": path, "content": content, "create_directories": true})).await;
    assert_eq!(std::fs::read_to_string(ground.path().join(path)).unwrap(), content);

    let read = mcp.data("read", json!({"path": path, "offset": 2, "limit": 2})).await;
    assert_eq!((&read["content"], &read["next_offset"]), (&json!("two\nthree\n"), &json!(4)), "{read}");
    assert_eq!(read["total_lines"], 4);

    let twice = mcp.refusal("edit", json!({"path": path, "old": "two", "new": "2"})).await;
    assert!(twice.contains("2 times"), "{twice}");
    let nowhere = mcp.refusal("edit", json!({"path": path, "old": "four", "new": "4"})).await;
    assert!(nowhere.contains("does not stand"), "{nowhere}");
    let once = mcp.data("edit", json!({"path": path, "old": "three\ntwo", "new": "3\n2"})).await;
    assert_eq!((&once["replacements"], &once["first_line"]), (&json!(1), &json!(3)), "{once}");
    mcp.data("edit", json!({"path": path, "old": "o", "new": "0", "replace_all": true})).await;
    assert_eq!(std::fs::read_to_string(ground.path().join(path)).unwrap(), "0ne\ntw0\n3\n2\n");

    std::fs::write(ground.path().join("a/.hidden"), "tw0 hidden").unwrap();
    std::fs::create_dir_all(ground.path().join(".git")).unwrap();
    std::fs::write(ground.path().join(".git/x"), "tw0 in git").unwrap();
    let list = mcp.data("list", json!({})).await;
    assert_eq!(list["entries"], json!([".git/", "a/"]), "{list}");
    let deep = mcp.data("list", json!({"path": "a", "depth": 3})).await;
    assert_eq!(deep["entries"], json!([".hidden", "b/", "b/text.rs"]), "{deep}");
    let few = mcp.data("list", json!({"path": "a", "depth": 3, "max_entries": 1})).await;
    assert_eq!((&few["truncated"], few["entries"].as_array().unwrap().len()), (&json!(true), 1), "{few}");
    let glob = mcp.data("glob", json!({"pattern": "**/*.rs"})).await;
    assert_eq!(glob["entries"], json!(["a/b/text.rs"]), "{glob}");
    let grep = mcp.data("grep", json!({"pattern": "^tw[0-9]"})).await;
    let lines = grep["entries"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{grep}");
    assert!(lines.iter().any(|line| line.as_str().unwrap().ends_with("text.rs:2:tw0")), "{grep}");
    let none = mcp.data("grep", json!({"pattern": "-e nothing like this", "glob": "*.rs"})).await;
    assert_eq!(none["entries"], json!([]), "{none}");

    std::fs::write(ground.path().join("binary"), [0, 1, 2, 255]).unwrap();
    let binary = mcp.refusal("read", json!({"path": "binary"})).await;
    assert!(binary.contains("is no text: 4 bytes"), "{binary}");
    std::fs::write(ground.path().join("latin"), b"caf\xe9\n").unwrap();
    assert_eq!(mcp.data("read", json!({"path": "latin"})).await["content"], "caf\u{fffd}\n");
    let large = std::fs::File::create(ground.path().join("large")).unwrap();
    large.set_len(33 << 20).unwrap();
    let large = mcp.refusal("read", json!({"path": "large"})).await;
    assert!(large.contains("more than the 33554432"), "{large}");
    let directory = mcp.refusal("read", json!({"path": "a"})).await;
    assert!(directory.contains("is a directory"), "{directory}");
}
