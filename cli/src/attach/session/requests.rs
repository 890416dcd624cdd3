//! What a session asks of the server for its program: output, input, and to be the one who writes.

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{
    Attach, AttachParams, AttachResult, AttachmentEnd, CloseStdin, CloseStdinParams, Read, ReadParams,
    ReadResult, Write, WriteParams,
};
use tokio::sync::mpsc;

use crate::programs::Place;

/// Takes the program's input over, and waits until somebody else does; for ever for a watcher.
pub(super) async fn attached(
    client: &Client,
    place: &Place,
    id: &str,
    after: Seq,
    read_only: bool,
) -> AttachmentEnd {
    if !read_only {
        let params = AttachParams {
            process_id: place.process.clone(),
            session_id: Some(place.session.clone()),
            attachment_id: id.to_owned(),
            after_seq: Some(after),
        };
        if let Ok(AttachResult { reason }) = client.call::<Attach>(&params).await {
            return reason;
        }
    }
    // The connection's end is told elsewhere.
    std::future::pending().await
}

/// Passes input on, and its end.
pub(super) async fn write_all(
    client: &Client,
    place: &Place,
    id: &str,
    mut queue: mpsc::Receiver<Option<Vec<u8>>>,
    tty: bool,
) -> Result<(), ClientError> {
    let mut number = 0_u64;
    while let Some(typed) = queue.recv().await {
        let chunk = match typed {
            Some(bytes) => bytes,
            // The end-of-file key.
            None if tty => vec![4],
            None => {
                let params = CloseStdinParams {
                    process_id: place.process.clone(),
                    session_id: Some(place.session.clone()),
                };
                return client.call::<CloseStdin>(&params).await.map(drop);
            }
        };
        number += 1;
        let params = WriteParams {
            process_id: place.process.clone(),
            session_id: Some(place.session.clone()),
            attachment_id: Some(id.to_owned()),
            chunk: chunk.into(),
            write_id: Some(format!("{id}-{number}")),
            eof: false,
        };
        match client.call::<Write>(&params).await {
            // One that was terminated takes no more; its end is told elsewhere.
            Ok(_) | Err(ClientError::Rpc(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) async fn read(
    client: Client,
    place: Place,
    attachment_id: Option<String>,
    after: Seq,
    wait_ms: u64,
) -> Result<ReadResult, ClientError> {
    let params = ReadParams {
        process_id: place.process,
        session_id: Some(place.session),
        attachment_id,
        after_seq: Some(after),
        max_bytes: None,
        from_offset: None,
        log_id: None,
        with_times: None,
        wait_ms: Some(wait_ms),
    };
    client.call::<Read>(&params).await
}
