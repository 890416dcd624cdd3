//! `--listen stdio`: one client, on stdin and stdout.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use codex_exec_server::server::Server;
use codex_exec_server::transport::stdio;
use tokio::io::AsyncWrite;
use tokio::task::JoinSet;

use super::ending::{Signals, end};
use crate::closed_stdout;

/// Serves until the client is gone or a signal comes.
pub(super) async fn serve(server: &Arc<Server>, signals: &mut Signals) -> anyhow::Result<()> {
    if closed_stdout::is_closed() {
        bail!("stdout is closed; with --listen stdio it carries the answers");
    }
    let mut carrier = stdio::stdio(server.limits()).context("can't use stdin and stdout")?;
    let failure = Arc::new(OnceLock::new());
    carrier.sink = Box::new(Watched { sink: carrier.sink, failure: Arc::clone(&failure) });
    tokio::select! {
        () = server.serve(carrier) => {}
        () = signals.end() => {}
    }
    end(server, JoinSet::new(), signals).await;
    match failure.get() {
        Some(error) => bail!("can't write to stdout: {error}"),
        None => Ok(()),
    }
}

/// Keeps why writing failed. A client that went away is the usual end, and no failure.
struct Watched {
    sink: Box<dyn AsyncWrite + Send + Unpin>,
    failure: Arc<OnceLock<String>>,
}

impl Watched {
    fn watch<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            self.failure.get_or_init(|| error.to_string());
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.sink).poll_write(cx, bytes);
        self.watch(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.sink).poll_write_vectored(cx, parts);
        self.watch(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.sink.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.sink).poll_flush(cx);
        self.watch(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.sink).poll_shutdown(cx);
        self.watch(result)
    }
}
