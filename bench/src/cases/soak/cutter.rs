//! A TCP proxy whose connections can be cut, and which can be away.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// The proxy. It lives as long as the process.
pub(super) struct Cutter {
    /// Where it listens.
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Without one, whoever comes is sent away.
    target: Option<SocketAddr>,
    open: Vec<TcpStream>,
}

impl Cutter {
    pub(super) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { target: Some(target), open: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(Ok(far)) = state.target.map(TcpStream::connect) else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                state.open.extend([near, far]);
            }
        });
        Ok(Self { address, state })
    }

    /// Ends every connection; others may come.
    pub(super) fn cut(&self) {
        for stream in self.state.lock().unwrap_or_else(PoisonError::into_inner).open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Leads whoever comes from now on there, or nowhere.
    pub(super) fn point(&self, target: Option<SocketAddr>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).target = target;
    }
}
