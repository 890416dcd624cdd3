//! What can be done to a process: input, signals, its terminal's size, its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_children::{terminal, tree};
use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{ResizeParams, SignalName, WriteParams, WriteStatus};
use rustix::process::Signal;

use super::process::{Input, Phase, Process, State, number};
use super::survival;

impl Process {
    /// `process/write` on a started process (8.4). `answer` is called in the order of the writes: at once, or when a
    /// full queue has room.
    pub fn write(
        self: &Arc<Self>,
        params: WriteParams,
        answer: impl FnOnce(Result<WriteStatus, RpcError>) + Send + 'static,
    ) {
        let mut state = self.lock();
        if params.attachment_id.as_ref().is_some_and(|id| !state.writes_for(id)) {
            return answer(Ok(WriteStatus::TakenOver));
        }
        if let Some(id) = &params.write_id
            && state.writes.knows(id)
        {
            return answer(Ok(WriteStatus::Accepted));
        }
        let stdin = match &state.input {
            Input::None => return answer(Ok(WriteStatus::StdinClosed)),
            _ if state.terminated => return answer(Err(self.takes_no_input())),
            Input::Lost => {
                if params.eof {
                    end_input(&mut state);
                }
                return answer(Ok(WriteStatus::Accepted));
            }
            Input::Pipe(stdin) | Input::Terminal(stdin, _) => Arc::clone(stdin),
        };
        if let Some(id) = &params.write_id {
            state.writes.remember(id);
        }
        if params.chunk.0.is_empty() {
            if let (Some(safe), Some(id)) = (&state.safe, &params.write_id) {
                safe.remember(id);
            }
            if params.eof {
                end_input(&mut state);
            }
            return answer(Ok(WriteStatus::Accepted));
        }
        state.inputs += 1;
        state.last_typed = params.chunk.0.last().copied().unwrap_or(b'\n');
        let process = Arc::clone(self);
        let accepted = move |accepted: bool| {
            answer(if accepted { Ok(WriteStatus::Accepted) } else { Err(process.takes_no_input()) });
        };
        // Under the lock, so that the writes of two threads keep one order.
        stdin.write(params.write_id.as_deref(), params.chunk.0, Box::new(accepted));
        if params.eof {
            end_input(&mut state);
        }
    }

    fn takes_no_input(&self) -> RpcError {
        RpcError::internal(format!("process {} was terminated and takes no more input", self.id()))
    }

    /// `process/closeStdin`: after what is queued. On a terminal it types the end-of-file key.
    pub fn close_stdin(&self) {
        end_input(&mut self.lock());
    }

    /// `process/signal`: to the process group of a running child; nothing else happens otherwise (8.5).
    pub fn signal(&self, signal: SignalName) {
        if let Phase::Running { pid, .. } = self.lock().phase {
            let _ = tree::kill_group(pid, signal_of(signal));
        }
    }

    /// `process/terminate`: SIGKILL to the whole tree, or SIGTERM (and SIGCONT) now and that after `grace`.
    /// Whether it was running.
    pub fn terminate(&self, grace: Option<Duration>) -> bool {
        let mut state = self.lock();
        let Phase::Running { pid, .. } = state.phase else { return false };
        state.terminated = true;
        if let Some(safe) = &state.safe {
            let grace = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
            safe.ends(false, grace.map(|grace| survival::boot_ms().saturating_add(grace)));
        }
        match grace.filter(|grace| !grace.is_zero()) {
            None => state.kill_tree(),
            Some(grace) => {
                state.kill_at = Some(Instant::now() + grace);
                let _ = tree::kill_group(pid, Signal::TERM);
                // A stopped program hears of it only when it goes on.
                let _ = tree::kill_group(pid, Signal::CONT);
            }
        }
        if let Input::Pipe(stdin) | Input::Terminal(stdin, _) = &state.input {
            // Writers that wait for room are let go.
            stdin.refuse();
        }
        drop(state);
        self.pump.notify_one();
        true
    }

    /// `process/resize`.
    ///
    /// # Errors
    /// `-32600` without a terminal.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<(), RpcError> {
        let state = self.lock();
        let Input::Terminal(_, terminal) = &state.input else {
            return Err(RpcError::invalid_request(format!(
                "process {} has no terminal to resize; start it with tty true",
                self.id()
            )));
        };
        terminal::resize(terminal.get_ref(), rows, cols).map_err(|error| {
            RpcError::internal(format!("can't resize the terminal of {}: {error}", self.id()))
        })
    }
}

impl Process {
    /// The operating system's id; none before it is started.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.lock().phase {
            Phase::Running { pid, .. } | Phase::Ended { pid } => Some(number(pid)),
            Phase::Starting | Phase::Failed(_) => None,
        }
    }

    /// Whether it was started on a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.tty
    }

    /// Whether it has ended, having run on a terminal.
    pub(crate) fn is_ended_terminal(&self) -> bool {
        self.tty && matches!(self.lock().phase, Phase::Ended { .. })
    }

    /// Rows and columns of its terminal now; without one, the usual ones.
    pub(super) fn terminal_size(&self) -> (u16, u16) {
        match &self.lock().input {
            Input::Terminal(_, master) => terminal::size(master.get_ref()).ok(),
            _ => None,
        }
        .unwrap_or((terminal::DEFAULT_ROWS, terminal::DEFAULT_COLS))
    }
}

impl State {
    /// Types what a terminal answers the program, unless so much waits to be read already that it is lost on a program that
    /// asks without reading.
    pub(super) fn answer(&mut self, keys: Vec<u8>) {
        let (Some(last), Input::Terminal(stdin, _)) = (keys.last(), &self.input) else { return };
        self.last_typed = *last;
        // A dialogue must not wait for the next look at a flood.
        self.inputs += 1;
        stdin.type_unless_full(keys);
    }

    /// SIGKILL to the whole tree of a running child. Under the lock, so that it is not reaped meanwhile.
    pub(super) fn kill_tree(&mut self) {
        if let (Phase::Running { .. }, Some(group)) = (&self.phase, self.group()) {
            group.kill();
        }
        if let Phase::Running { pid, .. } = self.phase
            && let Err(error) = tree::kill_tree(pid, Signal::KILL)
        {
            tracing::warn!(pid = number(pid), %error, "can't end a program's whole tree");
            // This much needs no descriptor, and is what 8.5 asks.
            let _ = tree::kill_group(pid, Signal::KILL);
        }
    }
}

/// Refuses an empty `writeId` (8.4).
///
/// # Errors
/// `-32602`.
pub(crate) fn check_write(params: &WriteParams) -> Result<(), RpcError> {
    match params.write_id.as_deref() {
        Some("") => Err(RpcError::invalid_params("writeId must not be empty")),
        _ => Ok(()),
    }
}

/// Refuses a terminal without rows or columns.
///
/// # Errors
/// `-32602`.
pub(crate) fn check_resize(params: &ResizeParams) -> Result<(), RpcError> {
    if params.rows == 0 || params.cols == 0 {
        return Err(RpcError::invalid_params("rows and cols must be 1 or more"));
    }
    Ok(())
}

fn end_input(state: &mut State) {
    match &state.input {
        Input::None => {}
        Input::Lost => state.input = Input::None,
        Input::Terminal(stdin, terminal) => {
            // It fails only where the terminal is gone, and with it the input.
            if let Ok(keys) = terminal::end_of_input(terminal.get_ref(), state.last_typed) {
                stdin.write(None, keys, Box::new(|_| {}));
            }
        }
        Input::Pipe(stdin) => {
            stdin.end();
            state.input = Input::None;
        }
    }
}

fn signal_of(signal: SignalName) -> Signal {
    match signal {
        SignalName::Interrupt => Signal::INT,
        SignalName::Terminate => Signal::TERM,
        SignalName::Kill => Signal::KILL,
        SignalName::Hangup => Signal::HUP,
        SignalName::Quit => Signal::QUIT,
        SignalName::User1 => Signal::USR1,
        SignalName::User2 => Signal::USR2,
        SignalName::Stop => Signal::STOP,
        SignalName::Continue => Signal::CONT,
        SignalName::WindowChange => Signal::WINCH,
    }
}
