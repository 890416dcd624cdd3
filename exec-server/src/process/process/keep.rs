//! A process as the thread sees it that writes logs to disk.

use codex_exec_protocol::Seq;

use super::Process;
use crate::logs::{Kept, Unkept};
use crate::process::kept;
use crate::process::log::OutputLog;

impl Kept for Process {
    fn unkept(&self) -> Unkept {
        let mut state = self.lock();
        let unkept = kept::unkept(&state.log);
        if let Some(keeping) = &mut state.keeping {
            keeping.handed(&unkept);
        }
        unkept
    }

    fn kept(&self, seq: Seq) {
        self.make_room(|log| log.kept(seq));
    }

    fn keep_no_more(&self) {
        self.make_room(OutputLog::keep_no_more);
    }
}
