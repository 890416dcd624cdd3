//! The dashboard and the alerts of `packaging/` show what there is.

use std::collections::BTreeSet;

use crate::support::{Server, data, eventually};

const DASHBOARD: &str = include_str!("../../../packaging/cluster/monitoring/grafana.json");
const RULES: &str = include_str!("../../../packaging/cluster/monitoring/rules.yml");

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("rendezvous_")).collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_exported_and_every_one_is_shown() {
    let server = Server::start().await;
    // What is counted by reasons shows once there is one.
    let mut executor = server.executor("env").await.socket;
    executor.send(data("nobody", "x")).await;
    server.harness("env").await.close().await;
    assert_eq!(server.status("wrong", "").await.unwrap_err(), 401);
    let mut metrics = String::new();
    eventually("a socket is counted that ended, and a frame that led nowhere", async || {
        metrics = server.get("/metrics").await.1;
        ["closed_sockets_total", "dropped_frames_total"].iter().all(|name| metrics.contains(name))
    })
    .await;
    let exported: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let exported: BTreeSet<&str> = exported.iter().map(String::as_str).collect();
    assert_eq!(named(DASHBOARD), exported);
    assert!(named(RULES).is_subset(&exported), "{:?}", named(RULES));
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert!(ids.len() == panels.len() && panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()));
}
