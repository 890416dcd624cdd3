//! The manager against scripted servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::*;
use crate::client::scripted::Scripted;
use crate::client::tests::Peer;
use crate::client::{ClientOptions, Endpoint, Rest};
use crate::protocol::process::{List, ListParams};

/// An address that may change.
#[derive(Clone)]
struct Address(Arc<Mutex<String>>);

impl Address {
    /// One where nobody listens.
    fn nowhere() -> Self {
        Self(Arc::new(Mutex::new("127.0.0.1:1".into())))
    }

    async fn listen(&self) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *self.0.lock() = listener.local_addr().unwrap().to_string();
        listener
    }

    fn dial(&self) -> Dial {
        let address = self.clone();
        let endpoint =
            move || Endpoint::WebSocket { url: format!("ws://{}", address.0.lock()), bearer: None };
        Dial::to(endpoint, ClientOptions::default())
    }
}

fn state(environments: &Environments) -> (State, bool) {
    let status = environments.status("box").unwrap();
    (status.state, status.paused)
}

fn offered(dial: Dial) -> Environments {
    let environments = Environments::default();
    environments.add_remote("box", dial).unwrap();
    environments
}

/// Answers a listing, so that whoever asks has seen the connection at work.
async fn works(environments: &Environments, peer: &mut Peer) {
    let client = environments.client("box").await.unwrap().unwrap();
    let params = ListParams::default();
    let (listed, _) =
        tokio::join!(client.call::<List>(&params), peer.answer("process/list", json!({"processes": []})));
    assert!(listed.unwrap().processes.is_empty());
}

#[tokio::test]
async fn a_failed_start_is_told_tried_again_unasked_and_kept_for_nobody() {
    let address = Address::nowhere();
    let environments = offered(address.dial());
    assert_eq!(state(&environments), (State::Unknown, false));
    let error = environments.get("box").await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Connect(_)), "{error}");
    let status = environments.status("box").unwrap();
    assert_eq!((status.state, status.reason), (State::Pending, Some(error.to_string())));
    // Asked in a hurry, the failure is told again.
    assert_eq!(environments.get("box").await.unwrap_err().to_string(), error.to_string());
    let listener = address.listen().await;
    // Nobody asks.
    let mut peer = Peer::accept(&listener).await;
    peer.handshake().await;
    works(&environments, &mut peer).await;
    assert_eq!(
        environments.status("box").unwrap(),
        Status { state: State::Ready, paused: false, reason: None }
    );
    // What is refused is not tried unasked.
    drop(peer);
    let refused = Environments::default();
    refused.add_remote("box", Dial::new(|| Err("no token".into()))).unwrap();
    assert_eq!(refused.get("box").await.unwrap_err().to_string(), "no token");
    assert_eq!(refused.status("box").unwrap().state, State::Disconnected);
}

#[tokio::test]
async fn all_who_ask_share_one_connection_until_it_ends() {
    let address = Address::nowhere();
    let listener = address.listen().await;
    let environments = offered(address.dial());
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        assert_eq!(state(&environments).0, State::Pending);
        peer.handshake().await;
        peer
    };
    let (first, second, mut peer) =
        tokio::join!(environments.client("box"), environments.client("box"), serving);
    let (first, second) = (first.unwrap().unwrap(), second.unwrap().unwrap());
    assert_eq!(first.session_id(), second.session_id());
    works(&environments, &mut peer).await;
    // Removed, it ends for all who hold it, and the name is free.
    let (removed, ()) = tokio::join!(environments.remove("box"), first.ended());
    removed.unwrap();
    assert!(second.has_ended() && second.end_reason().is_some());
    assert!(matches!(environments.status("box"), Err(EnvironmentError::Unknown { .. })));
    environments.add_remote("box", address.dial()).unwrap();
    let (again, _peer) = tokio::join!(environments.client("box"), async {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer
    });
    assert!(!again.unwrap().unwrap().has_ended());
}

#[tokio::test]
async fn one_that_is_paused_is_neither_waited_for_nor_connected_to() {
    let address = Address::nowhere();
    let listener = address.listen().await;
    let environments = offered(address.dial());
    let (asked, _silent) = tokio::join!(environments.get("box"), async {
        // It says nothing: a stuck one.
        let silent = listener.accept().await.unwrap();
        environments.pause("box").unwrap();
        silent
    });
    assert!(matches!(asked.unwrap_err(), EnvironmentError::Paused(_)));
    assert!(matches!(environments.get("box").await.unwrap_err(), EnvironmentError::Paused(_)));
    assert_eq!(state(&environments), (State::Unknown, true));
    environments.resume("box").unwrap();
    let (got, _peer) = tokio::join!(environments.get("box"), async {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer
    });
    got.unwrap();
    environments.pause("box").unwrap();
    environments.get("box").await.expect("a connection that works stays");
    assert_eq!(state(&environments), (State::Ready, true));
}

#[tokio::test]
async fn a_lost_connection_comes_back_only_when_the_rest_is_over() {
    let address = Address::nowhere();
    let listener = address.listen().await;
    let (marked, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mark = {
        let (marked, looks) = (Arc::clone(&marked), Arc::clone(&looks));
        Rest::new(move || {
            looks.fetch_add(1, Ordering::Relaxed);
            marked.load(Ordering::Relaxed)
        })
    };
    let environments = offered(address.dial().resting_while(mark));
    let (client, mut peer) = tokio::join!(environments.client("box"), async {
        let mut peer = Peer::accept(&listener).await;
        peer.handshake().await;
        peer
    });
    let client = client.unwrap().unwrap();
    works(&environments, &mut peer).await;
    marked.store(true, Ordering::Relaxed);
    drop(peer);
    client.linked().wait_for(|linked| !linked).await.unwrap();
    let before = looks.load(Ordering::Relaxed);
    while looks.load(Ordering::Relaxed) < before + 4 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(listener.accept().now_or_never().is_none(), "an attempt was made");
    assert_eq!(state(&environments), (State::Pending, true));
    assert!(matches!(environments.get("box").await.unwrap_err(), EnvironmentError::Paused(_)));
    marked.store(false, Ordering::Relaxed);
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.handshake().await["resumeSessionId"], "s1");
    works(&environments, &mut peer).await;
}

#[tokio::test]
async fn a_request_id_goes_with_the_upgrade_where_one_is_given() {
    for given in [None, Some("req_1".to_owned())] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let options = ClientOptions { request_id: given.clone(), ..ClientOptions::default() };
        let serving = async {
            let mut heard = None;
            #[allow(clippy::result_large_err)]
            let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                heard = request.headers().get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
                Ok(response)
            };
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = Peer(tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap());
            assert_eq!(peer.handshake().await["resumeSessionId"], Value::Null);
            heard
        };
        let connecting = Client::connect(Endpoint::WebSocket { url, bearer: None }, options);
        let (client, heard) = tokio::join!(connecting, serving);
        client.unwrap();
        assert_eq!(heard, given);
    }
}
