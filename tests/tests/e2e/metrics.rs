//! `GET /metrics` of an exec-server (`docs/metrics.md`).

use std::collections::BTreeMap;

use codex_e2e::http::{ask, ask_for_all};
use codex_e2e::{Server, machine, secret};
use serde_json::json;

/// A sample by its name and labels, as the text has them.
type Samples = BTreeMap<String, f64>;

/// Reads OpenMetrics text as strictly as Prometheus does: families in one piece and declared, counters ending in `_total`,
/// histograms that add up, one value for each set of labels, and the end.
fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut samples, mut kinds, mut family) = (Samples::new(), BTreeMap::new(), None::<(String, String)>);
    for line in body.lines() {
        if let Some(declared) = line.strip_prefix("# ") {
            let [word, name, rest] = declared.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            match word {
                "TYPE" => {
                    assert!(
                        kinds.insert(name.to_owned(), rest.to_owned()).is_none(),
                        "{name} is declared twice"
                    );
                    family = Some((name.to_owned(), rest.to_owned()));
                }
                "HELP" => assert!(rest.ends_with('.'), "{line}"),
                "UNIT" => assert!(name.ends_with(rest), "{line}"),
                other => panic!("{other} in {line}"),
            }
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let name = name_and_labels.split('{').next().unwrap();
        let (family, kind) = family.as_ref().unwrap_or_else(|| panic!("{line} is not declared"));
        let suffix =
            name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} is none of {family}"));
        let good = match kind.as_str() {
            "gauge" => suffix.is_empty(),
            "counter" => suffix == "_total",
            "histogram" => ["_sum", "_count", "_bucket"].contains(&suffix),
            _ => false,
        };
        assert!(good, "{line} is no {kind}");
        if let Some(labels) = name_and_labels.split_once('{').map(|(_, labels)| labels) {
            assert!(labels.ends_with("\"}"), "{line}");
        }
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        assert!(samples.insert(name_and_labels.to_owned(), value).is_none(), "{line} is there twice");
    }
    for (name, value) in samples.iter().filter(|(name, _)| name.contains("le=\"+Inf\"")) {
        let count = name.replace("_bucket", "_count").replace("le=\"+Inf\",", "").replace(",le=\"+Inf\"", "");
        assert_eq!(samples.get(&count.replace("{le=\"+Inf\"}", "")), Some(value), "{name} is not {count}");
    }
    samples
}

async fn get(address: std::net::SocketAddr, more: &str) -> String {
    ask_for_all(address, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{more}\r\n")).await
}

async fn samples(address: std::net::SocketAddr) -> Samples {
    let answer = get(address, "").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    parse(body)
}

#[tokio::test]
async fn figures_have_the_released_names_and_count_what_happened() {
    let server = Server::builder().args(["--metrics"]).start().await;
    let mut client = server.client().await;
    for (id, script) in [("good", "true"), ("bad", "exit 3"), ("killed", "kill -9 $$")] {
        client.start(id, ["/bin/sh", "-c", script]).await;
        client.finish(id).await;
    }
    client.start("running", ["/bin/sleep", "60"]).await;
    client.refused("made/up", json!({})).await;
    client.refused("other/made/up", json!({})).await;
    client.refused("process/start", json!({})).await;
    let expected = [
        ("exec_server_connections_active{transport=\"websocket\"}", 1.0),
        ("exec_server_connections_active{transport=\"stdio\"}", 0.0),
        ("exec_server_connections_active{transport=\"relay\"}", 0.0),
        ("exec_server_connections_total{transport=\"websocket\"}", 1.0),
        ("exec_server_requests_total{method=\"initialize\",result=\"success\"}", 1.0),
        ("exec_server_requests_total{method=\"process/start\",result=\"success\"}", 4.0),
        ("exec_server_requests_total{method=\"process/start\",result=\"error\"}", 1.0),
        ("exec_server_requests_total{method=\"unknown\",result=\"error\"}", 2.0),
        ("exec_server_request_duration_seconds_count{method=\"process/start\",result=\"success\"}", 4.0),
        ("exec_server_processes_active", 1.0),
        ("exec_server_processes_finished_total{result=\"success\"}", 1.0),
        ("exec_server_processes_finished_total{result=\"error\"}", 1.0),
        ("exec_server_processes_finished_total{result=\"terminated\"}", 1.0),
        ("exec_server_process_duration_seconds_count{result=\"success\"}", 1.0),
    ];
    let mut found = Samples::new();
    // A program is counted just behind the news of its end.
    let deadline = tokio::time::Instant::now() + codex_e2e::GUARD;
    while expected.iter().any(|(name, value)| found.get(*name) != Some(value)) {
        assert!(tokio::time::Instant::now() < deadline, "{found:#?}");
        found = samples(server.address()).await;
    }
    drop(client);
    let open = "exec_server_connections_active{transport=\"websocket\"}";
    while samples(server.address()).await[open] != 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "the connection is gone");
    }
}

#[tokio::test]
async fn figures_are_for_who_may_connect_and_for_no_page() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("token"), secret!("of the door")).unwrap();
    let server = Server::builder()
        .args(["--metrics", "--ws-auth", "capability-token", "--ws-token-file"])
        .args([place.path().join("token")])
        .start()
        .await;
    let bearer = concat!("Authorization: Bearer ", secret!("of the door"), "\r\n");
    for (more, status) in [
        ("", 401),
        (concat!("Authorization: Bearer ", secret!("guess"), "\r\n"), 401),
        (bearer, 200),
        (concat!("Origin: null\r\nAuthorization: Bearer ", secret!("of the door"), "\r\n"), 403),
    ] {
        let answer = get(server.address(), more).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{more}{answer}");
    }
    let post = format!("POST /metrics HTTP/1.1\r\nHost: x\r\n{bearer}\r\n");
    let answer = ask(server.address(), &post).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET,HEAD"), "{answer}");
}

#[tokio::test]
async fn an_address_of_its_own_shows_figures_and_lends_nothing() {
    let (server, mut client) = Server::builder().args(["--metrics-listen", "127.0.0.1:0"]).stdio().await;
    client.handshake().await;
    let told = "metrics at http://";
    machine::eventually("the address is told", || server.told().contains("/metrics\n")).await;
    let text = server.told();
    let address = text.split(told).nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let address = address.parse().unwrap_or_else(|_| panic!("{address}"));
    assert_eq!(samples(address).await["exec_server_connections_active{transport=\"stdio\"}"], 1.0);
    for more in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "nowhere"] {
        let refused = Server::builder().args(["--metrics-listen", more]).refused().await;
        assert_eq!(refused.code, Some(2), "{more}: {refused:?}");
    }
}
