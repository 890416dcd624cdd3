//! Ways to a server that this library does not know, such as one through other programs.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a server says, one message on each line. Dropping it ends the connection.
pub type FromServer = Box<dyn AsyncRead + Send + Unpin>;
/// What a server is told, one message on each line.
pub type ToServer = Box<dyn AsyncWrite + Send + Unpin>;

/// Makes connections to one server in a way of its own.
#[async_trait]
pub trait Connector: Debug + Send + Sync {
    /// Where the server is, for messages; without secrets.
    fn target(&self) -> String;

    /// Whether the server outlives its connections, so that a session can be taken up again over another one.
    fn is_resumable(&self) -> bool;

    /// Connects. It bounds its own waits, since only it knows what it waits for.
    ///
    /// # Errors
    /// A sentence for people, without secrets.
    async fn connect(&self) -> Result<(FromServer, ToServer), String>;
}
