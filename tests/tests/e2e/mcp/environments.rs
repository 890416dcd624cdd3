//! Several environments behind one server of tools, and how each stands.

use codex_e2e::Server;
use codex_e2e::login::Home;
use codex_e2e::mcp::{McpClient, Revision};
use serde_json::json;

#[tokio::test]
async fn each_environment_is_told_with_its_state_and_one_that_is_paused_is_left_alone() {
    let server = Server::start().await;
    let home = Home::new();
    let env = async |words: &[&str]| {
        let ended = home.run(&[&["exec-server", "env"], words].concat()).await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    };
    env(&["add", "box", &server.url, "--use"]).await;
    env(&["add", "far", "ws://127.0.0.1:1"]).await;
    let home_path = home.path();
    let variables = [("CODEX_HOME", home_path.to_str().unwrap())];
    let mcp = McpClient::with_variables(Revision::Old, &["--also", "far"], &variables).await;
    let states = async || {
        let told = mcp.data("environments", json!({})).await["environments"].take();
        let of = |one: &serde_json::Value| {
            (one["state"].as_str().unwrap().to_owned(), one["paused"].as_bool().unwrap())
        };
        (of(&told[0]), of(&told[1]))
    };
    let is = |state: &str, paused| (state.to_owned(), paused);
    assert_eq!(states().await, (is("unknown", false), is("unknown", false)));
    mcp.data("list", json!({"path": "/"})).await;
    let refusal = mcp.refusal("list", json!({"path": "/", "environment": "far"})).await;
    assert!(refusal.contains("\"far\" can't be reached"), "{refusal}");
    assert_eq!(states().await, (is("ready", false), is("pending", false)));
    env(&["pause", "far"]).await;
    let refusal = mcp.refusal("list", json!({"path": "/", "environment": "far"})).await;
    assert!(refusal.contains("\"far\" is paused"), "{refusal}");
    assert_eq!(states().await, (is("ready", false), is("disconnected", true)));
    // Whoever names it anew may have meant another address.
    env(&["rm", "far"]).await;
    env(&["add", "far", &server.url]).await;
    mcp.data("list", json!({"path": "/", "environment": "far"})).await;
    assert_eq!(states().await, (is("ready", false), is("ready", false)));
}
