//! Programs with a managed network on a machine behind a company's proxy (13, 21.4).

use std::sync::Arc;

use codex_e2e::Server;
use codex_e2e::client::start_params;
use codex_e2e::http::{Asked, Origin, plain};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{proxy, visit};

/// A company's proxy: says what it was asked for, and in a tunnel the same once more.
async fn company() -> Origin {
    Origin::start(Arc::new(|asked: Asked, mut stream| {
        async move {
            if asked.method == "CONNECT" {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                {}
            }
            let text = format!("company {} {}", asked.method, asked.target);
            let _ = stream.write_all(&plain("200 OK", "", text.as_bytes())).await;
        }
        .boxed()
    }))
    .await
}

fn through(allowed: bool, more: Value) -> Value {
    let mut settings = proxy(json!({"allowUpstreamProxy": allowed, "domains": {"*": "allow"}}));
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"networkProxy": {"proxy": settings}})
}

#[tokio::test]
async fn http_and_tunnels_go_through_the_proxy_of_the_servers_environment_where_the_request_allows_it() {
    let company = company().await;
    for variables in [&["HTTP_PROXY", "HTTPS_PROXY"][..], &["http_proxy", "https_proxy"], &["ALL_PROXY"]] {
        let url = company.url("").replace("http://", "http://user:word@");
        let server = variables.iter().fold(Server::builder(), |server, name| server.env(name, &url));
        let server = server.start().await;
        let mut client = server.client().await;
        let errands = ["get http://a.invalid/x?y=1", "tunnel b.invalid:443"];
        let said = visit(&mut client, &errands, through(true, json!({}))).await;
        assert_eq!(said[0], "HTTP/1.1 200 OK company GET http://a.invalid/x?y=1", "{variables:?}");
        assert!(said[1].contains("company CONNECT b.invalid:443"), "{variables:?}: {said:?}");
        let said = visit(&mut client, &errands, through(false, json!({}))).await;
        assert!(said.iter().all(|said| said.starts_with("HTTP/1.1 502")), "{said:?}");
        let refused = visit(&mut client, &errands, through(true, json!({"domains": {}}))).await;
        assert!(refused.iter().all(|said| said.starts_with("HTTP/1.1 403")), "{refused:?}");
        let socks = visit(&mut client, &["socks a.invalid:443"], through(true, json!({}))).await;
        assert_eq!(socks, ["SOCKS 4"], "SOCKS goes straight");
    }
    let heads = company.heads().join("\n");
    assert!(heads.contains("authorization: Basic dXNlcjp3b3Jk"), "{heads}");
    assert!(!heads.contains("Basic eA=="), "the program's own word for its proxy stays here");
}

#[tokio::test]
async fn private_addresses_go_straight_unless_they_are_left_to_the_proxy() {
    let company = company().await;
    let errand = ["get http://10.255.255.254/x"];
    for (flags, local, expected) in [
        // Whatever such an address answers here, it is not the proxy.
        (&[][..], true, "HTTP/1.1"),
        (&["--proxy-private-ips-via-upstream"], true, "HTTP/1.1 200 OK company GET http://10.255.255.254/x"),
        (&["--proxy-private-ips-via-upstream"], false, "HTTP/1.1 403"),
    ] {
        let server =
            Server::builder().args(["--limit", "network_connect_time=2000"]).args(flags.iter().copied());
        let server = server.env("http_proxy", &company.url("")).start().await;
        let allowing = through(true, json!({"allowLocalBinding": local}));
        let said = visit(&mut server.client().await, &errand, allowing).await;
        assert!(said[0].starts_with(expected), "{flags:?} {local}: {said:?}");
    }
    assert_eq!(company.heads().len(), 1);
}

#[tokio::test]
async fn socks_reaches_the_world_by_the_tcp_proxy_alone() {
    let company = company().await;
    let address = company.address.to_string();
    let server = Server::builder().args(["--tcp-upstream-proxy", &address]).start().await;
    let mut client = server.client().await;
    let said = visit(&mut client, &["socks a.invalid:443"], through(true, json!({}))).await;
    assert!(said[0].contains("company CONNECT a.invalid:443"), "{said:?}");
    let head = company.heads().pop().unwrap().to_lowercase();
    assert_eq!(head, "connect a.invalid:443 http/1.1\r\nhost: a.invalid:443\r\n\r\n");
    let said = visit(&mut client, &["socks a.invalid:443"], through(false, json!({}))).await;
    assert_eq!(said, ["SOCKS 5"], "the request does not allow the only way");
    let local = through(true, json!({"allowLocalBinding": true}));
    let said = visit(&mut client, &[format!("socks {address}")], local).await;
    assert_eq!(said, ["SOCKS 5"], "private addresses are not sent there");
    let bare = start_params("p", ["/bin/true"], json!({"enforceManagedNetwork": true}));
    let refusal = client.call("process/start", bare).await.unwrap_err();
    assert_eq!(
        refusal,
        (-32602, "a mandatory TCP upstream requires an executor-local managed proxy".to_owned())
    );
}

#[tokio::test]
async fn a_tcp_proxy_that_is_no_host_and_port_is_wrong_usage() {
    for bad in [
        "proxy",
        "proxy:0",
        "proxy:70000",
        "http://proxy:1",
        "u@proxy:1",
        "proxy:1/x",
        "::1:1",
        "[::1]",
        ":1",
        "",
    ] {
        let refused = Server::builder().args(["--tcp-upstream-proxy", bad]).refused().await;
        assert_eq!(refused.code, Some(2), "{bad:?}: {}", refused.stderr);
    }
    let twice = ["--tcp-upstream-proxy", "a:1", "--tcp-upstream-proxy", "b:1"];
    assert_eq!(Server::builder().args(twice).refused().await.code, Some(2));
    Server::builder().args(["--tcp-upstream-proxy", "[::1]:3128"]).start().await;
}
