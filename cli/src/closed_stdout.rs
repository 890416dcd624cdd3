//! Whether this process was started with a closed stdout. Before `main`, Rust's runtime puts `/dev/null` in its place, which
//! takes everything without a word; so one has to look earlier.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    STDOUT.store(rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err(), Ordering::Relaxed);
}

#[used]
// SAFETY: the C library calls what is in this section before `main`, while there is one thread. `look` makes one system
// call and stores a flag, and needs nothing that is set up later.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Whether stdout was closed from the beginning.
pub(crate) fn is_closed() -> bool {
    STDOUT.load(Ordering::Relaxed)
}

/// Refuses a stdout that was closed from the beginning.
///
/// # Errors
/// The sentence that says so.
pub(crate) fn check() -> Result<(), String> {
    match is_closed() {
        true => Err("can't write to stdout: it is closed".into()),
        false => Ok(()),
    }
}
