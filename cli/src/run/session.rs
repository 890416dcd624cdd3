//! One running program, followed to its end: output, input, signals, deadlines.

use std::time::Duration;

use codex_exec_server::client::{ClientError, ProcessControl, ProcessEvent, RemoteProcess};
use codex_exec_server::protocol::ErrorCode;
use codex_exec_server::protocol::process::{ExitDetails, SignalName, Stream};

use super::RunArgs;
use crate::codes::{BROKEN_PIPE, FAILURE, INTERRUPTED, TERMINATED, TIMED_OUT, UNREACHABLE};
use crate::console::io::{Input, Out, Outcome, Output, Room, Unwritten, Watch};
use crate::console::signals::{Asked, Presses, Signals};
use crate::console::terminal;

/// The server ends the program at `--timeout`; one that does not know the option gets this much longer until we do.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);
/// Background programs may hold the output open after the program's end. On a terminal they are waited for no longer than
/// this, and elsewhere until `--timeout`; its last output has this long to arrive even then.
const LINGER: Duration = Duration::from_millis(500);
/// Said when `--timeout` is over and the program is, but not its output.
const OUTPUT_HELD: &str = "the program has ended, but at the end of --timeout a background process still holds its output \
                           open; that process was left running, and what it still says is not shown";
/// SIGTERM for us is SIGTERM for the program, and this long after SIGKILL.
const TERMINATE_GRACE_MS: u64 = 10_000;
/// How long the server may take to answer the last terminate. Our own pace: nothing outside depends on it.
const TERMINATE_TIME: Duration = Duration::from_secs(2);

/// One running program, followed to its end.
pub(super) struct Session {
    process: RemoteProcess,
    control: ProcessControl,
    tty: bool,
    timeout: Option<Duration>,
    presses: Presses,
    /// SIGTERM has come once; a second one kills at once.
    terminating: bool,
    exit: Option<u8>,
    /// To be said once the terminal is as it was.
    pub(super) last_words: Option<String>,
}

impl Session {
    pub(super) fn new(process: RemoteProcess, args: &RunArgs) -> Self {
        let control = process.control();
        Self {
            process,
            control,
            tty: args.tty,
            timeout: args.timeout,
            presses: Presses::default(),
            terminating: false,
            exit: None,
            last_words: None,
        }
    }

    pub(super) async fn follow(&mut self, signals: &mut Signals) -> u8 {
        let (output, mut outcome) = Output::start();
        let mut reader = Watch::start();
        let mut input = std::pin::pin!(pass_input(self.control.clone(), self.tty));
        let mut input_open = true;
        let started = tokio::time::Instant::now();
        let margin = |time: Duration| time.saturating_add(TIMEOUT_MARGIN);
        let mut deadline = std::pin::pin!(sleep_for(self.timeout.map(margin)));
        let mut linger = std::pin::pin!(sleep_for(None));
        loop {
            let end_at = self.presses.end_at;
            tokio::select! {
                // Room first: an event without it would be lost.
                (room, event) = async { (output.room().await, self.process.next().await) } => {
                    let lasts = self.exit.is_none();
                    match self.take(event, room) {
                        Next::Continue => {}
                        Next::Finish(code) => return self.flush(output, outcome, signals, code).await,
                        Next::Abort(code) => return self.abort(code).await,
                    }
                    if lasts && self.exit.is_some() {
                        input_open = false;
                        deadline.set(sleep_for(None));
                        let left = self.timeout.map(|time| time.saturating_sub(started.elapsed()).max(LINGER));
                        linger.set(sleep_for(if self.tty { Some(LINGER) } else { left }));
                    }
                }
                unwritten = outcome.failure() => {
                    let code = self.unwritten(unwritten);
                    return self.abort(code).await;
                }
                () = reader.gone() => return self.abort(BROKEN_PIPE).await,
                passed = &mut input, if input_open => {
                    input_open = false;
                    match passed {
                        Passed::Whole => {}
                        Passed::Endless(sentence) => self.last_words = Some(sentence),
                        Passed::Unread(error) => {
                            // What the program makes of the half can't be trusted.
                            self.last_words = Some(format!("can't read stdin: {error}; the program was ended"));
                            return self.abort(FAILURE).await;
                        }
                    }
                }
                () = &mut deadline => return self.abort(TIMED_OUT).await,
                () = until(end_at) => return self.abort(INTERRUPTED).await,
                // The reader of our stdout is slow: more of the program's own output may be behind it.
                () = &mut linger => {
                    if output.is_full() {
                        linger.set(sleep_for(Some(LINGER)));
                        continue;
                    }
                    let code = self.exit.unwrap_or(UNREACHABLE);
                    if !self.tty {
                        self.last_words.get_or_insert_with(|| OUTPUT_HELD.to_owned());
                    }
                    return self.flush(output, outcome, signals, code).await;
                }
                asked = signals.next() => if let Some(code) = self.asked(asked).await { return code },
            }
        }
    }

    /// What becomes of us when our output can't be written.
    fn unwritten(&mut self, unwritten: Unwritten) -> u8 {
        match unwritten {
            Unwritten::NobodyReads => BROKEN_PIPE,
            Unwritten::Failed { what, error } => {
                self.last_words = Some(format!("can't write to {what}: {error}; the program was ended"));
                FAILURE
            }
        }
    }

    /// Waits until all output is written, or for a signal that ends us.
    async fn flush(&mut self, output: Output, outcome: Outcome, signals: &mut Signals, code: u8) -> u8 {
        let asked = async {
            loop {
                match signals.next().await {
                    Asked::Interrupt => return INTERRUPTED,
                    Asked::Terminate => return TERMINATED,
                    Asked::Forward(_, number) => return 128 + number,
                    Asked::Resize => {}
                }
            }
        };
        tokio::select! {
            written = output.finish(outcome) => match written {
                Ok(()) => code,
                Err(unwritten) => self.unwritten(unwritten),
            },
            code = asked => code,
        }
    }

    fn take(&mut self, event: Option<ProcessEvent>, room: Option<Room>) -> Next {
        // Without room, output can't be written any more; why is told beside.
        let Some(room) = room else { return Next::Continue };
        match event {
            Some(ProcessEvent::Output { stream, bytes }) => {
                let out = if stream == Stream::Stderr { Out::Stderr } else { Out::Stdout };
                room.send((out, bytes));
                Next::Continue
            }
            Some(ProcessEvent::Exited { code, details }) => {
                self.exit = Some(self.exit_code(code, &details));
                Next::Continue
            }
            Some(ProcessEvent::Lost { bytes }) => {
                let amount = bytes.map_or("some".into(), |bytes| bytes.to_string());
                self.last_words =
                    Some(format!("{amount} bytes of output were lost while the connection was away"));
                // The output is not whole: that is never a success.
                Next::Abort(UNREACHABLE)
            }
            Some(ProcessEvent::Disconnected { reason }) => {
                self.last_words = Some(format!("the connection to the exec-server was lost: {reason}"));
                Next::Finish(UNREACHABLE)
            }
            Some(ProcessEvent::Closed) | None => Next::Finish(self.exit.unwrap_or(UNREACHABLE)),
        }
    }

    fn exit_code(&mut self, code: i32, details: &ExitDetails) -> u8 {
        if details.timed_out {
            return TIMED_OUT;
        }
        if let Some(signal) = details.signal {
            return u8::try_from(128 + signal).unwrap_or(UNREACHABLE);
        }
        u8::try_from(code).unwrap_or_else(|_| {
            self.last_words =
                Some("the program was ended by a signal that this exec-server does not name".into());
            128
        })
    }

    /// Does what a signal asks for; gives our exit code when that ends us.
    async fn asked(&mut self, asked: Asked) -> Option<u8> {
        match (asked, self.exit) {
            (Asked::Resize, _) => {
                if let Some((rows, cols)) = terminal::size().filter(|_| self.tty) {
                    // A server without this extension leaves the size as it is; nothing else is harmed.
                    let _ = tokio::time::timeout(TERMINATE_TIME, self.control.resize(rows, cols)).await;
                }
                None
            }
            // The program has ended; only something that holds its output was waited for.
            (_, Some(code)) => Some(code),
            (Asked::Interrupt, None) => {
                let impatient = self.presses.press(std::time::Instant::now());
                if impatient || !self.signal(SignalName::Interrupt).await {
                    return Some(self.abort(INTERRUPTED).await);
                }
                None
            }
            (Asked::Terminate, None) => {
                if std::mem::replace(&mut self.terminating, true) {
                    return Some(self.abort(TERMINATED).await);
                }
                let sent = self.control.terminate(Some(TERMINATE_GRACE_MS));
                match tokio::time::timeout(TERMINATE_TIME, sent).await {
                    // Its end is told like any other, with its last words.
                    Ok(Ok(_)) => None,
                    _ => Some(TERMINATED),
                }
            }
            (Asked::Forward(name, number), None) => {
                if self.signal(name).await {
                    return None;
                }
                // As the signal would have done to us.
                Some(self.abort(128 + number).await)
            }
        }
    }

    /// Signals the program. False when the server does not know the signal, or does not answer.
    async fn signal(&mut self, name: SignalName) -> bool {
        matches!(tokio::time::timeout(TERMINATE_TIME, self.control.signal(name)).await, Ok(Ok(())))
    }

    async fn abort(&mut self, code: u8) -> u8 {
        // Should it fail, the end of the session ends the program.
        let _ = tokio::time::timeout(TERMINATE_TIME, self.control.terminate(None)).await;
        code
    }
}

enum Next {
    Continue,
    /// Nothing more comes: write what is queued, then exit.
    Finish(u8),
    /// End the program, then exit.
    Abort(u8),
}

async fn until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// What became of our stdin.
enum Passed {
    /// The program has all of it, or is over.
    Whole,
    /// The server can't take its end; its sentence.
    Endless(String),
    /// It can't be read.
    Unread(std::io::Error),
}

/// Passes our stdin on, and its end.
async fn pass_input(control: ProcessControl, tty: bool) -> Passed {
    let mut input = Input::start();
    loop {
        match input.next().await {
            Ok(None) => break,
            // Once nobody takes input any more, the program's end tells the rest.
            Ok(Some(bytes)) => match control.write(bytes).await {
                Ok(_) => {}
                Err(_) => return Passed::Whole,
            },
            Err(error) => return Passed::Unread(error),
        }
    }
    match control.close_stdin().await {
        // A terminal has no end; its end-of-file key is what a program waits for.
        Err(ClientError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND && tty => {
            control.write(vec![4]).await.ok();
            Passed::Whole
        }
        Err(ClientError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
            Passed::Endless(error.message)
        }
        _ => Passed::Whole,
    }
}
