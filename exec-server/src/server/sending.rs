//! How what waits in an outbox gets to the socket: large messages in parts, with control frames between them.

use std::io;
use std::pin::pin;

use codex_exec_protocol::RequestId;
use codex_exec_protocol::filesystem::ReadFileResult;
use codex_websocket::HEAD_BYTES;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::filesystem::FileBlocks;
use crate::rpc::{Content, NextBlock, Outbox, Poured};
use crate::transport::{Fragments, FrameBuffer, Parts, Piece};

/// Pieces of a file that are sent before others get their turn: about a quarter of a millisecond. Chosen for speed.
const PIECES_IN_A_ROW: usize = 4;

/// "Internal error" (RFC 6455, 7.4.1): a message that was begun can't be finished.
const INTERNAL_ERROR: u16 = 1011;

impl Content for FileBlocks {
    fn size(&self) -> u64 {
        FileBlocks::size(self)
    }

    fn next(&mut self) -> NextBlock<'_> {
        Box::pin(FileBlocks::next(self))
    }
}

/// The answer to `fs/readFile` with a file that is read while it is sent.
pub(super) fn file_answer(id: &RequestId, blocks: FileBlocks) -> Poured {
    Poured::answer(id, ReadFileResult::BEFORE, Box::new(blocks), &ReadFileResult::BEHIND)
}

/// Sends a buffer, a large message in it with control frames between its fragments.
pub(super) async fn send_cut(
    outbox: &Outbox,
    sink: &mut (impl AsyncWrite + Unpin),
    frame: &mut FrameBuffer,
) -> io::Result<()> {
    let mut fragments = Fragments::default();
    while let Some(piece) = fragments.next(frame) {
        send_piece(outbox, sink, &piece).await?;
    }
    Ok(())
}

/// Sends a message while its content is read. If that fails the connection ends, since what was begun can't be taken back.
pub(super) async fn pour(
    outbox: &Outbox,
    sink: &mut (impl AsyncWrite + Unpin),
    poured: &mut Poured,
) -> io::Result<()> {
    let mut parts = Parts::new(outbox.framing(), poured.length());
    let mut buffer = Vec::new();
    let mut in_a_row = 0;
    loop {
        parts.begin(&mut buffer);
        match piece(outbox, sink, poured, &mut buffer).await {
            Ok(()) if buffer.len() == HEAD_BYTES => return Ok(()),
            Ok(()) => send_piece(outbox, sink, &parts.end(&mut buffer)).await?,
            Err(error) => {
                tracing::warn!(%error, "a connection was ended: a file could not be read to its end");
                let mut goodbye = outbox.between(false);
                goodbye.close(INTERNAL_ERROR);
                send(outbox, sink, goodbye.bytes()).await?;
                return Err(error);
            }
        }
        // Files in memory would keep the others waiting as long as the peer is fast.
        in_a_row += 1;
        if in_a_row == PIECES_IN_A_ROW {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Makes the next piece; control frames needn't wait for the disk.
async fn piece(
    outbox: &Outbox,
    sink: &mut (impl AsyncWrite + Unpin),
    poured: &mut Poured,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let begun = poured.is_begun();
    let mut next = pin!(poured.piece(buffer));
    loop {
        tokio::select! {
            biased;
            made = &mut next => return made,
            () = outbox.filled(), if begun => {
                let control = outbox.between(true);
                send(outbox, sink, control.bytes()).await?;
            }
        }
    }
}

async fn send_piece(
    outbox: &Outbox,
    sink: &mut (impl AsyncWrite + Unpin),
    Piece { bytes, within }: &Piece<'_>,
) -> io::Result<()> {
    let control = outbox.between(*within);
    if !control.is_empty() {
        send(outbox, sink, control.bytes()).await?;
    }
    send(outbox, sink, bytes).await
}

/// Sends all of it.
pub(super) async fn send(
    outbox: &Outbox,
    sink: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = sink.write(rest).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        outbox.wrote(count);
        rest = rest.get(count..).unwrap_or_default();
    }
    sink.flush().await
}
