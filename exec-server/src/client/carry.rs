//! Carries the protocol between two streams of lines and any exec-server, without a session of its own: for programs that
//! speak it over stdio, and know nothing of registries, relays and keys.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dial::{Endpoint, Link, LinkReader, LinkWriter, lines};
use super::error::ClientError;
use super::options::ClientOptions;
use crate::protocol::encode::NoParams;
use crate::protocol::session::End;
use crate::protocol::{RequestId, envelope};

/// Which side has ended what was carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarryEnd {
    /// Nothing more comes from this side, or nobody takes what is for it. The server was told that its session ends.
    Here,
    /// The server has ended the connection, or it was lost; with the reason, if there is one.
    There(Option<String>),
}

/// Connects to the exec-server, and carries its messages: from `input`, one on each line, and to `output`. There is no
/// resume: as with a server over stdio, everything ends with the connection.
///
/// # Errors
/// There is no connection.
pub async fn carry(
    endpoint: Endpoint,
    options: &ClientOptions,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<CarryEnd, ClientError> {
    let (Link { mut reader, mut writer, child }, _) = endpoint.open(options).await?;
    let (mut input, mut output) = lines(input, output);
    let end = tokio::select! {
        end = to_server(&mut input, &mut writer) => end,
        end = from_server(&mut reader, &mut output) => end,
    };
    if end == CarryEnd::Here {
        let goodbye = async {
            let mut message = Vec::new();
            let id = RequestId::Text("end".into());
            envelope::request::<End>(&id, &NoParams, &mut message);
            writer.feed(message.into()).await?;
            writer.flush().await?;
            writer.close().await
        };
        // A server that does not take it in time ends the session when its time is up.
        let _ = tokio::time::timeout(options.child_grace, goodbye).await;
    }
    if let Some(child) = child {
        child.end(options.child_grace).await;
    }
    Ok(end)
}

async fn to_server(input: &mut LinkReader, writer: &mut LinkWriter) -> CarryEnd {
    let lost = |error: std::io::Error| CarryEnd::There(Some(error.to_string()));
    loop {
        let sent = tokio::select! {
            message = input.next() => match message {
                Ok(Some(message)) => async {
                    writer.feed(Bytes::from(message)).await?;
                    writer.flush().await
                }.await,
                Ok(None) | Err(_) => return CarryEnd::Here,
            },
            () = writer.chore() => writer.do_chores().await,
        };
        if let Err(error) = sent {
            return lost(error);
        }
    }
}

async fn from_server(reader: &mut LinkReader, output: &mut LinkWriter) -> CarryEnd {
    loop {
        let message = match reader.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return CarryEnd::There(None),
            Err(error) => return CarryEnd::There(Some(error.to_string())),
        };
        let written = async {
            output.feed(Bytes::from(message)).await?;
            output.flush().await
        };
        if written.await.is_err() {
            return CarryEnd::Here;
        }
    }
}
