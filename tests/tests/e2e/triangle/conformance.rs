//! The conformance suite through a rendezvous: the protocol is the same there, but for what is no message at all.

use std::time::Duration;

use codex_conformance::{Subject, examine};
use codex_exec_server::client::ClientOptions;

use super::{Triangle, environment};

#[tokio::test]
async fn ours_keeps_every_rule_over_a_relay_too() {
    let mut triangle = Triangle::start().await;
    let (url, token) = (triangle.hub.url.clone(), triangle.token().await);
    let subject = Subject {
        endpoint: Box::new(move || environment(&url, &token)),
        options: ClientOptions::default(),
        http: None,
        resumes: true,
        patience: Duration::from_secs(30),
    };
    let report = examine(&subject, None).await.unwrap();
    let broken: Vec<_> = report.broken().collect();
    assert!(broken.is_empty(), "{report}");
    let told = report.to_string();
    for (told_here, sentence) in
        [(false, "is told with the id -1"), (true, "on a relay, what is no JSON ends the stream")]
    {
        assert_eq!(told.contains(sentence), told_here, "{told}");
    }
}
