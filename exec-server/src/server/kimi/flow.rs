//! `process/flow`: the output of one program stops for a client that has no room for it, and the others go on.
//!
//! Its log fills, and then the program waits. How it ended is told nevertheless, since a client may wait for that and take no
//! output before; only a terminal's output comes first always, since clients take none after the end of one.

use std::collections::HashMap;
use std::sync::Arc;

use codex_exec_protocol::kimi::{self, FlowParams};
use codex_exec_protocol::process::{WaitParams, WaitResult};
use codex_exec_protocol::{ProcessId, RpcError};
use parking_lot::Mutex;

use crate::environment::machine::{Machine, Reply};
use crate::process::Process;
use crate::rpc::Outbox;
use crate::server::session::Session;

/// Which programs of a connection were paused, until all of their output is told.
pub(super) struct Flow {
    session: Arc<Session>,
    outbox: Arc<Outbox>,
    paused: Mutex<HashMap<ProcessId, Paused>>,
}

#[derive(Default)]
struct Paused {
    now: bool,
    /// It had news meanwhile, which wait with it.
    held: Option<Arc<Process>>,
    /// How it ended, once that is known here.
    exit_code: Option<i32>,
    exit_told: bool,
}

impl Flow {
    pub(super) fn new(session: Arc<Session>, outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self { session, outbox, paused: Mutex::default() })
    }

    /// Takes a process that has news, if it is paused.
    pub(super) fn holds(&self, process: &Arc<Process>) -> bool {
        match self.paused.lock().get_mut(process.id().as_str()) {
            Some(paused) if paused.now => {
                paused.held = Some(Arc::clone(process));
                true
            }
            _ => false,
        }
    }

    /// The exit has its turn among what is told: whether it is still to be told.
    pub(super) fn exit_is_news(&self, id: &ProcessId) -> bool {
        match self.paused.lock().get_mut(id.as_str()) {
            Some(paused) => !std::mem::replace(&mut paused.exit_told, true),
            None => true,
        }
    }

    /// All is told of a process.
    pub(super) fn forget(&self, id: &ProcessId) {
        self.paused.lock().remove(id.as_str());
    }

    /// Stops a process's output, or lets it go on.
    pub(super) fn set(self: &Arc<Self>, machine: &Machine, params: FlowParams) {
        let Some(process) = machine.known_process(&params.process_id) else { return };
        let mut all = self.paused.lock();
        if !params.paused {
            if let Some(paused) = all.get_mut(params.process_id.as_str()) {
                paused.now = false;
                if let Some(held) = paused.held.take() {
                    self.session.processes.news().push(held);
                }
            }
            return;
        }
        let first = !all.contains_key(params.process_id.as_str());
        let paused = all.entry(params.process_id.clone()).or_default();
        paused.now = true;
        paused.tell_exit(&self.outbox, &params.process_id);
        drop(all);
        if first && !process.has_terminal() {
            let wait = WaitParams { process_id: params.process_id, timeout_ms: None, session_id: None };
            machine.wait(wait, ExitWatch { flow: Arc::clone(self), id: process.id().clone() });
        }
    }

    fn exited(&self, id: &ProcessId, exit_code: i32) {
        if let Some(paused) = self.paused.lock().get_mut(id.as_str()) {
            paused.exit_code = Some(exit_code);
            paused.tell_exit(&self.outbox, id);
        }
    }
}

impl Paused {
    /// Tells how it ended, if that is known and waits behind output that is paused.
    fn tell_exit(&mut self, outbox: &Outbox, id: &ProcessId) {
        if let (true, false, Some(code)) = (self.now, self.exit_told, self.exit_code) {
            self.exit_told = true;
            outbox.put(|frame| frame.message(128, |out| kimi::encode_exited(id, code, out)));
        }
    }
}

/// Hears of the exit of a process that was paused.
struct ExitWatch {
    flow: Arc<Flow>,
    id: ProcessId,
}

impl Reply<WaitResult> for ExitWatch {
    fn answer(self, result: Result<WaitResult, RpcError>) {
        self.answer_holding(result, ());
    }

    fn answer_holding(self, result: Result<WaitResult, RpcError>, _: impl Send + 'static) {
        if let Ok(WaitResult { exit_code: Some(code), .. }) = result {
            self.flow.exited(&self.id, code);
        }
    }

    fn is_gone(&self) -> bool {
        self.flow.outbox.is_closed()
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn room(&self) {}
}
