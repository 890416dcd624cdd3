//! What the fuzz targets see of the wire between a server and its launchers.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::task::{Instruction, LauncherTask, Word};
use super::wire::{Head, decode, encode};

/// Reads bytes as each end of the wire does; what is read is read again as it was written.
///
/// # Panics
/// When it is not.
pub fn read_again(bytes: &[u8]) {
    check::<Instruction<LauncherTask>>(bytes);
    check::<Word>(bytes);
}

#[allow(clippy::expect_used, reason = "a fuzz target says what it found by a panic")]
fn check<T: Serialize + for<'m> Deserialize<'m> + Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<T>(bytes) else { return };
    let written = encode(&message).expect("what was read can be written");
    let again = decode::<T>(&written[size_of::<Head>()..]).expect("what was written can be read");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}
