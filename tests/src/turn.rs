//! What only one test of this machine may do at a time, whichever user or checkout it runs for.

use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// One's turn; it ends when dropped, or with the process.
///
/// It is a name in the abstract namespace of Unix sockets: no user can be kept from it by another one's file, it is
/// never left behind, and it is one for each network namespace, just as the ports that it may stand for.
pub struct Turn {
    _listener: UnixListener,
}

impl Turn {
    /// Waits for the turn of that name.
    pub fn wait(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(format!("codex-e2e-{name}")).expect("a short name");
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Self { _listener: listener },
                Err(error) if error.kind() == ErrorKind::AddrInUse => until_free(&address),
                Err(error) => panic!("the turn {name}: {error}"),
            }
        }
    }
}

/// Waits for the end of the turn that somebody has: nobody accepts this connection, but it ends with the listener.
fn until_free(address: &SocketAddr) {
    if let Ok(mut waiting) = UnixStream::connect_addr(address) {
        let _ = waiting.read(&mut [0]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::Turn;

    #[test]
    fn one_waits_for_the_other() {
        let name = format!("test-{}", std::process::id());
        let first = Turn::wait(&name);
        let (ended, end) = channel();
        let other = {
            let name = name.clone();
            std::thread::spawn(move || {
                let _second = Turn::wait(&name);
                ended.send(()).unwrap();
            })
        };
        assert!(end.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        end.recv().unwrap();
        other.join().unwrap();
    }
}
