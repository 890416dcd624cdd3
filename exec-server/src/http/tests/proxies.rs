//! Proxies of the environment, as curl understands them.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A service whose environment has these variables.
fn behind(variables: Vec<(&'static str, String)>) -> LocalHttp {
    LocalHttp::new(&Limits::default(), move |wanted| {
        variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
    })
}

/// A SOCKS5 proxy that leads whatever it is asked for to one address.
async fn socks(to: std::net::SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = [0; 2];
            near.read_exact(&mut head).await.unwrap();
            near.read_exact(&mut vec![0; usize::from(head[1])]).await.unwrap();
            near.write_all(&[5, 0]).await.unwrap();
            let mut request = [0; 5];
            near.read_exact(&mut request).await.unwrap();
            assert_eq!(request[..4], [5, 1, 0, 3], "to connect to a name that the proxy looks up");
            near.read_exact(&mut vec![0; usize::from(request[4]) + 2]).await.unwrap();
            near.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address.to_string()
}

#[tokio::test]
async fn a_socks_proxy_for_everything_carries_requests() {
    let peer = Peer::start(script).await;
    let proxy = socks(peer.address).await;
    for variable in ["ALL_PROXY", "all_proxy"] {
        let http = behind(vec![(variable, format!("socks5h://{proxy}"))]);
        let answer = http.request(params("http://only-the-proxy.test/", json!({}))).await.unwrap();
        assert_eq!(answer.body.0, b"hello");
        assert!(peer.last().contains("host: only-the-proxy.test\r\n"), "{}", peer.last());
    }
}

#[tokio::test]
async fn hosts_and_addresses_that_no_proxy_names_are_asked_straight() {
    let (proxy, peer) = (Peer::start(|_| reply("299 Proxied", b"")).await, Peer::start(script).await);
    for (exceptions, straight) in [
        ("*", true),
        ("elsewhere.test, *", true),
        ("127.0.0.1", true),
        ("10.0.0.0/8,127.0.0.0/8", true),
        ("127.0.0.2", false),
        ("10.0.0.0/8", false),
        ("", false),
    ] {
        for variable in ["NO_PROXY", "no_proxy"] {
            let http = behind(vec![("http_proxy", proxy.url("")), (variable, exceptions.to_owned())]);
            let status = http.request(params(&peer.url("/"), json!({}))).await.unwrap().status;
            assert_eq!(status, if straight { 200 } else { 299 }, "{exceptions:?}");
        }
    }
}

#[tokio::test]
async fn junk_for_everything_leaves_a_good_proxy_of_the_scheme_alone() {
    let (proxy, peer) = (Peer::start(|_| reply("299 Proxied", b"")).await, Peer::start(script).await);
    let junk = || ("ALL_PROXY", "no address: at all".to_owned());
    let secure = behind(vec![junk(), ("HTTPS_PROXY", proxy.url(""))]);
    // The tunnel's peer speaks no TLS; that it was asked for is enough.
    secure.request(params("https://behind.test/", json!({}))).await.unwrap_err();
    assert!(proxy.last().to_lowercase().starts_with("connect behind.test:443 "), "{}", proxy.last());
    let plain = behind(vec![junk(), ("http_proxy", proxy.url(""))]);
    assert_eq!(plain.request(params(&peer.url("/"), json!({}))).await.unwrap().status, 299);
    // What no other proxy is for goes straight.
    assert_eq!(secure.request(params(&peer.url("/"), json!({}))).await.unwrap().status, 200);
}
