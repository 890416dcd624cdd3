//! The tools over stdin and stdout, for the one client that has started this process.

use rmcp::service::ServerInitializeError;
use rmcp::transport::stdio_pipes;

use crate::lines::Lines;
use crate::server::Lender;

/// Why serving over stdio ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client's first words were not those of the protocol.
    #[error("the client does not begin as the Model Context Protocol has it: {0}")]
    Begin(Box<ServerInitializeError>),
    /// The task that serves broke.
    #[error("serving broke: {0}")]
    Broke(#[from] tokio::task::JoinError),
}

/// Serves the tools over stdin and stdout, until stdin ends.
///
/// # Errors
/// A client that speaks something else.
pub async fn serve_stdio(lender: Lender) -> Result<(), ServeError> {
    let (input, output) = stdio_pipes();
    match rmcp::serve_server(lender, Lines::new(input, output)).await {
        Ok(service) => {
            service.waiting().await?;
            Ok(())
        }
        // A client that goes before it has said anything wants nothing.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(ServeError::Begin(Box::new(error))),
    }
}
