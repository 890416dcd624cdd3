//! One terminal, or pair of pipes, on a program that outlives it.

mod reconnect;
mod requests;

pub(crate) use reconnect::Way;

use std::time::Duration;

use anyhow::Context as _;
use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::Seq;
use codex_exec_server::protocol::process::{
    AttachmentEnd, ReadResult, Resize, ResizeParams, Signal, SignalName, SignalParams, Stream, Terminate,
    TerminateParams,
};
use tokio::sync::mpsc;

use super::escape::{Escapes, Typed};
use super::keys::HELP;
use super::screen::Screen;
use crate::codes::UNREACHABLE;
use crate::console::io::{self, Input, Out, Output};
use crate::console::signals::{Asked, Signals};
use crate::console::terminal::{self, GIVEN_BACK, RawMode};
use crate::programs::Place;

/// How long one request waits for output; then another is sent. Our own pace: nothing outside depends on it.
const TURN_MS: u64 = 60_000;
/// A second Ctrl-\ within this time is for the program. Our own pace: nothing outside depends on it.
const SECOND_KEY_TIME: Duration = Duration::from_millis(500);
/// Pieces of input on their way; then no more is read.
const QUEUED_INPUT: usize = 16;
/// The size of a terminal that says none.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Why a connection is lost that nobody said anything about.
const NO_ANSWER: &str = "it does not answer";

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The program is over: its exit code.
    Program(u8),
    /// It was left running.
    Detached,
    /// The connection was ended on purpose.
    Cut,
    /// It can't be reached any more; why.
    Gone(String),
    /// Nobody reads our output any more.
    Unread,
}

/// Says how it ended, where that is not plain; the exit code of the command.
pub(crate) fn finish(command: &str, ended: &Ended, id: &str) -> u8 {
    match ended {
        Ended::Program(code) => *code,
        Ended::Detached => {
            io::say(
                command,
                &format!("left {id} running; `codex exec-server attach {id}` takes it up again"),
            );
            0
        }
        Ended::Cut => UNREACHABLE,
        Ended::Gone(why) => {
            io::say(command, why);
            UNREACHABLE
        }
        Ended::Unread => 141,
    }
}

/// A terminal on a program.
pub(crate) struct Session<'a> {
    way: Option<Way<'a>>,
    client: Client,
    place: Place,
    /// The program has a terminal.
    tty: bool,
    read_only: bool,
    escapes: Escapes,
    /// The last number that was shown.
    after: Seq,
    /// The screen has to be shown first: made at this size.
    show: Option<(u16, u16)>,
    output: Option<Output>,
}

/// Why one connection is served no longer.
enum Served {
    Ended(Ended),
    /// It is lost; why.
    Lost(String),
}

impl<'a> Session<'a> {
    /// A new program's, from its start on.
    pub(crate) fn new(way: Way<'a>, client: Client, place: Place, tty: bool, escape: Option<u8>) -> Self {
        let escapes = Escapes::new(escape);
        Self {
            way: Some(way),
            client,
            place,
            tty,
            read_only: false,
            escapes,
            after: Seq::NONE,
            show: None,
            output: None,
        }
    }

    /// The program ends with this command: there is nowhere to leave it, and no way back to it.
    pub(crate) fn stays(&mut self) {
        self.way = None;
    }

    /// The program is running already, on a terminal of this size; maybe others write to it.
    pub(crate) fn joins(&mut self, size: Option<(u16, u16)>, read_only: bool) {
        self.show = self.tty.then(|| size.unwrap_or(USUAL_SIZE));
        self.read_only = read_only;
    }

    /// The connection that is left.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    /// Ends the program, as far as that can still be done.
    pub(crate) async fn terminate(&self) {
        let params = TerminateParams {
            process_id: self.place.process.clone(),
            session_id: Some(self.place.session.clone()),
            grace_ms: None,
        };
        // Its environment may be gone by now.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.call::<Terminate>(&params)).await;
    }

    /// Follows the program until it is over or somebody leaves.
    ///
    /// # Errors
    /// Our terminal can't be set.
    pub(crate) async fn run(&mut self, signals: &mut Signals) -> anyhow::Result<Ended> {
        let raw = match self.tty {
            true => RawMode::enter().context("can't set the terminal to raw mode")?,
            false => None,
        };
        let (output, outcome) = Output::start();
        self.output = Some(output);
        let mut input = Input::start();
        let mut input_open = true;
        let ended = loop {
            match self.serve(&mut input, &mut input_open, signals).await {
                Served::Ended(ended) => break ended,
                Served::Lost(why) => match self.come_back(&why, &mut input, &mut input_open, signals).await {
                    Ok(()) => self.show = self.tty.then(|| terminal::size().unwrap_or(USUAL_SIZE)),
                    Err(ended) => break ended,
                },
            }
        };
        if raw.is_some() && terminal::is_real() && !matches!(ended, Ended::Program(_)) {
            self.put(Out::Stdout, GIVEN_BACK.to_vec()).await;
            self.put(Out::Stdout, b"\r\n".to_vec()).await;
        }
        if let Some(output) = self.output.take() {
            // Nobody reads it any more: then nothing is owed.
            let _ = output.finish(outcome).await;
        }
        drop(raw);
        Ok(ended)
    }

    /// Serves one connection.
    async fn serve(&mut self, input: &mut Input, input_open: &mut bool, signals: &mut Signals) -> Served {
        let mut linked = self.client.linked();
        if !*linked.borrow_and_update() {
            return Served::Lost(NO_ANSWER.into());
        }
        if let Some(made_at) = self.show.take() {
            match self.show_screen(made_at).await {
                Ok(None) => {}
                Ok(Some(code)) => return Served::Ended(Ended::Program(code)),
                Err(error) => return failed(error),
            }
        } else if self.tty && !self.read_only {
            self.resize().await;
        }
        let id = format!("{:032x}", rand::random::<u128>());
        let client = self.client.clone();
        let place = self.place.clone();
        let mut attached =
            std::pin::pin!(requests::attached(&client, &place, &id, self.after, self.read_only));
        let (mut is_attached, mut writes_left) = (true, true);
        let (typed, queue) = mpsc::channel(QUEUED_INPUT);
        let mut writing = std::pin::pin!(requests::write_all(&client, &place, &id, queue, self.tty));
        let reading_id = (!self.read_only).then(|| id.clone());
        let mut reading =
            Box::pin(requests::read(client.clone(), place.clone(), reading_id.clone(), self.after, TURN_MS));
        loop {
            let leaving = self.escapes.is_leaving();
            tokio::select! {
                // In this order: nothing is written before the input was taken over, and a flood of output is behind keys.
                biased;
                end = &mut attached, if is_attached => {
                    is_attached = false;
                    if end == AttachmentEnd::TakenOver {
                        self.read_only = true;
                        notice("another terminal writes now; this one only shows (Ctrl-\\ leaves it)");
                    }
                }
                asked = signals.next() => if let Some(ended) = self.asked(asked).await {
                    return Served::Ended(ended);
                },
                next = input.next(), if *input_open && typed.capacity() > 0 => match next {
                    Ok(Some(bytes)) => {
                        if let Some(ended) = self.typed(&bytes, &typed) {
                            return Served::Ended(ended);
                        }
                    }
                    Ok(None) | Err(_) => {
                        *input_open = false;
                        // There is room: that was asked.
                        let _ = typed.try_send(None);
                    }
                },
                result = &mut writing, if writes_left => {
                    writes_left = false;
                    if let Err(error) = result {
                        return failed(error);
                    }
                }
                // Also a loss that is over by now: the attachment went with the old connection.
                _ = linked.changed() => return Served::Lost(NO_ANSWER.into()),
                answer = &mut reading => {
                    let read = match answer {
                        Ok(read) => read,
                        Err(error) => return failed(error),
                    };
                    if !self.print(&read).await {
                        return Served::Ended(Ended::Unread);
                    }
                    if read.closed {
                        return Served::Ended(Ended::Program(code_of(&read)));
                    }
                    reading =
                        Box::pin(requests::read(client.clone(), place.clone(), reading_id.clone(), self.after, TURN_MS));
                }
                () = tokio::time::sleep(SECOND_KEY_TIME), if leaving => {
                    if let Some(ended) = self.leave() {
                        return Served::Ended(ended);
                    }
                    self.escapes.stay();
                }
            }
        }
    }

    /// Acts on what was typed, and queues what is for the program.
    fn typed(&mut self, bytes: &[u8], queue: &mpsc::Sender<Option<Vec<u8>>>) -> Option<Ended> {
        // Keys of ours are typed on a terminal; a pipe's bytes are all for the program.
        let found = match self.tty && rustix::termios::isatty(rustix::stdio::stdin()) {
            true => self.escapes.take(bytes),
            false => vec![Typed::Bytes(bytes.to_vec())],
        };
        for typed in found {
            match typed {
                // A watcher's keys are for nobody.
                Typed::Bytes(bytes) if !self.read_only => drop(queue.try_send(Some(bytes))),
                Typed::Bytes(_) => {}
                Typed::Detach => {
                    if let Some(ended) = self.leave() {
                        return Some(ended);
                    }
                }
                Typed::Cut => return Some(Ended::Cut),
                Typed::Help => notice(HELP),
            }
        }
        None
    }

    /// Leaves the program running, where it can be left.
    fn leave(&self) -> Option<Ended> {
        if self.way.is_some() {
            return Some(Ended::Detached);
        }
        notice("this program runs on a server that ends with this command, so it can't be left; ~. ends it");
        None
    }

    async fn asked(&mut self, asked: Asked) -> Option<Ended> {
        match asked {
            Asked::Resize if self.tty && !self.read_only => self.resize().await,
            Asked::Resize => {}
            Asked::Interrupt if self.read_only => return Some(Ended::Detached),
            Asked::Interrupt => self.signal(SignalName::Interrupt).await,
            // Ctrl-\ where our terminal is not raw; and who is told to end, leaves.
            Asked::Terminate | Asked::Forward(SignalName::Hangup | SignalName::Quit, _) => {
                return self.leave().or(Some(Ended::Cut));
            }
            Asked::Forward(name, _) if !self.read_only => self.signal(name).await,
            Asked::Forward(..) => {}
        }
        None
    }

    async fn signal(&self, signal: SignalName) {
        let params = SignalParams {
            process_id: self.place.process.clone(),
            session_id: Some(self.place.session.clone()),
            signal,
        };
        // A lost connection is told by what waits for output.
        let _ = self.client.call::<Signal>(&params).await;
    }

    /// Gives the program's terminal the size of ours.
    async fn resize(&self) {
        if let Some((rows, cols)) = terminal::size() {
            self.set_size(rows, cols).await;
        }
    }

    async fn set_size(&self, rows: u16, cols: u16) {
        let params = ResizeParams {
            process_id: self.place.process.clone(),
            session_id: Some(self.place.session.clone()),
            rows,
            cols,
        };
        let _ = self.client.call::<Resize>(&params).await;
    }

    /// Brings our terminal to what the program's shows, made at this size. The exit code of a program that is over.
    async fn show_screen(&mut self, made_at: (u16, u16)) -> Result<Option<u8>, ClientError> {
        let read = requests::read(self.client.clone(), self.place.clone(), None, Seq::NONE, 0).await?;
        let mut screen = Screen::new(made_at.0, made_at.1);
        for chunk in &read.chunks {
            screen.take(&chunk.chunk.0);
        }
        let ours = terminal::size();
        let (rows, cols) = ours.unwrap_or(made_at);
        self.put(Out::Stdout, screen.shown(rows, cols)).await;
        self.after = read.next_seq.previous();
        if let Some((rows, cols)) = ours.filter(|_| !self.read_only) {
            if read.lost_bytes > 0 && ours == Some(made_at) {
                // What made the screen is not whole: a change of size has the program draw it anew.
                self.set_size(rows.saturating_sub(1).max(1), cols).await;
            }
            self.set_size(rows, cols).await;
        }
        Ok(read.closed.then(|| code_of(&read)))
    }

    /// Shows what was read. False when nobody reads our output any more.
    async fn print(&mut self, read: &ReadResult) -> bool {
        for chunk in &read.chunks {
            let out = if chunk.stream == Stream::Stderr { Out::Stderr } else { Out::Stdout };
            if !self.put(out, chunk.chunk.0.clone()).await {
                return false;
            }
        }
        if read.lost_bytes > 0 && !self.tty {
            notice(&format!("{} bytes of output are gone", read.lost_bytes));
        }
        self.after = read.next_seq.previous().max(self.after);
        true
    }

    async fn put(&self, out: Out, bytes: Vec<u8>) -> bool {
        let Some(output) = &self.output else { return false };
        match output.room().await {
            Some(room) => {
                room.send((out, bytes));
                true
            }
            None => false,
        }
    }
}

/// What a failed request means for the connection.
fn failed(error: ClientError) -> Served {
    match error {
        ClientError::Lost(why) => Served::Lost(why),
        other => Served::Ended(Ended::Gone(format!("the program can't be followed any more: {other}"))),
    }
}

/// As a shell has it: 128 and the number for a signal.
fn code_of(read: &ReadResult) -> u8 {
    let signal = read.exit.as_ref().and_then(|exit| exit.signal);
    let code = signal.map_or_else(|| read.exit_code.unwrap_or_default(), |signal| 128 + signal);
    u8::try_from(code).unwrap_or(UNREACHABLE)
}

/// Says something between the program's lines.
fn notice(text: &str) {
    crate::output::note(&format!("\r\n[{text}]\r"));
}
