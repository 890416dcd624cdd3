//! Tests of dialling against a real proxy on loopback.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A CONNECT proxy that leads every name to one address, and what it was asked.
async fn proxy(behind: String, status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(near.read_u8().await.unwrap());
            }
            heads.lock().unwrap().push(String::from_utf8(head).unwrap());
            near.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            let Ok(mut far) = TcpStream::connect(&behind).await else { continue };
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (address, asked)
}

/// A server that says the same to everybody.
async fn greeter(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // Only the one who speaks first is answered: a greeting at once would not be a websocket's.
            let _ = (socket.read_u8().await, socket.write_all(words).await);
        }
    });
    address
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

async fn greeting(outgoing: &Outgoing, to: &str) -> String {
    let mut stream = outgoing.dial(&url(to)).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

#[tokio::test]
async fn a_name_that_only_the_proxy_knows_is_reached_through_its_tunnel() {
    let server = greeter(b"hello").await;
    let (address, asked) = proxy(server, "200 Connection established").await;
    let through = format!("http://user:p%40ss@{address}");
    let cases = [
        (
            Proxies { https: Some(through.clone()), ..Proxies::default() },
            "wss://inner.test/x?ticket=t",
            "443",
        ),
        (Proxies { all: Some(through.clone()), ..Proxies::default() }, "wss://inner.test:8443/", "8443"),
        (Proxies { http: Some(through.clone()), ..Proxies::default() }, "ws://inner.test/", "80"),
    ];
    for (proxies, to, port) in cases {
        assert_eq!(greeting(&Outgoing::new(None, proxies), to).await, "hello", "{to}");
        let head = asked.lock().unwrap().pop().unwrap();
        assert!(head.starts_with(&format!("CONNECT inner.test:{port} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains("proxy-authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
        assert!(head.contains(&format!("host: inner.test:{port}\r\n")) && !head.contains("ticket"), "{head}");
    }
}

#[tokio::test]
async fn loopback_and_what_no_proxy_names_go_straight() {
    let server = greeter(b"hello").await;
    let port = server.rsplit(':').next().unwrap();
    let nowhere = Proxies { all: Some("http://127.0.0.1:1".into()), ..Proxies::default() };
    for to in [format!("ws://{server}/"), format!("wss://localhost:{port}/"), "ws://127.0.0.2:1/".to_owned()]
    {
        assert!(nowhere.on_the_way(&url(&to)).unwrap().is_none(), "{to}");
    }
    assert!(nowhere.on_the_way(&url("ws://[::1]:1/")).unwrap().is_none());
    assert!(nowhere.on_the_way(&url("ws://[2001:db8::1]:1/")).unwrap().is_some());
    assert_eq!(greeting(&Outgoing::new(None, nowhere.clone()), &format!("ws://{server}/")).await, "hello");
    let table = [
        ("inner.test", "wss://inner.test/", false),
        ("inner.test", "wss://deep.inner.test/", false),
        ("inner.test", "wss://other.test/", true),
        ("10.0.0.0/8, .test", "wss://10.1.2.3/", false),
        ("*", "wss://other.test/", false),
        ("x, *", "wss://192.0.2.1/", false),
        ("*", "wss://[2001:db8::1]/", false),
        ("192.0.2.1", "wss://192.0.2.1/", false),
        ("192.0.2.1", "wss://192.0.2.2/", true),
    ];
    for (exceptions, to, proxied) in table {
        let proxies = Proxies { none_for: Some(exceptions.into()), ..nowhere.clone() };
        assert_eq!(proxies.on_the_way(&url(to)).unwrap().is_some(), proxied, "{exceptions} {to}");
    }
    let secure_only = Proxies { https: nowhere.all.clone(), ..Proxies::default() };
    assert!(secure_only.on_the_way(&url("ws://other.test/")).unwrap().is_none());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let server = greeter(b"hello").await;
    let (address, _) = proxy(server, "407 Proxy Authentication Required").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = taken.local_addr().unwrap();
    drop(taken);
    let cases = [
        (
            format!("http://user:s3cret@{address}"),
            format!("the proxy {address} refused a tunnel to inner.test:443 with 407"),
        ),
        (format!("http://user:s3cret@{closed}"), format!("the proxy {closed} can't be reached")),
        (format!("socks5h://user:s3cret@{closed}"), format!("the proxy {closed} did not let us through")),
        ("http://user:s3cret@[".to_owned(), "HTTPS_PROXY does not hold the address of a proxy".to_owned()),
    ];
    for (proxy, sentence) in cases {
        let outgoing = Outgoing::new(None, Proxies { https: Some(proxy), ..Proxies::default() });
        let error = outgoing.dial(&url("wss://inner.test/")).await.unwrap_err();
        assert!(error.to_string().starts_with(&sentence), "{error}");
        assert!(!format!("{error:?} {outgoing:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_before_the_server_or_without_end_is_refused() {
    for (answer, word) in [
        ("200 OK\r\n\r\nHTTP/1.1 101", "before the server"),
        (concat!("200 OK\r\nx: ", include_str!("lib.rs"), include_str!("lib.rs")), "broke off"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let _ = near.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
            // Held open until the other side has seen enough.
            let _ = near.read_to_end(&mut Vec::new()).await;
        });
        let outgoing =
            Outgoing::new(None, Proxies { https: Some(format!("http://{address}")), ..Proxies::default() });
        let error = outgoing.dial(&url("wss://inner.test/")).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn certificates_that_can_not_be_used_are_refused_with_their_file_and_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cases = [
        ("/dev/zero".into(), "it has more than 16777216 bytes"),
        (file("words", b"no certificate"), "not a PEM bundle"),
        (file("cut", b"-----BEGIN CERTIFICATE-----\nAAAA"), "not a PEM bundle"),
        (folder.path().join("missing"), "can't read the CA certificates"),
    ];
    for (path, words) in cases {
        let text = Outgoing::new(Some(path.clone()), Proxies::default()).http().unwrap_err().to_string();
        assert!(text.contains(words) && text.contains(path.to_str().unwrap()), "{text}");
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    assert!(Outgoing::new(Some(file("good", made.as_bytes())), Proxies::default()).http().is_ok());
    assert!(Roots::from_pem(made.as_bytes()).is_ok());
    assert_eq!(Roots::from_pem(b"words").unwrap_err(), RootsError::None);
}

#[test]
fn a_trusted_certificate_is_one_with_words_behind_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert;
    let words = [made.der().as_ref(), b"\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trusted");
    for (label, der) in
        [("TRUSTED CERTIFICATE", &words[..]), ("X509 CERTIFICATE", made.der()), ("CERTIFICATE", made.der())]
    {
        let base64 = base64_simd::STANDARD.encode_to_string(der);
        std::fs::write(&path, format!("\u{feff}-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n"))
            .unwrap();
        let http = Outgoing::new(Some(path.clone()), Proxies::default()).http();
        assert!(http.is_ok(), "{label}: {http:?}");
    }
}

#[test]
fn an_address_that_is_not_needed_may_be_junk() {
    let junk = Some("http://[".to_owned());
    let good = Some("http://proxy.test:3128".to_owned());
    let beside = Proxies { https: good, all: junk.clone(), ..Proxies::default() };
    assert!(beside.on_the_way(&url("wss://other.test/")).unwrap().is_some());
    assert!(Outgoing::new(None, beside).http().is_ok());
    let alone = Proxies { all: junk, ..Proxies::default() };
    assert!(alone.on_the_way(&url("wss://other.test/")).is_err());
}

/// A SOCKS proxy that leads every name to one address; what it was asked for: command and name.
async fn socks_proxy(behind: String) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = [0; 2];
            near.read_exact(&mut head).await.unwrap();
            near.read_exact(&mut vec![0; usize::from(head[1])]).await.unwrap();
            near.write_all(&[5, 0]).await.unwrap();
            let mut request = [0; 5];
            near.read_exact(&mut request).await.unwrap();
            let mut name = vec![0; usize::from(request[4])];
            near.read_exact(&mut name).await.unwrap();
            near.read_u16().await.unwrap();
            names.lock().unwrap().push(name);
            near.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.unwrap();
            let mut far = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_socks_proxy_looks_up_the_name() {
    let (address, asked) = socks_proxy(greeter(b"hello").await).await;
    let proxies = Proxies { all: Some(format!("socks5h://{address}")), ..Proxies::default() };
    assert_eq!(greeting(&Outgoing::new(None, proxies), "ws://inner.test/").await, "hello");
    assert_eq!(*asked.lock().unwrap(), [b"inner.test".to_vec()]);
}
