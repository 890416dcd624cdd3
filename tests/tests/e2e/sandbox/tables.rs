//! The rows of 14.2, for programs and for each file method.

use super::*;

/// What a row says of: reading elsewhere, writing the workspace, writing elsewhere, a socket.
struct Row {
    name: &'static str,
    sandbox: fn(&Ground) -> Value,
    read: Option<&'static str>,
    workspace: bool,
    elsewhere: bool,
    socket: bool,
}

const ROWS: [Row; 8] = [
    Row {
        name: "root read",
        sandbox: read_only,
        read: Some("precious"),
        workspace: false,
        elsewhere: false,
        socket: false,
    },
    Row {
        name: "project write",
        sandbox: workspace,
        read: Some("precious"),
        workspace: true,
        elsewhere: false,
        socket: false,
    },
    Row {
        name: "single path",
        sandbox: |ground| ground.profile(json!([entry(&ground.uri("w"), "write")]), "restricted"),
        read: None,
        workspace: true,
        elsewhere: false,
        socket: false,
    },
    Row {
        name: "cwd only",
        sandbox: |ground| ground.profile(json!([special("current_working_directory", "read")]), "restricted"),
        read: None,
        workspace: false,
        elsewhere: false,
        socket: false,
    },
    Row {
        name: "denied",
        sandbox: |ground| {
            let entries =
                [special("root", "read"), special("project_roots", "write"), entry(&ground.uri("o"), "none")];
            ground.profile(json!(entries), "restricted")
        },
        read: None,
        workspace: true,
        elsewhere: false,
        socket: false,
    },
    Row {
        name: "network enabled",
        sandbox: |ground| ground.profile(json!([special("root", "read")]), "enabled"),
        read: Some("precious"),
        workspace: false,
        elsewhere: false,
        socket: true,
    },
    Row {
        name: "external",
        sandbox: |ground| ground.sandbox(json!({"type": "external", "network": "restricted"})),
        read: Some("precious"),
        workspace: true,
        elsewhere: true,
        socket: false,
    },
    Row {
        name: "disabled",
        sandbox: |ground| ground.sandbox(json!({"type": "disabled"})),
        read: Some("precious"),
        workspace: true,
        elsewhere: true,
        socket: true,
    },
];

#[tokio::test]
async fn each_row_of_the_table_holds_for_programs() {
    if !enforceable() {
        return;
    }
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        for row in &ROWS {
            let ground = Ground::new();
            let sandbox = (row.sandbox)(&ground);
            let name = format!("{} with namespaces {namespaces}", row.name);
            // Without namespaces what needs them is refused, and nothing runs.
            if namespaces == "off" && row.workspace && !row.elsewhere {
                let params =
                    start_params("no", ["/bin/true"], json!({"sandbox": sandbox, "cwd": ground.uri("w")}));
                let (code, text) = client.call("process/start", params).await.expect_err(&name);
                assert_eq!(code, -32600, "{name}");
                assert!(text.contains("namespace"), "{name}: {text}");
                continue;
            }
            let ran = shell(&mut client, &ground, &sandbox, "cat ../o/precious").await;
            assert_eq!(ran.code == 0, row.read.is_some(), "{name}: {}", ran.output);
            assert_eq!(
                ran.output.contains("precious\n") || ran.output == "precious",
                row.read.is_some(),
                "{name}"
            );
            let ran = shell(&mut client, &ground, &sandbox, "echo x > new && rm file").await;
            assert_eq!(ran.code == 0, row.workspace, "{name}: {}", ran.output);
            assert_eq!(ground.at("new").exists() || ground.at("w/new").exists(), row.workspace, "{name}");
            if !row.workspace {
                assert!(ran.denied, "{name}: {}", ran.output);
            }
            let ran = shell(&mut client, &ground, &sandbox, "echo x > ../o/precious").await;
            assert_eq!(ran.code == 0, row.elsewhere, "{name}: {}", ran.output);
            assert_eq!(
                ground.at("o/precious").metadata().expect("it is there").len() == 2,
                row.elsewhere,
                "{name}"
            );
            let ran = shell(&mut client, &ground, &sandbox, "echo x > .git/config || exit 3").await;
            assert_eq!(ran.code == 0, row.elsewhere, "{name}: {}", ran.output);
            let socket = run(&mut client, &ground, &sandbox, attacker::asked("socket", &ground)).await;
            if row.read.is_some() {
                assert_eq!(socket.output.contains("ESCAPED"), row.socket, "{name}: {}", socket.output);
            }
        }
    }
}

/// What a file request is answered: `None` for success, or the code.
type Codes = [Option<i64>; 4];
/// A row's name, its sandbox, and what it says.
type FileRow = (&'static str, fn(&Ground) -> Value, Codes);

#[tokio::test]
async fn each_row_of_the_table_holds_for_every_file_method() {
    if !enforceable() {
        return;
    }
    let (fine, missing, refused, failed) = (None, Some(-32004), Some(-32600), Some(-32603));
    // Reading elsewhere; changing the workspace; changing elsewhere; changing .git.
    let rows: [FileRow; 6] = [
        ("root read", read_only, [fine, failed, failed, failed]),
        ("project write", workspace, [fine, fine, failed, failed]),
        (
            "single path",
            |ground| ground.profile(json!([entry(&ground.uri("w"), "write")]), "restricted"),
            [missing, fine, missing, failed],
        ),
        ("empty", |ground| ground.profile(json!([]), "restricted"), [missing; 4]),
        (
            "denied",
            |ground| {
                let entries = [
                    special("root", "read"),
                    special("project_roots", "write"),
                    entry(&ground.uri("o"), "deny"),
                ];
                ground.profile(json!(entries), "restricted")
            },
            [refused, fine, refused, failed],
        ),
        ("root write", |ground| ground.profile(json!([special("root", "write")]), "restricted"), [fine; 4]),
    ];
    for (namespaces, server) in servers().await {
        if namespaces == "off" {
            continue;
        }
        let mut client = server.client().await;
        for (name, sandbox, [read, inside, outside, git]) in &rows {
            let ground = Ground::new();
            let sandbox = sandbox(&ground);
            let name = format!("{name} with namespaces {namespaces}");
            for (method, params) in reading(&ground) {
                check(&mut client, &name, method, params, &sandbox, *read).await;
            }
            for (place, expected) in [("w", inside), ("o", outside), ("w/.git", git)] {
                for (method, params) in changing(&ground, place) {
                    // Where nothing is there, it begins with the parents, in a read-only place.
                    let makes_parents = method == "fs/createDirectory" && params.get("recursive").is_none();
                    let expected =
                        expected.map(|code| if code == -32004 && makes_parents { -32603 } else { code });
                    check(&mut client, &name, method, params, &sandbox, expected).await;
                }
            }
            // In case of `force`, what can't be seen counts as gone, and stays.
            let free: &[&str] = if outside.is_none() { &["w", "o"] } else { &["w/"] };
            ground.is_untouched(if inside.is_none() { free } else { &[] });
        }
    }
}

async fn check(
    client: &mut TestClient,
    name: &str,
    method: &str,
    mut params: Value,
    sandbox: &Value,
    expected: Option<i64>,
) {
    params["sandbox"] = sandbox.clone();
    let got = client.call(method, params.clone()).await;
    let code = got.as_ref().err().map(|(code, _)| *code);
    assert_eq!(code, expected, "{name}: {method} {params} {got:?}");
    if method == "fs/open" && code.is_none() {
        let id = params["handleId"].clone();
        if params["mode"] == "replace" {
            let block = json!({"handleId": id, "offset": 0, "chunk": codex_e2e::base64("y")});
            client.ok("fs/writeBlock", block).await;
        } else {
            let block = client.ok("fs/readBlock", json!({"handleId": id, "offset": 0, "len": 3})).await;
            assert_eq!(codex_e2e::bytes_of(&block["chunk"]), b"pre");
        }
        client.ok("fs/close", json!({"handleId": id})).await;
    }
}

fn reading(ground: &Ground) -> Vec<(&'static str, Value)> {
    let (file, directory) = (ground.uri("o/precious"), ground.uri("o"));
    let options =
        json!({"maxDepth": 3, "maxDirectories": 9, "maxEntries": 9, "followDirectorySymlinks": true});
    vec![
        ("fs/readFile", json!({"path": file})),
        ("fs/readFile", json!({"path": file, "followSymlinks": false})),
        ("fs/getMetadata", json!({"path": file})),
        ("fs/canonicalize", json!({"path": file})),
        ("fs/readDirectory", json!({"path": directory})),
        ("fs/walk", json!({"path": directory, "options": options})),
        ("fs/open", json!({"path": file, "handleId": "r"})),
    ]
}

fn changing(ground: &Ground, place: &str) -> Vec<(&'static str, Value)> {
    let at = |name: &str| ground.uri(&format!("{place}/{name}"));
    let data = codex_e2e::base64("data");
    vec![
        ("fs/writeFile", json!({"path": at("n1"), "dataBase64": data})),
        ("fs/writeFile", json!({"path": at("n2"), "dataBase64": data, "followSymlinks": false})),
        ("fs/createDirectory", json!({"path": at("n3"), "recursive": false})),
        ("fs/createDirectory", json!({"path": at("n4/n5")})),
        ("fs/open", json!({"path": at("n6"), "handleId": "w", "mode": "replace"})),
        (
            "fs/copy",
            json!({"sourcePath": "file:///usr/bin/env", "destinationPath": at("n7"), "recursive": false}),
        ),
        (
            "fs/remove",
            json!({"path": at(if place == "w" { "file" } else { "sub" }), "force": false, "recursive": true}),
        ),
    ]
    .into_iter()
    // There is no such thing in .git, so that its removal says nothing.
    .filter(|(method, _)| place != "w/.git" || *method != "fs/remove")
    .collect()
}
