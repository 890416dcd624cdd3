//! Ports that this very server listens on: no program of its gets there through it, whatever it is allowed.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};

/// How many listeners there are by port: two may share one on different addresses.
static PORTS: Mutex<BTreeMap<u16, usize>> = Mutex::new(BTreeMap::new());

/// Keeps a port known as this server's own for as long as it is held. To be dropped after the listener.
#[derive(Debug)]
pub(crate) struct OwnPort(u16);

impl OwnPort {
    /// From now on this is one of our own.
    pub(crate) fn register(port: u16) -> Self {
        *ports().entry(port).or_default() += 1;
        Self(port)
    }
}

impl Drop for OwnPort {
    fn drop(&mut self) {
        let mut ports = ports();
        if let Some(listeners) = ports.get_mut(&self.0) {
            *listeners -= 1;
            if *listeners == 0 {
                ports.remove(&self.0);
            }
        }
    }
}

/// Whether this server listens on a port of this machine, on whichever of its addresses.
pub(crate) fn is_ours(port: u16) -> bool {
    ports().contains_key(&port)
}

fn ports() -> MutexGuard<'static, BTreeMap<u16, usize>> {
    PORTS.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_ours_until_its_last_listener_is_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_ours(port));
        let (one, other) = (OwnPort::register(port), OwnPort::register(port));
        drop(one);
        assert!(is_ours(port));
        drop(other);
        assert!(!is_ours(port));
    }
}
