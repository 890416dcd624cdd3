//! Which port the callback server takes, and what it does when one is taken.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use reqwest::StatusCode;

use super::support::{browse, browse_on, sign_in};
use crate::signin::{PORTS, SignInError};

/// Nobody answers there; these tests never get to the exchange.
const NO_ISSUER: &str = "http://127.0.0.1:9";

/// A program that is no sign-in: answers whatever it is asked with 404 and keeps its port. Gives what it was asked.
fn stranger() -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = [0; 4096];
            let count = stream.read(&mut head).unwrap_or(0);
            let _ =
                stream.write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = sender.send(String::from_utf8_lossy(&head[..count]).into_owned());
        }
    });
    (port, asked)
}

#[test]
fn the_ports_are_those_the_issuer_knows() {
    assert_eq!(PORTS, [1455, 1457]);
}

#[tokio::test]
async fn a_port_that_stays_taken_is_asked_once_and_left_for_the_next() {
    let (taken, asked) = stranger();
    let outcome = browse_on(&[taken, 0], &sign_in(NO_ISSUER), Ok(()), async |visitor| {
        visitor.get("/cancel").await;
        visitor.port
    })
    .await;
    assert_ne!(outcome.seen, taken);
    let requests: Vec<String> = asked.try_iter().collect();
    assert_eq!(
        requests,
        [format!("GET /cancel HTTP/1.1\r\nHost: 127.0.0.1:{taken}\r\nConnection: close\r\n\r\n")]
    );
}

#[tokio::test]
async fn with_every_port_taken_the_last_one_is_named() {
    let ((first, _), (second, _)) = (stranger(), stranger());
    let browser =
        crate::signin::Browser { ports: vec![first, second], originator: "codex_cli_rs".to_owned() };
    let error = crate::signin::sign_in_by_browser(
        &sign_in(NO_ISSUER),
        &browser,
        |_| {},
        async |_| Ok::<_, String>(()),
    )
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), format!("Port 127.0.0.1:{second} is already in use"));
    assert_eq!(error.first_line(), None);
}

#[tokio::test]
async fn a_second_sign_in_takes_the_port_of_the_first() {
    let first = browse(&sign_in(NO_ISSUER), async |first| {
        let port = first.port;
        let second = browse_on(&[port], &sign_in(NO_ISSUER), Ok(()), async |second| {
            assert_eq!(second.port, port);
            assert_ne!(first.parameter("state"), second.parameter("state"));
            let old = format!("/auth/callback?code=code-1&state={}", first.parameter("state"));
            assert_eq!(
                second.get(&old).await.status,
                StatusCode::BAD_REQUEST,
                "the old state is worth nothing"
            );
            second.get("/cancel").await;
        })
        .await;
        assert!(matches!(second.result, Err(SignInError::Cancelled)));
    })
    .await;
    assert!(matches!(first.result, Err(SignInError::Cancelled)), "{:?}", first.result);
}

#[tokio::test]
async fn only_127_0_0_1_is_listened_on() {
    browse(&sign_in(NO_ISSUER), async |visitor| {
        // All of 127/8 is this machine; a server on every address would answer here, too.
        let elsewhere = std::net::TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), visitor.port));
        assert_eq!(elsewhere.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        let by_name = visitor.get_at(&format!("http://localhost:{}/cancel", visitor.port)).await;
        assert_eq!(by_name.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn connections_that_say_nothing_hold_nothing_up() {
    let outcome = browse(&sign_in(NO_ISSUER), async |visitor| {
        let mut idle: Vec<TcpStream> =
            (0..8).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, visitor.port)).unwrap()).collect();
        idle[0].write_all(b"GET /suc").unwrap();
        assert_eq!(visitor.get("/cancel").await.status, StatusCode::OK);
        idle
    })
    .await;
    assert!(matches!(outcome.result, Err(SignInError::Cancelled)));
}

#[tokio::test]
async fn a_dropped_sign_in_frees_its_port() {
    let browser = crate::signin::Browser { ports: vec![0], originator: "codex_cli_rs".to_owned() };
    let (sender, told) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let sign_in = sign_in(NO_ISSUER);
    let flow = crate::signin::sign_in_by_browser(
        &sign_in,
        &browser,
        |notice| {
            if let crate::signin::Notice::Visit { port, .. } = notice {
                let _ = sender.take().unwrap().send(port);
            }
        },
        async |_| Ok::<_, String>(()),
    );
    let port = tokio::select! {
        outcome = flow => panic!("{outcome:?}"),
        told = told => told.unwrap(),
    };
    // The aborted task lets go of the socket when the runtime gets to it.
    while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        tokio::task::yield_now().await;
    }
}
