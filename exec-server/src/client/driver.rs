//! The task that owns a connection: serves it, and takes up the session again when it is lost.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};

use super::dial::{Again, Endpoint, Link, OpenError};
use super::error::ClientError;
use super::handshake::handshake;
use super::shared::Shared;
use crate::backoff::{Reconnect, Step};
use crate::protocol::{ErrorCode, RpcError};

/// Ends everything should the driver be dropped with its runtime.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.end("the connection was closed");
        self.0.linked.send_replace(false);
        self.0.finished.send_replace(true);
    }
}

/// Owns the connection: reads, writes and reconnects until the client is dropped.
pub(super) struct Driver {
    shared: Arc<Shared>,
    link: Link,
    again: Again,
    queue: mpsc::Receiver<i64>,
    stopped: watch::Receiver<bool>,
}

impl Driver {
    pub(super) async fn connect(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        queue: mpsc::Receiver<i64>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, ClientError> {
        let (mut link, again) = endpoint.open(&shared.options).await?;
        shared.longest_message.store(again.longest_message(), Ordering::Relaxed);
        let time = shared.options.initialize_time;
        let session = match handshake(&shared, &mut link, &again, None, time).await {
            Ok(session) => session,
            Err(error @ ClientError::Connect { .. }) => return Err(not_begun(link, &again, error).await),
            Err(error) => return Err(error),
        };
        *shared.session.lock() = Some(session);
        Ok(Self { shared, link, again, queue, stopped })
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let finish = Finish(Arc::clone(&shared));
        let mut resumed = false;
        let reason = loop {
            let Some(reason) = self.serve(resumed).await else {
                self.say_goodbye().await;
                break "the connection was closed".to_owned();
            };
            if !self.again.possible() {
                break reason;
            }
            shared.linked.send_replace(false);
            shared.interrupted(&reason);
            match self.resume().await {
                Ok(link) => {
                    self.link = link;
                    shared.linked.send_replace(true);
                }
                Err(failure) => break format!("{reason}; {failure}"),
            }
            resumed = true;
        };
        shared.end(&reason);
        let _ = self.link.writer.close().await;
        if let Some(child) = self.link.child.take() {
            child.end(shared.options.child_grace).await;
        }
        drop(finish);
    }

    /// Serves one connection until it is lost, with the reason, or until the client stops, with none.
    async fn serve(&mut self, resumed: bool) -> Option<String> {
        let shared = &self.shared;
        let mut recovery = pin!(async {
            if resumed {
                shared.recover().await;
            }
            std::future::pending::<()>().await
        });
        let ended = tokio::select! {
            reason = shared.read_all(&mut self.link.reader) => Some(reason),
            reason = shared.write_all(&mut self.link.writer, &mut self.queue) => Some(reason),
            () = &mut recovery => None,
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        };
        // The server counts answers that have come as received: none may be lost when a wait is dropped.
        let _ = recovery.now_or_never();
        ended
    }

    /// Sends what the client has asked for before it stopped.
    async fn say_goodbye(&mut self) {
        const TIME: Duration = Duration::from_secs(1);
        let Self { shared, link, queue, .. } = self;
        let goodbye = async {
            shared.write_queued(&mut link.writer, queue).await?;
            if !shared.leaves.load(Ordering::Relaxed) {
                // An older server answers with an error, which nobody waits for.
                shared.write_end(&mut link.writer).await?;
            }
            link.writer.close().await
        };
        // A server that does not take it in time loses the session's programs by its end anyway.
        let _ = tokio::time::timeout(TIME, goodbye).await;
    }

    /// Tries to take up the session until it works, is refused, or the time is up (15.4).
    async fn resume(&mut self) -> Result<Link, String> {
        let said_goodbye = self.link.reader.is_going_away();
        let Self { shared, again, stopped, .. } = self;
        // Another executor may register in its place, but none that knows the session.
        if said_goodbye && matches!(again, Again::Registry(_)) {
            return Err("its programs ended with it".into());
        }
        let options = &shared.options;
        let pauses = again.pauses(options.retry_pause);
        let mut schedule = Reconnect::new(Instant::now(), options.recovery_time, pauses);
        let mut last = String::from("no attempt was made");
        loop {
            match schedule.step(Instant::now()) {
                Step::Try(_) if options.rest.now() => {
                    last = "the environment is paused".into();
                    schedule.failed(Instant::now(), &mut rand::random::<f64>);
                }
                Step::GiveUp => {
                    return Err(format!("it did not come back within {:?}: {last}", options.recovery_time));
                }
                Step::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => return Err("the client stopped".into()),
                },
                Step::Try(left) => {
                    let outcome = tokio::select! {
                        outcome = tokio::time::timeout(left, attempt(shared, again)) => outcome,
                        _ = stopped.wait_for(|stopped| *stopped) => return Err("the client stopped".into()),
                    };
                    match outcome {
                        Ok(Ok(link)) => return Ok(link),
                        Ok(Err(OpenError { error: ClientError::Rpc(error), .. }))
                            if error.code != ErrorCode::SESSION_ATTACHED =>
                        {
                            return Err(not_resumed(&error));
                        }
                        Ok(Err(OpenError {
                            error:
                                error @ (ClientError::Refused { .. }
                                | ClientError::TokenWanted { .. }
                                | ClientError::TokenRefused { .. }),
                            ..
                        })) => {
                            return Err(error.to_string());
                        }
                        Ok(Err(OpenError { error, nobody: true })) if again.is_gone(said_goodbye) => {
                            return Err(format!(
                                "its programs ended with it, and nobody listens there any more: {error}"
                            ));
                        }
                        Ok(Err(failed)) => last = failed.error.to_string(),
                        Err(_) => last = "the last attempt took too long".into(),
                    }
                    schedule.failed(Instant::now(), &mut rand::random::<f64>);
                }
            }
        }
    }
}

/// Why a server that is there does not give the session back.
fn not_resumed(error: &RpcError) -> String {
    if error.code == ErrorCode::INVALID_REQUEST && error.message.starts_with("unknown session") {
        return "it was restarted or has ended the session, so its programs are gone".into();
    }
    format!("the session can't be resumed: {error}")
}

/// Why there was no handshake. A child that ended by itself tells it by its exit code.
async fn not_begun(link: Link, again: &Again, error: ClientError) -> ClientError {
    const TIME: Duration = Duration::from_secs(1);
    let Link { reader, writer, child } = link;
    // Without its pipes it has no reason to stay.
    drop((reader, writer));
    let Some(mut child) = child else { return error };
    match child.ended_with(TIME).await {
        Some(code) if code != 0 => ClientError::ChildEnded { target: again.target(), code },
        _ => error,
    }
}

/// One attempt to take up the session.
async fn attempt(shared: &Shared, again: &Again) -> Result<Link, OpenError> {
    let options = &shared.options;
    let mut link = again.open(options).await?;
    let session_id = Some(shared.session_id());
    handshake(shared, &mut link, again, session_id, options.initialize_time).await?;
    Ok(link)
}
