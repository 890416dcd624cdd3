//! The Unix socket: lines and websockets, its rights and its end.

use std::os::unix::fs::PermissionsExt;

use codex_e2e::{Server, TestClient};
use serde_json::json;

async fn unix_server() -> (Server, tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exec.sock");
    let server = Server::builder().listen(format!("unix://{}", path.display())).start().await;
    assert_eq!(server.url, format!("unix://{}", path.display()));
    (server, directory, path)
}

#[tokio::test]
async fn only_the_owner_may_connect_and_the_socket_goes_with_the_server() {
    let (mut server, _directory, path) = unix_server().await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    server.client().await;
    assert_eq!(server.stop().await.code(), Some(0));
    assert!(!path.exists(), "the socket file is removed at the end");
}

#[tokio::test]
async fn lines_and_websockets_are_told_apart() {
    let (_server, _directory, path) = unix_server().await;
    let mut lines = TestClient::unix_lines(&path).await;
    lines.handshake().await;
    let mut socket = TestClient::unix_socket(&path).await;
    socket.handshake().await;
    for client in [&mut lines, &mut socket] {
        let ended = client.run("p", "echo hello; exit 4").await;
        assert_eq!((ended.stdout().as_str(), ended.code()), ("hello\n", 4));
    }
}

#[tokio::test]
async fn a_session_moves_from_lines_to_a_websocket() {
    let (_server, _directory, path) = unix_server().await;
    let mut lines = TestClient::unix_lines(&path).await;
    lines.handshake().await;
    lines.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let session = lines.session_id.clone();
    drop(lines);
    let mut socket = TestClient::unix_socket(&path).await;
    crate::handshake::resume_soon(&mut socket, &session).await;
    socket.write("cat", "over there\n").await;
    socket.output_until("cat", "over there\n").await;
}

#[tokio::test]
async fn a_live_socket_is_not_stolen_and_a_dead_one_is_replaced() {
    let (mut server, _directory, path) = unix_server().await;
    let url = format!("unix://{}", path.display());
    let refused = Server::builder().listen(&url).refused().await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    server.client().await;
    server.signal(rustix::process::Signal::KILL);
    server.ended().await;
    assert!(path.exists(), "a killed server cannot clean up");
    Server::builder().listen(&url).start().await.client().await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let refused = Server::builder().listen(format!("unix://{}", path.display())).refused().await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[tokio::test]
async fn a_path_where_no_socket_can_be_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let there = |name: &str| directory.path().join(name).display().to_string();
    for (path, said) in [
        (there("missing/socket"), format!("make the directory {} first", there("missing"))),
        (there(&"long".repeat(30)), "up to 107 bytes".to_owned()),
    ] {
        let refused = Server::builder().listen(format!("unix://{path}")).refused().await;
        assert_eq!((refused.code, refused.stderr.contains(&said)), (Some(1), true), "{refused:?}");
    }
}

#[tokio::test]
async fn with_authentication_a_unix_socket_takes_websockets_with_a_token_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exec.sock");
    let token = directory.path().join("token");
    std::fs::write(&token, "abc").unwrap();
    let _server = Server::builder()
        .listen(format!("unix://{}", path.display()))
        .args(["--ws-auth", "capability-token", "--ws-token-file", token.to_str().unwrap()])
        .start()
        .await;
    let mut lines = TestClient::unix_lines(&path).await;
    lines
        .send_raw(&json!({"id": 1, "method": "initialize", "params": {"clientName": "x"}}).to_string())
        .await;
    let refusal = lines.next().await.unwrap();
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!(-1), &json!(-32600)), "{refusal}");
    lines.expect_closed().await;
    assert_eq!(TestClient::try_unix_socket(&path, &[]).await.err(), Some(401));
    let mut shown = TestClient::try_unix_socket(&path, &[("authorization", "Bearer abc")]).await.unwrap();
    shown.handshake().await;
    assert_eq!(shown.run("p", "echo in").await.stdout(), "in\n");
}
