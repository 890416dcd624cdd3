//! Carries bytes both ways until both sides have sent everything.

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// Bytes on their way in one direction.
const BUFFER: usize = 16 << 10;

/// Carries until both directions are at their end, or one of them breaks.
pub(super) async fn carry(
    one: &mut (impl AsyncRead + AsyncWrite + Unpin),
    other: &mut (impl AsyncRead + AsyncWrite + Unpin),
) {
    if let Err(error) = copy_bidirectional_with_sizes(one, other, BUFFER, BUFFER).await {
        tracing::debug!(%error, "a tunnel broke");
    }
}
