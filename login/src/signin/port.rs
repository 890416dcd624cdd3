//! Finds a port for the callback server among the few that the issuer redirects to.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::SignInError;

/// The ports that the issuer knows (login.md 8.3).
pub const PORTS: [u16; 2] = [1455, 1457];
/// How often a taken port is tried before the next one is.
const ATTEMPTS: u32 = 10;
/// The pause after each of them.
const PAUSE: Duration = Duration::from_millis(200);
/// How long asking another sign-in to give way may take. Fixed by the wire.
const CANCEL_TIME: Duration = Duration::from_secs(2);
/// How much of the other sign-in's answer is read. A safeguard, far from any real use.
const CANCEL_BYTES: u64 = 4 << 10;

/// Listens on the first of these ports that is free, on 127.0.0.1 only. Another sign-in that holds a port is asked,
/// once, to give way.
pub(super) async fn listen(ports: &[u16]) -> Result<TcpListener, SignInError> {
    let mut last = 0;
    for &port in ports {
        last = port;
        if let Some(listener) = listen_on(port).await? {
            return Ok(listener);
        }
        tracing::info!(port, "the port stays taken");
    }
    Err(SignInError::PortsBusy(last))
}

async fn listen_on(port: u16) -> Result<Option<TcpListener>, SignInError> {
    for attempt in 0..ATTEMPTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(cause) => return Err(SignInError::Listen { port, cause }),
        }
        if attempt == 0 {
            // The port may be held by something other than a sign-in. Any outcome is fine: the next attempt shows it.
            let _ = tokio::time::timeout(CANCEL_TIME, cancel(port)).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(None)
}

/// Asks the sign-in on this port to give way, and waits for its answer.
async fn cancel(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET /cancel HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(CANCEL_BYTES).read_to_end(&mut answer).await?;
    Ok(())
}
