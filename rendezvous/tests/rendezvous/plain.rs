//! Plain relays: contracts C and D, and harnesses of section 9.1.

use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use codex_rendezvous::tokens::Role;

use crate::support::{Server, Socket, data, mint, pair, text};

async fn plain_executor(server: &Server, path: &str) -> Socket {
    let (status, answer) = server.post(path, &server.token, None).await;
    assert_eq!(status, 200, "{answer}");
    Socket::open(text(&answer["url"])).await.unwrap()
}

/// A harness's URL as `CODEX_EXEC_SERVER_URL` holds it.
fn harness_url(server: &Server, id: &str, token: Option<&str>) -> String {
    let token = token.map_or_else(String::new, |token| format!("&token={token}"));
    format!("ws://{}/rendezvous?role=harness&environment={id}{token}", server.rendezvous.address())
}

#[tokio::test]
async fn a_plain_harness_shows_its_token_in_the_query_or_in_a_header() {
    let server = Server::start().await;
    let mut executor = plain_executor(&server, "/cloud/executor/c/register").await;
    let mut query = Socket::open(harness_url(&server, "c", Some(&server.token))).await.unwrap();
    let mut request = harness_url(&server, "c", None).into_client_request().unwrap();
    let header = format!("Bearer {}", server.token).parse().unwrap();
    request.headers_mut().insert("authorization", header);
    let mut header = Socket::open(request).await.unwrap();
    query.send(data("Q", "1")).await;
    assert_eq!(executor.said().await, pair("Q", "1"));
    header.send(data("H", "2")).await;
    assert_eq!(executor.said().await, pair("H", "2"));
    executor.send(data("H", "3")).await;
    assert_eq!(header.said().await, pair("H", "3"));
}

#[tokio::test]
async fn sixteen_mebibytes_pass_on_a_plain_relay() {
    let server = Server::start().await;
    let mut executor = plain_executor(&server, "/cloud/environment/d/register").await;
    let mut harness = Socket::open(harness_url(&server, "d", Some(&server.token))).await.unwrap();
    harness.send(data("A", "1")).await;
    assert_eq!(executor.said().await, pair("A", "1"));
    let large = data("A", vec![b'x'; (16 << 20) - 40]);
    let (sent, received) = tokio::join!(executor.send(large.clone()), harness.receive());
    let () = sent;
    assert!(received == large, "{} bytes", received.len());
}

#[tokio::test]
async fn plain_harnesses_need_a_token_for_the_environment_and_a_plain_environment() {
    let server = Server::start().await;
    let _plain = plain_executor(&server, "/cloud/executor/c/register").await;
    let _noise = server.executor("e").await;
    let (other, other_grant) = mint(&[Role::Harness], "x");
    let (executor, executor_grant) = mint(&[Role::Executor], "c");
    server.rendezvous.replace_tokens(vec![server.grant.clone(), other_grant, executor_grant]);
    let all = server.token.as_str();
    for (id, token, status, reason) in [
        ("c", None, 401, "invalid_secret"),
        ("c", Some("wrong"), 401, "invalid_secret"),
        ("c", Some(other.as_str()), 403, "invalid_role"),
        ("c", Some(executor.as_str()), 403, "invalid_role"),
        ("e", Some(all), 403, "missing_signature"),
        ("nowhere", Some(all), 404, "unknown_route"),
    ] {
        let refused = Socket::open(harness_url(&server, id, token)).await.unwrap_err();
        assert_eq!((refused.0, refused.1.as_str()), (status, reason), "{id} {token:?}");
    }
}

#[tokio::test]
async fn plain_relays_are_off_unless_allowed() {
    let server = Server::start_with(|config| config.allow_plain = false).await;
    for path in ["/cloud/executor/c/register", "/cloud/environment/c/register"] {
        let (status, answer) = server.post(path, &server.token, None).await;
        assert_eq!((status, text(&answer["error"]["code"]).as_str()), (400, "plain_relay_not_allowed"));
        assert!(text(&answer["error"]["message"]).contains("--allow-plain"));
    }
    let refused = Socket::open(harness_url(&server, "c", Some(&server.token))).await.unwrap_err();
    assert_eq!(refused.0, 403);
}
