//! Moves messages between a connection and what the client shares: reading with back-pressure, writing in batches, and
//! reading again after a loss.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::calls::Retry;
use super::dial::{LinkReader, LinkWriter};
use super::error::ClientError;
use super::inbox::Inbox;
use super::shared::{After, Orphan, Shared};
use crate::protocol::encode::NoParams;
use crate::protocol::process::{Read, ReadParams, Terminate, TerminateParams};
use crate::protocol::session::End;
use crate::protocol::{RequestId, envelope, tcp};

impl Orphan {
    /// The request that ends it.
    fn end(&self, id: &RequestId) -> Vec<u8> {
        let mut message = Vec::new();
        match self {
            Self::Process(process_id) => {
                let params =
                    TerminateParams { process_id: process_id.clone(), grace_ms: None, session_id: None };
                envelope::request::<Terminate>(id, &params, &mut message);
            }
            Self::Stream(stream) => {
                let params = tcp::CloseParams { id: stream.clone() };
                envelope::request::<tcp::Close>(id, &params, &mut message);
            }
        }
        message
    }
}

impl Shared {
    pub(super) async fn read_all(&self, reader: &mut LinkReader) -> String {
        loop {
            let message = match reader.next().await {
                Ok(Some(message)) => message,
                Ok(None) if reader.is_going_away() => return "the exec-server was stopped".into(),
                Ok(None) => return "the exec-server ended the connection".into(),
                Err(error) => return error.to_string(),
            };
            let after = match self.route(&message) {
                Ok(after) => after,
                Err(error) => return format!("the exec-server sent something unreadable: {error}"),
            };
            drop(message);
            match after {
                After::Nothing => {}
                After::ProcessRoom(inbox) => self.room(&inbox.queue).await,
                After::BodyRoom(inbox) => self.room(&inbox.queue).await,
            }
        }
    }

    /// Waits until a follower has room (see the module's words on back-pressure).
    async fn room<T>(&self, inbox: &Inbox<T>) {
        loop {
            let mut room = pin!(inbox.room().notified());
            room.as_mut().enable();
            let waiting = self.calls.lock().any_waiting();
            let bound = if waiting { self.options.queue_bytes_with_calls } else { self.options.queue_bytes };
            if inbox.fits(bound) {
                return;
            }
            tokio::select! {
                () = room => {}
                () = self.call_sent.notified() => {}
            }
        }
    }

    /// Sends what is queued, in batches; returns when the socket fails.
    pub(super) async fn write_all(&self, writer: &mut LinkWriter, queue: &mut mpsc::Receiver<i64>) -> String {
        let sending = async {
            let repeated = self.calls.lock().to_repeat();
            for message in repeated {
                writer.feed(message).await?;
            }
            loop {
                self.write_queued(writer, queue).await?;
                tokio::select! {
                    id = queue.recv() => match id {
                        Some(id) => self.write_call(writer, id).await?,
                        None => std::future::pending().await,
                    },
                    () = self.look.notified() => {}
                    () = writer.chore() => writer.do_chores().await?,
                }
            }
        };
        let ended: std::io::Result<std::convert::Infallible> = sending.await;
        match ended {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        }
    }

    async fn write_call(&self, writer: &mut LinkWriter, id: i64) -> std::io::Result<()> {
        let message = self.calls.lock().take_for_sending(id);
        if let Some(message) = message {
            self.call_sent.notify_one();
            writer.feed(message).await?;
        }
        Ok(())
    }

    /// Sends everything that can be sent without waiting for new calls.
    pub(super) async fn write_queued(
        &self,
        writer: &mut LinkWriter,
        queue: &mut mpsc::Receiver<i64>,
    ) -> std::io::Result<()> {
        while let Ok(id) = queue.try_recv() {
            self.write_call(writer, id).await?;
        }
        let answers = std::mem::take(&mut *self.answers.lock());
        for answer in answers {
            writer.feed(answer).await?;
        }
        loop {
            let Some(orphan) = self.orphans.lock().pop() else { break };
            let id = RequestId::Number(self.calls.lock().next_id());
            if let Err(error) = writer.feed(orphan.end(&id).into()).await {
                self.orphans.lock().push(orphan);
                return Err(error);
            }
        }
        writer.flush().await
    }

    /// Tells the server that nobody comes back, so that the session keeps nothing and takes nobody's place.
    pub(super) async fn write_end(&self, writer: &mut LinkWriter) -> std::io::Result<()> {
        let id = RequestId::Number(self.calls.lock().next_id());
        let mut message = Vec::new();
        envelope::request::<End>(&id, &NoParams, &mut message);
        writer.feed(message.into()).await?;
        writer.flush().await
    }

    /// Reads what every live process did while the connection was away.
    pub(super) async fn recover(&self) {
        let processes: Vec<_> =
            self.processes.lock().iter().map(|(id, inbox)| (id.clone(), Arc::clone(inbox))).collect();
        futures_util::future::join_all(processes.iter().map(|(id, inbox)| async move {
            let Some(after) = inbox.recover_after() else { return };
            let params = ReadParams {
                process_id: id.clone(),
                after_seq: Some(after),
                max_bytes: None,
                wait_ms: Some(0),
                from_offset: None,
                log_id: None,
                with_times: None,
                session_id: None,
                attachment_id: None,
            };
            match self.call::<Read>(&params, Retry::Safe).await {
                Ok(read) => inbox.recovered(read),
                // A further loss: the next recovery, or the end, tells the follower.
                Err(ClientError::Lost(_)) => {}
                Err(error) => {
                    self.processes.lock().remove(id);
                    inbox.disconnected(format!("the program's output can't be taken up again: {error}"));
                }
            }
        }))
        .await;
    }
}
