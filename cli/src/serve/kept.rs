//! How a server gets a keeper above it, or does without.

use std::ops::ControlFlow;

use anyhow::Context;
use codex_children::keeper::{self, Kept, News};
use codex_children::signals::{self, ChildSignals};

use crate::resident_memory;

/// Has a keeper hold this from now on, if one is wanted: then this is two processes, of which the keeper comes back with the
/// exit code when the server has ended for good.
pub(super) fn below_keeper<T>(
    wanted: bool,
    held: T,
) -> anyhow::Result<ControlFlow<u8, (Option<keeper::Server>, T)>> {
    if !wanted {
        return Ok(ControlFlow::Continue((None, held)));
    }
    let kept = keeper::keep(held, tell).context("can't start the server below its keeper")?;
    Ok(match kept {
        Kept::Server(server, held) => ControlFlow::Continue((Some(server), held)),
        Kept::Over(code) => ControlFlow::Break(code),
    })
}

fn tell(news: News) {
    match news {
        News::Waits => resident_memory::forget_start(),
        News::Died(death) => tracing::warn!("{death}; it is started again"),
        News::GaveUp(death) => {
            tracing::error!("{death}, the {}th time within a minute; it is not started again", death.lately);
        }
    }
}

/// The ends of programs, as something to read. To be called in the server, before it has a second thread.
pub(super) fn keep_endings() -> anyhow::Result<ChildSignals> {
    signals::keep_endings().context("can't have the ends of programs reported")
}
