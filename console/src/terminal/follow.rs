//! Follows a program's output for a page, across losses of the connection to its environment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{ProcessInfo, ReadResult};
use tokio_tungstenite::tungstenite::Message;

use super::words::{self, Told};
use super::{Cursor, End, Shared};
use crate::output::{Begin, Source};
use crate::programs::{self, ProgramError};

/// How long one request waits for output; then another is sent. Our own pace: nothing outside depends on it.
const TURN_MS: u64 = 20_000;
/// Between attempts to reach an environment again, at first and at most. Our own pace: nothing outside depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// See above. Our own pace: nothing outside depends on it.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A page that wants the end gets so much before it. Chosen for speed.
const SHOWN_BEFORE_END: u64 = 32 << 10;
/// A page is told how far it is behind when that has changed by so much. Chosen for speed.
const BEHIND_STEP: u64 = 256 << 10;

/// Why one connection is followed no longer.
enum Stop {
    End(End),
    Lost(String),
}

impl Shared {
    /// Follows until the program is over, or gone.
    pub(super) async fn follow(&self, mut cursor: Cursor) -> End {
        let mut pause = FIRST_PAUSE;
        loop {
            let reason = match self.connection(&mut cursor, &mut pause).await {
                Stop::End(end) => return end,
                Stop::Lost(reason) => reason,
            };
            self.tell(&Told::Away { reason }).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn connection(&self, cursor: &mut Cursor, pause: &mut Duration) -> Stop {
        let terminal = &self.terminal;
        let found = async {
            let client = programs::client(&terminal.environments, &terminal.environment).await?;
            let info = programs::find(&client, &terminal.place).await?;
            Ok::<_, ProgramError>((client, info))
        };
        let (client, info) = match found.await {
            Ok(found) => found,
            Err(error @ (ProgramError::Absent(_) | ProgramError::NoServer(_))) => {
                self.tell(&Told::Gone { reason: error.to_string() }).await;
                return Stop::End(End::Gone);
            }
            Err(error) => return Stop::Lost(error.to_string()),
        };
        *pause = FIRST_PAUSE;
        self.describe(&info).await;
        let mut linked = client.linked();
        tokio::select! {
            stop = self.output(&client, cursor) => stop,
            _ = linked.wait_for(|linked| !linked) => {
                Stop::Lost("the connection to the exec-server was lost".into())
            }
        }
    }

    async fn describe(&self, info: &ProcessInfo) {
        self.tell(&Told::Process {
            tty: info.tty,
            state: info.state,
            rows: info.rows,
            cols: info.cols,
            argv: &info.argv,
            may_type: self.terminal.may_type(),
        })
        .await;
    }

    /// Sends output as the page has room for it.
    async fn output(&self, client: &Client, cursor: &mut Cursor) -> Stop {
        let source = Source::Process(self.terminal.place.clone());
        let mut told_behind = 0;
        let mut begin = Begin::After(cursor.after);
        loop {
            let room = self.credit.room().await.min(self.terminal.limits.read_bytes);
            if self.jump.swap(false, Ordering::Relaxed) {
                begin = match self.near_end(client, &source, cursor).await {
                    Ok(near_end) => near_end.map_or(begin, Begin::Offset),
                    Err(error) => return failed(error),
                };
            }
            let read = tokio::select! {
                read = source.read(client, begin, room, TURN_MS) => read,
                () = self.jumps.notified() => continue,
            };
            let read = match read {
                Ok(read) => read,
                Err(error) => return failed(error),
            };
            self.send(&read, begin, cursor).await;
            begin = Begin::After(cursor.after);
            let behind = read.totals.sum().saturating_sub(cursor.offset);
            if behind.abs_diff(told_behind) >= BEHIND_STEP || (behind == 0 && told_behind > 0) {
                self.tell(&Told::Behind { bytes: behind }).await;
                told_behind = behind;
            }
            if read.closed && read.chunks.is_empty() {
                let over = Told::Over { exit_code: read.exit_code, exit: read.exit };
                self.tell(&over).await;
                return Stop::End(End::Over);
            }
        }
    }

    /// A place shortly before the end, if that is ahead.
    async fn near_end(
        &self,
        client: &Client,
        source: &Source,
        cursor: &Cursor,
    ) -> Result<Option<u64>, ClientError> {
        let Source::Process(place) = source else { return Ok(None) };
        let total = match programs::find(client, place).await {
            Ok(info) => info.totals.sum(),
            Err(ProgramError::Client(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        Ok(Some(total.saturating_sub(SHOWN_BEFORE_END)).filter(|near_end| *near_end > cursor.offset))
    }

    async fn send(&self, read: &ReadResult, begin: Begin, cursor: &mut Cursor) {
        let jumped = match begin {
            Begin::Offset(offset) => offset.saturating_sub(cursor.offset),
            Begin::After(_) => 0,
        };
        let skipped = jumped + read.lost_bytes;
        if skipped > 0 {
            cursor.offset += skipped;
            self.tell(&Told::Skipped { bytes: skipped }).await;
        }
        for chunk in &read.chunks {
            let bytes = &chunk.chunk.0;
            cursor.offset += bytes.len() as u64;
            cursor.after = chunk.seq;
            self.credit.take(bytes.len() as u64);
            let message = words::output(chunk.stream, cursor.after, cursor.offset, bytes);
            // Fails only when the socket is gone, which is told elsewhere.
            let _ = self.out.send(Message::binary(message)).await;
        }
        cursor.after = cursor.after.max(read.next_seq.previous());
    }
}

fn failed(error: ClientError) -> Stop {
    match error {
        ClientError::Rpc(error) => Stop::Lost(error.message),
        other => Stop::Lost(other.to_string()),
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Self { after: Seq::NONE, offset: 0 }
    }
}
