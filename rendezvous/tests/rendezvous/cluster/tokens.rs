//! Tokens that the nodes share, and brokers that lie about them.

use async_nats::jetstream;
use codex_rendezvous::cluster::{SharedTokens, SharedTokensError};
use codex_rendezvous::tokens::{TokenHash, scope};

use super::*;

/// Two nodes that share their tokens, and the way to change those. The nodes have a token of their own besides.
async fn sharing() -> (Cluster, SharedTokens) {
    let mut cluster = Cluster::behind(Broker::that_keeps().await, 0).await;
    let shared = SharedTokens::connect(&nodes_of(&cluster.broker.url(), SECRET)).await.unwrap();
    for _ in 0..2 {
        let node = cluster.node(share).await;
        cluster.nodes.push(node);
    }
    cluster.meet().await;
    (cluster, shared)
}

fn share(config: &mut Config) {
    config.cluster.as_mut().unwrap().shared_tokens = true;
}

async fn set(shared: &SharedTokens, grants: &[Grant]) {
    let set = |known: &mut Vec<Grant>| {
        *known = grants.to_vec();
        Ok::<_, SharedTokensError>(())
    };
    shared.change(set).await.unwrap();
}

async fn is_good(node: &Server, token: &str) -> bool {
    node.status(token, "").await != Err(401)
}

/// Waits until a token is good at a node, or no more.
async fn becomes(node: &Server, token: &str, good: bool) {
    eventually("the token is taken over", async || is_good(node, token).await == good).await;
}

/// The sealed list as the broker has it.
async fn kept(cluster: &Cluster) -> (jetstream::kv::Store, bytes::Bytes) {
    let client = async_nats::connect(cluster.broker.url()).await.unwrap();
    let store = jetstream::new(client).get_key_value("codex-rendezvous").await.unwrap();
    let list = store.get("tokens").await.unwrap().unwrap();
    (store, list)
}

#[tokio::test]
async fn a_shared_token_is_good_at_all_nodes_and_cut_at_all_when_it_is_taken_away() {
    let (cluster, shared) = sharing().await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let (token, grant) = mint(&[Role::Executor, Role::Harness, Role::Observer], "*");
    assert!(!is_good(a, &token).await);
    set(&shared, std::slice::from_ref(&grant)).await;
    for node in [a, b] {
        becomes(node, &token, true).await;
        assert!(is_good(node, &node.token).await, "their own is still good");
    }
    let (_, list) = kept(&cluster).await;
    let hash = grant.hash.to_string();
    assert!(
        !list.windows(hash.len()).any(|part| part == hash.as_bytes()),
        "the broker reads what tokens there are"
    );
    let (mut first, mut second) = (attached(a, &token, "first").await, attached(b, &token, "second").await);
    let narrowed = Grant { scope: scope("first").unwrap(), ..grant };
    set(&shared, &[narrowed]).await;
    assert_eq!(second.closed().await.0, 1008, "the token is not for it any more");
    set(&shared, &[]).await;
    assert_eq!(first.closed().await.0, 1008);
    for node in [a, b] {
        becomes(node, &token, false).await;
        assert!(is_good(node, &node.token).await);
    }
}

/// Registers with a token and attaches.
async fn attached(node: &Server, token: &str, id: &str) -> Socket {
    let body =
        json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": crate::support::key(1)});
    let (status, answer) = node.post(&format!("/cloud/environment/{id}/register"), token, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    Socket::open(text(&answer["url"])).await.unwrap()
}

#[tokio::test]
async fn a_broker_can_neither_make_up_nor_bring_back_a_shared_token() {
    let (mut cluster, shared) = sharing().await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let (gone, gone_grant) = mint(&[Role::Observer], "*");
    let (stays, stays_grant) = mint(&[Role::Observer], "*");
    set(&shared, &[gone_grant.clone(), stays_grant.clone()]).await;
    becomes(a, &gone, true).await;
    let (store, old) = kept(&cluster).await;
    set(&shared, std::slice::from_ref(&stays_grant)).await;
    for node in [a, b] {
        becomes(node, &gone, false).await;
    }
    // The list of before again, one that others have sealed, and what is no list at all.
    let foreign = Broker::that_keeps().await;
    let theirs =
        SharedTokens::connect(&nodes_of(&foreign.url(), "a-secret-of-somebody-else-altogether")).await;
    set(&theirs.unwrap(), &[Grant { hash: TokenHash::of("made up"), ..gone_grant.clone() }]).await;
    let made_up = {
        let client = async_nats::connect(foreign.url()).await.unwrap();
        let store = jetstream::new(client).get_key_value("codex-rendezvous").await.unwrap();
        store.get("tokens").await.unwrap().unwrap()
    };
    for lie in [old.clone(), made_up, "nothing".into(), old.clone()] {
        store.put("tokens", lie).await.unwrap();
        let (marker, marker_grant) = mint(&[Role::Observer], "*");
        for node in [a, b] {
            node.rendezvous.replace_tokens(vec![node.grant.clone(), marker_grant.clone()]);
            assert!(is_good(node, &marker).await);
            assert!(!is_good(node, "made up").await && !is_good(node, &gone).await);
            assert!(is_good(node, &stays).await);
        }
    }
    let joining = cluster.node(share).await;
    becomes(&joining, &gone, false).await;
    assert!(is_good(&joining, &stays).await);
    cluster.nodes.push(joining);
    // An operator's change begins with what the nodes have, whatever the broker shows.
    for lie in [old, "nothing".into()] {
        store.put("tokens", lie).await.unwrap();
        let (added, added_grant) = mint(&[Role::Observer], "*");
        let add = |known: &mut Vec<Grant>| {
            assert!(known.iter().all(|known| known.hash != gone_grant.hash));
            known.push(added_grant.clone());
            Ok::<_, SharedTokensError>(())
        };
        shared.change(add).await.unwrap();
        for node in &cluster.nodes {
            becomes(node, &added, true).await;
            assert!(is_good(node, &stays).await && !is_good(node, &gone).await);
        }
    }
}

#[tokio::test]
async fn without_jetstream_a_node_says_what_to_do_and_with_another_secret_it_does_not_start() {
    let plain = Cluster::start(0).await;
    let start = async |broker: &str, secret: &str| {
        let mut config = crate::support::config(vec![plain.grant.clone()]);
        joined(&mut config, broker, secret);
        share(&mut config);
        codex_rendezvous::Rendezvous::start(config).await.unwrap_err().to_string()
    };
    let error = start(&plain.broker.url(), SECRET).await;
    assert!(error.contains("nats-server -js"), "{error}");
    let shared = SharedTokens::connect(&nodes_of(&plain.broker.url(), SECRET)).await.unwrap();
    assert!(matches!(shared.grants().await, Err(SharedTokensError::NoJetStream)));
    let (cluster, shared) = sharing().await;
    set(&shared, std::slice::from_ref(&plain.grant)).await;
    let error = start(&cluster.broker.url(), "a-secret-of-somebody-else-altogether").await;
    assert!(error.contains("--cluster-secret-file"), "{error}");
}

#[tokio::test]
async fn a_node_waits_for_the_broker_and_a_new_secret_seals_the_list_anew() {
    let (mut cluster, shared) = sharing().await;
    let (token, grant) = mint(&[Role::Observer], "*");
    set(&shared, std::slice::from_ref(&grant)).await;
    cluster.broker.kill();
    let mut config = crate::support::config(Vec::new());
    joined(&mut config, &cluster.broker.url(), SECRET);
    share(&mut config);
    let starting = tokio::spawn(codex_rendezvous::Rendezvous::start(config));
    cluster.broker = cluster.broker.again().await;
    let started = patiently(starting).await.unwrap().unwrap();
    let http = cluster.nodes[0].http.clone();
    let late = Server { rendezvous: started, token: token.clone(), grant, http };
    assert!(is_good(&late, &token).await);
    let new = "the-secret-that-comes-after-the-first-one";
    for node in cluster.nodes.iter().chain([&late]) {
        node.rendezvous.replace_secrets(&ClusterSecrets::parse(&format!("{new}\n{SECRET}")).unwrap());
    }
    let with_new = nodes_of(&cluster.broker.url(), new);
    eventually("it is sealed by the new secret", async || {
        let shared = SharedTokens::connect(&with_new).await;
        match shared {
            Ok(shared) => shared.grants().await.is_ok_and(|grants| grants.len() == 1),
            Err(_) => false,
        }
    })
    .await;
}
