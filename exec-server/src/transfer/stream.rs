//! One file to a writer, or from a reader.

use std::io;
use std::path::Path;

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::explained;
use super::file::part_of;
use crate::environment::{CallError, Files};
use crate::protocol::filesystem::{
    CloseParams, OpenMode, OpenParams, PlaceParams, ReadBlockParams, WriteBlockParams,
};

/// Bytes of a block. Fixed by the wire.
const BLOCK: usize = 1 << 20;
/// Blocks on their way at once. Chosen for speed.
const DEPTH: usize = 4;

/// Why a file could not be fetched or stored.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The machine where the file is.
    #[error(transparent)]
    There(#[from] CallError),
    /// The reader or writer here.
    #[error("{0}")]
    Here(#[from] io::Error),
}

/// What was fetched or stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its length.
    pub bytes: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Writes a file's content to `to`, as it is read. Servers since 0.144 can do that.
///
/// # Errors
/// What broke first; `to` may have a part by then.
pub async fn fetch(
    files: &dyn Files,
    path: &Path,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<Found, StreamError> {
    let handle_id = handle();
    let params = OpenParams {
        handle_id: handle_id.clone(),
        path: path.to_owned().into(),
        mode: OpenMode::Read,
        sandbox: None,
    };
    files.open(params).await?;
    let read = |offset| {
        let params = ReadBlockParams { handle_id: handle_id.clone(), offset, len: BLOCK as u64 };
        files.read_block(params)
    };
    let mut blocks = std::pin::pin!(stream::iter((0..).step_by(BLOCK)).map(read).buffered(DEPTH));
    let (mut bytes, mut hash) = (0, Sha256::new());
    let fetched = loop {
        let block = match blocks.next().await {
            Some(Ok(block)) => block,
            Some(Err(error)) => break Err(error.into()),
            None => break Ok(()),
        };
        hash.update(&block.chunk.0);
        bytes += block.chunk.0.len() as u64;
        if let Err(error) = to.write_all(&block.chunk.0).await {
            break Err(error.into());
        }
        if block.eof {
            break to.flush().await.map_err(StreamError::Here);
        }
    };
    // A handle that is not closed ends with its connection.
    let _ = files.close(CloseParams { handle_id: handle_id.clone() }).await;
    fetched.map(|()| Found { bytes, sha256: hex::encode(hash.finalize()) })
}

/// Makes a file of what `from` gives until its end, under its name once it is whole. With `replaces`, only if the file
/// that has the name holds what has this hash.
///
/// # Errors
/// What broke first; nothing has changed then.
pub async fn store(
    files: &dyn Files,
    from: &mut (impl AsyncRead + Unpin),
    path: &Path,
    mode: u32,
    replaces: Option<String>,
) -> Result<Found, StreamError> {
    let (part, handle_id) = (part_of(path), handle());
    let params = OpenParams {
        handle_id: handle_id.clone(),
        path: part.clone().into(),
        mode: OpenMode::Update,
        sandbox: None,
    };
    files.open(params).await.map_err(explained)?;
    let (mut bytes, mut hash) = (0, Sha256::new());
    let written = loop {
        let mut block = Vec::with_capacity(BLOCK);
        let mut limited = (&mut *from).take(BLOCK as u64);
        match limited.read_to_end(&mut block).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(StreamError::Here(error)),
        }
        hash.update(&block);
        let offset = bytes;
        bytes += block.len() as u64;
        let params = WriteBlockParams { handle_id: handle_id.clone(), offset, chunk: block.into() };
        if let Err(error) = files.write_block(params).await {
            break Err(error.into());
        }
    };
    let _ = files.close(CloseParams { handle_id }).await;
    written?;
    let found = Found { bytes, sha256: hex::encode(hash.finalize()) };
    let params = PlaceParams {
        path: part.into(),
        destination: Some(path.to_owned().into()),
        size: Some(bytes),
        sha256: Some(found.sha256.clone()),
        mode: Some(mode),
        modified_at_ns: None,
        replaces_sha256: replaces,
        sandbox: None,
    };
    files.place(params).await?;
    Ok(found)
}

/// An id that nobody else has on the connection; 32 bytes, the most that servers take.
pub(super) fn handle() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
