//! How a child ended, as it is noted before it is reaped.

use std::time::Duration;

use codex_children::reap::{Ending, How};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Noted {
    exited: Option<i32>,
    killed: Option<i32>,
    core: bool,
    user_us: u64,
    system_us: u64,
    rss: u64,
}

/// The note.
pub(super) fn write(ending: &Ending) -> Vec<u8> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (exited, killed) = match ending.how {
        How::Exited(code) => (Some(code), None),
        How::Killed(signal) => (None, Some(signal)),
    };
    let noted = Noted {
        exited,
        killed,
        core: ending.core_dumped,
        user_us: micros(ending.cpu_user),
        system_us: micros(ending.cpu_system),
        rss: ending.max_rss_bytes,
    };
    serde_json::to_vec(&noted).unwrap_or_default()
}

/// What a note says; none where it says nothing.
pub(in crate::process) fn read(note: &[u8]) -> Option<Ending> {
    let noted: Noted = serde_json::from_slice(note).ok()?;
    let how = match (noted.exited, noted.killed) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Killed(signal),
        (None, None) => return None,
    };
    Some(Ending {
        how,
        core_dumped: noted.core,
        cpu_user: Duration::from_micros(noted.user_us),
        cpu_system: Duration::from_micros(noted.system_us),
        max_rss_bytes: noted.rss,
    })
}
