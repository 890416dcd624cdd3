//! The socket that a service manager listens on for this server (systemd's socket activation, sd_listen_fds(3)).
//!
//! It outlives the server, so connections that come while one is started again, after a crash or an upgrade, wait.

use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use codex_children::{descriptor, keeper};
use codex_exec_server::transport::{ListenAddress, address_of};

/// The first descriptor that is handed over. Fixed by sd_listen_fds(3).
const FIRST: i32 = 3;

/// Takes the socket that this server's keeper has from the server before, with the address that it listens on. To be called
/// once, and before any program is started.
pub(super) fn by_keeper() -> anyhow::Result<(OwnedFd, ListenAddress)> {
    let socket = descriptor::inherited_listener(keeper::HANDED_LISTENER)
        .context("the socket that the keeper hands over is not there")?;
    let address =
        address_of(&socket).context("the socket that the keeper hands over can't be listened on")?;
    Ok((socket, address))
}

/// Takes the socket, with the address that it listens on. To be called once, and before any program is started.
pub(super) fn socket() -> anyhow::Result<(OwnedFd, ListenAddress)> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let Some(count) = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id()))
    else {
        bail!(
            "--listen fd:// takes a socket from a service manager, and none was handed over \
             (LISTEN_PID and LISTEN_FDS of sd_listen_fds(3)); run it from a systemd socket unit"
        );
    };
    if count != 1 {
        bail!(
            "--listen fd:// takes one socket, and {count} were handed over; give the service one socket unit"
        );
    }
    let socket =
        descriptor::inherited_listener(FIRST).context("the socket that was handed over is not there")?;
    let address = address_of(&socket).context("the socket that was handed over can't be listened on")?;
    Ok((socket, address))
}
