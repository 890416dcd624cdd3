//! What the page says, and what becomes of it.

use std::sync::atomic::Ordering;

use codex_exec_server::client::ClientError;
use codex_exec_server::protocol::process::{
    CloseStdin, CloseStdinParams, Resize, ResizeParams, SignalName, Write, WriteParams, WriteStatus,
};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message};

use super::words::{Asked, Told};
use super::{End, Shared};
use crate::programs;

/// What the program is to get.
#[derive(Debug)]
pub(super) enum Typed {
    Bytes(Vec<u8>),
    Resize(u16, u16),
    Signal(SignalName),
    End,
}

impl Shared {
    /// Hears the page until it goes.
    pub(super) async fn hear(
        &self,
        mut stream: impl Stream<Item = tungstenite::Result<Message>> + Unpin,
        typed: mpsc::Sender<Typed>,
    ) -> End {
        loop {
            let next = tokio::time::timeout(self.terminal.limits.ping_interval * 3, stream.next()).await;
            let Ok(Some(Ok(message))) = next else { return End::Left };
            let wanted = match message {
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(Asked::Drawn { bytes }) => {
                        self.credit.give(bytes);
                        continue;
                    }
                    Ok(Asked::Jump) => {
                        self.jump.store(true, Ordering::Relaxed);
                        self.jumps.notify_one();
                        continue;
                    }
                    Ok(Asked::Resize { rows, cols }) => Typed::Resize(rows.max(1), cols.max(1)),
                    Ok(Asked::Signal { signal }) => Typed::Signal(signal),
                    Ok(Asked::EndOfInput) => Typed::End,
                    // No page of ours says such a thing.
                    Err(_) => return End::Left,
                },
                Message::Binary(bytes) => Typed::Bytes(bytes.into()),
                Message::Close(_) => return End::Left,
                _ => continue,
            };
            if !self.terminal.may_type() {
                self.tell(&Told::Refused { reason: "this link is for looking only".into() }).await;
            } else if typed.try_send(wanted).is_err() {
                // To wait here would be to hear no longer what is drawn.
                let reason = "the program does not take its input; some of it was dropped".into();
                self.tell(&Told::Refused { reason }).await;
            }
        }
    }

    /// Gives the program what was typed, in order, until the page has gone.
    pub(super) async fn write(&self, mut queue: mpsc::Receiver<Typed>) {
        let name = format!("{:032x}", rand::random::<u128>());
        let mut number = 0_u64;
        while let Some(typed) = queue.recv().await {
            number += 1;
            let count = match &typed {
                Typed::Bytes(bytes) => bytes.len() as u64,
                _ => 0,
            };
            let reason = match self.pass_on(typed, format!("{name}-{number}")).await {
                Ok(None) => None,
                Ok(Some(reason)) => Some(reason.to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = reason {
                self.tell(&Told::Refused { reason }).await;
            }
            if count > 0 {
                self.tell(&Told::Taken { bytes: count }).await;
            }
        }
    }

    /// Why the program did not get it, if it did not.
    async fn pass_on(
        &self,
        typed: Typed,
        write_id: String,
    ) -> Result<Option<&'static str>, programs::ProgramError> {
        let terminal = &self.terminal;
        let client = programs::client(&terminal.environments, &terminal.environment).await?;
        let (process_id, session_id) = (terminal.place.process.clone(), Some(terminal.place.session.clone()));
        let done = match typed {
            Typed::Bytes(bytes) => {
                let params = WriteParams {
                    process_id,
                    session_id,
                    chunk: bytes.into(),
                    write_id: Some(write_id),
                    eof: false,
                    attachment_id: None,
                };
                match client.call::<Write>(&params).await?.status {
                    WriteStatus::Accepted => Ok(()),
                    WriteStatus::StdinClosed => return Ok(Some("this program reads no input")),
                    WriteStatus::Starting => return Ok(Some("the program is not started yet")),
                    WriteStatus::UnknownProcess => return Ok(Some("there is no such program any more")),
                    WriteStatus::TakenOver => return Ok(Some("somebody else writes to it")),
                }
            }
            Typed::Resize(rows, cols) => {
                let params = ResizeParams { process_id, session_id, rows, cols };
                client.call::<Resize>(&params).await.map(drop)
            }
            Typed::Signal(signal) => programs::signal(&client, &terminal.place, signal).await,
            Typed::End => {
                client.call::<CloseStdin>(&CloseStdinParams { process_id, session_id }).await.map(drop)
            }
        };
        match done {
            // A program that has just ended has no terminal any more.
            Err(ClientError::Rpc(error)) => Err(ClientError::Rpc(error).into()),
            done => Ok(done.map(|()| None)?),
        }
    }
}
