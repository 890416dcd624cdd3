//! A SOCKS5 proxy here, whose connections are made by the server's machine (RFC 1928: CONNECT, without a password).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ends::{Connection, Listener, Trouble, Way};
use super::hub::{Hub, say};
use super::words::Place;
use crate::output;
use crate::reach::Unreached;

/// Time to say where to go; then the connection ends. Our own pace: nothing outside depends on it.
const ASKING_TIME: Duration = Duration::from_secs(30);
const VERSION: u8 = 5;
const NO_PASSWORD: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// The answers of RFC 1928, section 6, that are given here.
#[derive(Debug, Clone, Copy)]
enum SocksReply {
    Granted = 0,
    Failed = 1,
    Refused = 5,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// Serves until nothing can help any more.
pub(super) async fn socks(hub: Arc<Hub>, listen: Place) -> Unreached {
    let failure =
        |sentence| Unreached { code: crate::codes::FAILURE, sentence: Some(sentence), again: false };
    let (listener, at) = match Way::Forward.listen(&hub, &listen).await {
        Ok(listening) => listening,
        Err(Trouble::Final(unreached)) => return unreached,
        Err(Trouble::Other(sentence) | Trouble::Nobody(sentence)) => return failure(sentence),
        Err(Trouble::Lost) => return failure("the connection to the exec-server was lost".into()),
    };
    if let Err(error) = output::line(&format!("{at} -> SOCKS5")) {
        return failure(format!("can't write to stdout: {error}"));
    }
    let mut carried = JoinSet::new();
    loop {
        let place = Arc::clone(&hub.places).acquire_owned().await;
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = carried.join_next() => continue,
        };
        match accepted {
            Ok(stream) => {
                let hub = Arc::clone(&hub);
                carried.spawn(async move {
                    let _place = place;
                    // A client that breaks off hears nothing more.
                    let _ = serve(&hub, stream).await;
                });
            }
            Err(error) => {
                say(&format!("can't take a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<TcpStream> {
    match listener.accept().await {
        Ok(Connection::Here(stream)) => Ok(stream),
        Ok(Connection::There(_)) => Err(io::ErrorKind::Unsupported.into()),
        Err(Trouble::Other(reason) | Trouble::Nobody(reason)) => Err(io::Error::other(reason)),
        Err(_) => Err(io::ErrorKind::NotConnected.into()),
    }
}

async fn serve(hub: &Hub, mut stream: TcpStream) -> io::Result<()> {
    let asked = timeout(ASKING_TIME, ask(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let target = match asked {
        Ok(target) => target,
        Err(refusal) => return answer(&mut stream, refusal).await,
    };
    match Way::Forward.connect(hub, &target).await {
        Ok(there) => {
            answer(&mut stream, SocksReply::Granted).await?;
            Connection::Here(stream).join(there).await.map_err(io::Error::other)
        }
        Err(Trouble::Nobody(_)) => answer(&mut stream, SocksReply::Refused).await,
        Err(_) => answer(&mut stream, SocksReply::Failed).await,
    }
}

/// Reads the greeting and where to go.
async fn ask(stream: &mut TcpStream) -> io::Result<Result<Place, SocksReply>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no SOCKS5");
    let [version, methods] = array(stream).await?;
    if version != VERSION {
        return Err(wrong());
    }
    let mut offered = vec![0; methods.into()];
    stream.read_exact(&mut offered).await?;
    if !offered.contains(&NO_PASSWORD) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(wrong());
    }
    stream.write_all(&[VERSION, NO_PASSWORD]).await?;
    let [version, command, _, kind] = array(stream).await?;
    if version != VERSION {
        return Err(wrong());
    }
    let host = match kind {
        1 => Ipv4Addr::from(array::<4>(stream).await?).to_string(),
        4 => Ipv6Addr::from(array::<16>(stream).await?).to_string(),
        3 => {
            let [length] = array(stream).await?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await?;
            match String::from_utf8(name) {
                Ok(name) => name,
                Err(_) => return Ok(Err(SocksReply::NoSuchAddress)),
            }
        }
        _ => return Ok(Err(SocksReply::NoSuchAddress)),
    };
    let port = u16::from_be_bytes(array(stream).await?);
    Ok(match (command, port) {
        (CONNECT, 1..) => Ok(Place { host, port }),
        (CONNECT, 0) => Err(SocksReply::Failed),
        _ => Err(SocksReply::NoSuchCommand),
    })
}

async fn array<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Which address the connection was made from is nobody's business.
async fn answer(stream: &mut TcpStream, answer: SocksReply) -> io::Result<()> {
    stream.write_all(&[VERSION, answer as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}
