//! MCP servers behind an environment that is itself behind a rendezvous.

use codex_exec_server::environment::Environment;

use super::Triangle;
use crate::mcp::behind::servers_are_reached;

#[tokio::test]
async fn servers_behind_an_environment_are_reached_through_a_relay() {
    let mut triangle = Triangle::start().await;
    let client = triangle.client().await;
    servers_are_reached(&Environment::remote(client)).await;
}
