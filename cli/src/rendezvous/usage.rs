//! What is said of flags that can't be meant so.

use crate::codes::WRONG_USAGE;
use crate::output;

/// Tells what is wrong with the flags; nothing was started.
pub(super) fn wrong_usage(error: &anyhow::Error) -> anyhow::Result<u8> {
    output::error(&output::sentence(error));
    Ok(WRONG_USAGE)
}
