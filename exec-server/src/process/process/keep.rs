//! A process as the thread sees it that writes logs to disk.

use std::sync::Arc;

use codex_exec_protocol::Seq;

use super::Process;
use crate::logs::{DiskLog, Kept, Unkept};
use crate::process::kept::{self, Keeping};
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

impl Process {
    /// Keeps the output on disk too, from the first byte on: to be called before there is any.
    pub(in crate::process) fn keep(&self, disk_log: Arc<DiskLog>) {
        let mut state = self.lock();
        state.log.keep();
        state.keeping = Some(Box::new(Keeping::new(disk_log)));
    }

    /// Its log on disk, if it has one.
    pub(crate) fn disk_log(&self) -> Option<Arc<DiskLog>> {
        self.lock().disk_log()
    }
}
