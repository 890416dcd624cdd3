//! Who looks on while the server serves: the audit file, and the figures at an address of their own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use codex_exec_server::Limits;
use codex_exec_server::observe::{Figures, Observer};
use codex_exec_server::server::Server;
use codex_exec_server::transport::{Auth, Bound, ListenAddress, Listener};
use codex_observe::{Audit, Bounds, WithoutRoom};
use tokio::task::JoinSet;

use super::args::{ServeArgs, on_loopback};
use crate::output;

/// Opens the audit file and makes the figures, as far as the flags ask for them. `environment`: what a registry calls this machine.
pub(super) fn observer(
    args: &ServeArgs,
    limits: &Limits,
    environment: Option<&str>,
) -> anyhow::Result<Observer> {
    if args.audit_required && args.audit.is_none() {
        bail!("audit_required needs audit, which names the file for the records");
    }
    let bounds = Bounds {
        file_bytes: limits.audit.audit_file_bytes,
        old_files: limits.audit.audit_old_files,
        waiting: limits.audit.audit_records,
    };
    let without_room = if args.audit_required { WithoutRoom::Refuse } else { WithoutRoom::Count };
    let audit = args.audit.as_deref().map(|path| Audit::open(path, bounds, without_room)).transpose()?;
    let counted = args.metrics || args.metrics_listen.is_some();
    Ok(Observer {
        audit,
        figures: counted.then(|| Arc::new(Figures::new())),
        tracer: None,
        environment: environment.map(Into::into),
    })
}

/// What the listener for clients may show: the figures only where the flags say so.
pub(super) fn for_clients(args: &ServeArgs, observer: &Observer) -> Observer {
    let figures = observer.figures.clone().filter(|_| args.metrics);
    Observer { figures, ..observer.clone() }
}

/// Between two tries to listen at the address of figures that the server before still has. Our own pace: nothing outside
/// depends on it.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);

/// Answers `GET /metrics` at an address of its own, if the flags name one. A server that `follows` another waits until that has
/// left the address.
pub(super) fn show_figures(args: &ServeArgs, server: &Server, follows: bool) -> anyhow::Result<JoinSet<()>> {
    let Some(address) = args.metrics_listen else { return Ok(JoinSet::new()) };
    // Also where the configuration names it.
    if let Err(wrong) = on_loopback(&address.to_string()) {
        bail!("can't show metrics at {address}: {wrong}");
    }
    let limits = server.limits().clone();
    let shown = Observer { audit: None, tracer: None, ..server.observer().clone() };
    let listen = move || {
        Listener::observed(Bound::bind(&ListenAddress::Tcp(address))?, Auth::open(), &limits, shown.clone())
    };
    let first = match listen() {
        Err(_) if follows => None,
        listener => Some(listener?),
    };
    if let Some(listener) = &first {
        output::note(&format!(
            "metrics at http{}/metrics",
            listener.local_address().trim_start_matches("ws")
        ));
    }
    // Ends with its owner.
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut listener = first;
        let mut listener = loop {
            match listener.take() {
                Some(listener) => break listener,
                None => tokio::time::sleep(LISTEN_AGAIN).await,
            }
            listener = listen().ok();
        };
        while let Ok(pending) = listener.accept().await {
            tokio::spawn(async move {
                // Who wants a websocket here is in the wrong place.
                drop(pending.handshake().await);
            });
        }
    });
    Ok(task)
}
