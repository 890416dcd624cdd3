//! Programs and files through the client library, over Noise and over both plain contracts.

use codex_e2e::{ExecutorBuilder, Hub};
use codex_exec_server::client::{Client, ClientOptions, Endpoint};
use codex_exec_server::environment::Environment;
use codex_exec_server::protocol::filesystem::{ReadFile, WriteFile};
use codex_exec_server::protocol::process::Write;
use serde_json::json;

use super::{Triangle, all_of, script, variable};

/// Output both ways, exit codes, a terminal, stdin, files.
async fn does_everything(client: &Client) {
    let mut program = client
        .start(script("both", "cat; echo error >&2; exit 3", json!({"pipeStdin": true})))
        .await
        .unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 253) as u8).collect();
    let control = program.control();
    let (input, pieces) = (sent.clone(), control.clone());
    let feeding = tokio::spawn(async move {
        for piece in input.chunks(100_000) {
            pieces.write(piece.to_vec()).await.unwrap();
        }
        control.close_stdin().await.unwrap();
    });
    let (out, err, code) = all_of(&mut program).await;
    feeding.await.unwrap();
    assert!(out == sent, "{} bytes came back", out.len());
    assert_eq!((err.as_slice(), code), (&b"error\n"[..], 3));

    let mut terminal = client
        .start(script(
            "tty",
            "stty size; read line; echo got $line",
            json!({"tty": true, "rows": 7, "cols": 77}),
        ))
        .await
        .unwrap();
    terminal.control().write(b"a key\n".to_vec()).await.unwrap();
    let (screen, _, code) = all_of(&mut terminal).await;
    let screen = String::from_utf8(screen).unwrap();
    assert!(screen.contains("7 77") && screen.contains("got a key") && code == 0, "{screen}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let content: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 241) as u8).collect();
    let write = json!({"path": path, "dataBase64": codex_e2e::base64(&content)});
    client.call::<WriteFile>(&serde_json::from_value(write).unwrap()).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
    let read =
        client.call::<ReadFile>(&serde_json::from_value(json!({"path": path})).unwrap()).await.unwrap();
    let read = serde_json::to_value(read).unwrap();
    assert!(codex_e2e::bytes_of(&read["dataBase64"]) == content);

    let unknown = json!({"processId": "nobody", "chunk": ""});
    let answer = client.call::<Write>(&serde_json::from_value(unknown).unwrap()).await;
    assert_eq!(serde_json::to_value(answer.unwrap()).unwrap()["status"], "unknownProcess");
}

#[tokio::test]
async fn programs_and_files_pass_through_noise() {
    let mut triangle = Triangle::start().await;
    let client = triangle.client().await;
    does_everything(&client).await;
    let second = triangle.client().await;
    assert_ne!(client.session_id(), second.session_id());
    does_everything(&second).await;
    client.close().await;
    second.close().await;
}

/// A plain relay by the printed lines, the executor with these flags instead of its id.
async fn plain(flags: &[&str]) {
    let mut hub = Hub::start(&["--allow-plain"]).await;
    let line = hub.line("--remote").await.replace("--environment-id my-machine", &flags.join(" "));
    let mut executor = ExecutorBuilder::of_line(&line, None).start();
    executor.tells("attached").await;
    let url = variable(&hub.line("CODEX_EXEC_SERVER_URL").await, "CODEX_EXEC_SERVER_URL");
    let endpoint = Endpoint::WebSocket { url, bearer: None };
    let client = Client::connect(endpoint, ClientOptions::default()).await.unwrap();
    does_everything(&client).await;
    client.close().await;
}

#[tokio::test]
async fn programs_and_files_pass_through_the_plain_relay_of_an_executor_id() {
    plain(&["--executor-id", "my-machine"]).await;
}

#[tokio::test]
async fn programs_and_files_pass_through_the_plain_relay_of_an_environment_id() {
    plain(&["--environment-id", "my-machine", "--remote-contract", "environment"]).await;
}

#[tokio::test]
async fn what_an_executor_is_configured_with_is_read_through_a_rendezvous() {
    let mut triangle = Triangle::start().await;
    let text = "[mcp_servers.docs]\nurl = \"http://127.0.0.1:1\"\n";
    std::fs::write(triangle.executor.home().join("config.toml"), text).unwrap();
    let environment = Environment::remote(triangle.client().await);
    assert!(environment.info.unwrap().capabilities.environment_config_read);
    let asked = json!({"cwd": "/", "configPaths": [["mcp_servers"]], "requirementsPaths": []});
    let read = environment.discovery.read_config(serde_json::from_value(asked).unwrap()).await.unwrap();
    assert_eq!(read.config.layers.iter().map(|layer| layer.toml.as_str()).collect::<Vec<_>>(), [text]);
}
