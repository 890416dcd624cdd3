//! Where `allowLocalBinding` doesn't lead either: to the server itself, and by names to this machine alone.

use codex_e2e::Server;

use super::*;

/// Everything that rules can allow.
pub(crate) fn to_everything() -> Value {
    let domains =
        json!({"*": "allow", "localhost": "allow", "127.0.0.1": "allow", "0.0.0.0": "allow", "::1": "allow"});
    json!({"networkProxy": {"proxy": proxy(json!({"allowLocalBinding": true, "domains": domains}))}})
}

/// Errands to a port of this machine, by every address and spelling that it has.
pub(crate) fn ways_to(port: u16) -> Vec<String> {
    let mut hosts: Vec<String> = [
        "localhost",
        "x.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "2130706433",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:0.0.0.0]",
        "[64:ff9b::127.0.0.1]",
    ]
    .map(str::to_owned)
    .to_vec();
    hosts.extend(own_addresses());
    let ways = |host: &String| {
        [
            format!("get http://{host}:{port}/"),
            format!("tunnel {host}:{port}"),
            format!("socks {}:{port}", host.trim_matches(['[', ']'])),
        ]
    };
    hosts.iter().flat_map(ways).collect()
}

/// Another address of this machine than loopback, if it has one: what it would send from.
fn own_addresses() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("1.1.1.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

pub(crate) fn all_refused(errands: &[impl AsRef<str>], told: &[String]) {
    assert_eq!(errands.len(), told.len());
    for (errand, told) in errands.iter().map(AsRef::as_ref).zip(told) {
        let starts = if errand.starts_with("socks") { "SOCKS 2" } else { "HTTP/1.1 403" };
        assert!(told.starts_with(starts), "{errand}: {told}");
        assert!(!errand.starts_with("get") || told.contains("not_allowed_local"), "{errand}: {told}");
    }
}

#[tokio::test]
async fn nothing_leads_to_the_server_itself_whoever_allows_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let port: u16 = server.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let errands = ways_to(port);
    let told = visit(&mut client, &errands, to_everything()).await;
    all_refused(&errands, &told);

    // Nor does the client's word.
    let settings = proxy(json!({"allowLocalBinding": true}));
    let asking = json!({"networkProxy": {"proxy": settings, "policyDecisionTimeoutMs": 30000}});
    start(&mut client, "asks", &errands[..1], asking).await;
    let question = client.until(|message| message["method"] == "network/policyRequest").await;
    let allow = json!({"id": question["id"], "result": {"decision": {"type": "allow"}}});
    client.send_raw(&allow.to_string()).await;
    all_refused(&errands[..1], &finish(&mut client, "asks").await);
}

#[tokio::test]
async fn nothing_leads_to_the_proxy_of_another_program() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut more = to_everything();
    more["pipeStdin"] = json!(true);
    client.shell_with("other", "echo $HTTP_PROXY; read x", more).await;
    let seen = client.output_until("other", "\n").await;
    let port: u16 = seen.trim().rsplit(':').next().unwrap().parse().unwrap();
    let errands = ways_to(port);
    all_refused(&errands, &visit(&mut client, &errands, to_everything()).await);
    client.write("other", "\n").await;
}

#[tokio::test]
async fn a_name_leads_to_loopback_only_where_loopback_is_allowed_itself() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = hosts.lines().filter(|line| line.starts_with("127."));
    let mut names = lines.flat_map(|line| line.split_whitespace().skip(1).map(move |name| (line, name)));
    let Some((line, name)) = names.find(|(_, name)| !name.contains("localhost")) else {
        eprintln!("SKIPPED: no other name of this machine is in /etc/hosts");
        return;
    };
    let address = line.split_whitespace().next().unwrap();
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let get = format!("get http://{name}:{}/", origin.address.port());
    for (domains, status) in [
        (json!({name: "allow", "localhost": "allow"}), "HTTP/1.1 403"),
        (json!({name: "allow", address: "allow"}), "HTTP/1.1 200"),
        (json!({"*": "allow", "127.*": "deny"}), "HTTP/1.1 403"),
        (json!({"*": "allow", "localhost": "deny"}), "HTTP/1.1 403"),
    ] {
        let settings = proxy(json!({"allowLocalBinding": true, "domains": domains}));
        let told = visit(&mut client, &[&get], json!({"networkProxy": {"proxy": settings}})).await;
        assert!(told[0].starts_with(status), "{domains}: {told:?}");
    }
}
