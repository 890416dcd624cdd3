//! A rendezvous operator who logs everything and changes what passes: between one side and the real rendezvous.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, connect_async};

use crate::link::unlimited;

/// Which way a websocket message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the rendezvous.
    In,
    /// From the rendezvous.
    Out,
}

/// What becomes of a binary message: those to send in its place.
pub type Tamper = Box<dyn FnMut(Way, Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// A running proxy; dropping it ends it.
pub struct Operator {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    log: Mutex<Vec<u8>>,
    tamper: Mutex<Tamper>,
}

impl Operator {
    /// Listens on a free port; changes nothing yet.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let tamper: Tamper = Box::new(|_, message| vec![message]);
        let shared = Arc::new(Shared { target, log: Mutex::default(), tamper: Mutex::new(tamper) });
        let passing = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&passing);
                tokio::spawn(async move { shared.pass(stream).await });
            }
        });
        Self { address, shared, task }
    }

    /// As a registry's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes messages from now on.
    pub fn tamper(&self, tamper: impl FnMut(Way, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) {
        *self.shared.tamper.lock().expect("no panic holds it") = Box::new(tamper);
    }

    /// Whether any request, answer or frame so far held these bytes.
    pub fn saw(&self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        self.shared.log().windows(bytes.len()).any(|seen| seen == bytes)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<u8>> {
        self.log.lock().expect("no panic holds it")
    }

    /// One connection: HTTP requests, or an upgrade and its messages.
    async fn pass(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return;
            }
        }
        self.log().extend(&head);
        let text = String::from_utf8_lossy(&head).into_owned();
        if text.to_ascii_lowercase().contains("upgrade: websocket") {
            return self.pass_messages(stream, &text).await;
        }
        let Ok(mut there) = TcpStream::connect(self.target).await else { return };
        if there.write_all(&head).await.is_err() {
            return;
        }
        let ((from, to), (from_there, to_there)) = (split(stream), split(there));
        tokio::join!(self.copy(from, to_there), self.copy(from_there, to));
    }

    async fn copy(&self, mut from: ReadHalf<TcpStream>, mut to: WriteHalf<TcpStream>) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            self.log().extend(&buffer[..read]);
            if to.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }

    async fn pass_messages(&self, mut stream: TcpStream, head: &str) {
        let target = head.split(' ').nth(1).expect("a request line");
        let Ok((there, _)) = connect_async(format!("ws://{}{target}", self.target)).await else {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
            return;
        };
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        let key = key.expect("an upgrade has a key");
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let config: WebSocketConfig = unlimited();
        let here = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let (mut to_here, mut from_here) = here.split();
        let (mut to_there, mut from_there) = there.split();
        let inwards = async {
            while let Some(Ok(message)) = from_here.next().await {
                for message in self.changed(Way::In, message) {
                    if to_there.send(message).await.is_err() {
                        return;
                    }
                }
            }
        };
        let outwards = async {
            while let Some(Ok(message)) = from_there.next().await {
                for message in self.changed(Way::Out, message) {
                    if to_here.send(message).await.is_err() {
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = inwards => {}
            () = outwards => {}
        }
    }

    fn changed(&self, way: Way, message: Message) -> Vec<Message> {
        self.log().extend(message.clone().into_data());
        match message {
            Message::Binary(bytes) => {
                let mut tamper = self.tamper.lock().expect("no panic holds it");
                tamper(way, bytes.to_vec()).into_iter().map(|bytes| Message::Binary(bytes.into())).collect()
            }
            // The library answers pings on both sides.
            Message::Ping(_) | Message::Pong(_) => Vec::new(),
            other => vec![other],
        }
    }
}
