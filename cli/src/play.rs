//! `codex exec-server play`: plays a recording.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use codex_recording::{Event, Header, Kind, Reader, Schedule};
use rustix::stdio::{stdin, stdout};
use rustix::termios::isatty;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::codes::{BROKEN_PIPE, FAILURE};
use crate::console::io::{Input, Out, Outcome, Output, Unwritten};
use crate::console::terminal::{GIVEN_BACK, LEAVE_ALTERNATE, RawMode};
use crate::output;

/// Longest line of a recording, in bytes. A safeguard, far from any real use.
const LONGEST_LINE: u64 = 256 << 20;
/// Events that are read ahead. Chosen for speed.
const AHEAD: usize = 64;
/// Ctrl-C, as raw mode gives it.
const CTRL_C: u8 = 3;

/// Play a recording in asciicast format, version 2 or 3.
///
/// On a terminal, space pauses and goes on, `.` shows the next event of a paused recording, and q or Ctrl-C ends it. When stdout is a
/// pipe or a file, it gets what the program has printed, at the same pace.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server play nightly.cast
  codex exec-server play --speed 4 --idle-limit 1 nightly.cast
  codex exec-server play --at-once nightly.cast | grep error")]
pub(crate) struct PlayArgs {
    /// How many times as fast as it was.
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: f64,
    /// No pause is longer than so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    idle_limit: Option<Duration>,
    /// Wait for nothing.
    #[arg(long, conflicts_with_all = ["speed", "idle_limit"])]
    at_once: bool,
    /// The recording; - for stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.01..=1000.0).contains(number));
    number.ok_or_else(|| "expected a number from 0.01 to 1000".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected a number of seconds, like 2 or 0.5".into())
}

/// Plays it.
///
/// # Errors
/// The file is no recording, or can't be read.
pub(crate) async fn play(args: PlayArgs) -> anyhow::Result<u8> {
    let mut recording = Recording::open(&args.file).await?;
    let is_shown = isatty(stdout());
    // Keys are not taken from what the recording itself comes from.
    let has_keys = is_shown && args.file != Path::new("-") && isatty(stdin());
    let raw = if has_keys { RawMode::enter().context("can't set the terminal to raw mode")? } else { None };
    let (output, outcome) = Output::start();
    let mut stage = Stage {
        keys: raw.is_some().then(Input::start),
        signals: Signals::new()?,
        screen: is_shown.then(|| screen(&recording.header)),
        output,
    };
    let limit = if args.at_once { Some(Duration::ZERO) } else { args.idle_limit };
    let ended = stage.play(&mut recording, Schedule::new(args.speed, limit, Instant::now())).await;
    if let Some(screen) = stage.screen.take() {
        stage.put(given_back(&screen)).await;
    }
    let written = finished(stage.output, outcome).await;
    drop(raw);
    Ok(match (ended?, written) {
        (End::Signal(code), _) => code,
        (_, code) => code,
    })
}

async fn finished(output: Output, outcome: Outcome) -> u8 {
    match output.finish(outcome).await {
        Ok(()) => 0,
        Err(Unwritten::NobodyReads) => BROKEN_PIPE,
        Err(Unwritten::Failed { what, error }) => {
            output::error(&format!("can't write to {what}: {error}"));
            FAILURE
        }
    }
}

/// What knows which modes the recording leaves on.
fn screen(header: &Header) -> vt100::Parser {
    let at_least_1 = |size| NonZero::new(size).unwrap_or(NonZero::<u16>::MIN);
    vt100::Parser::new(at_least_1(header.rows), at_least_1(header.cols), 0)
}

/// Leaving a second screen that was not entered would move the cursor.
fn given_back(screen: &vt100::Parser) -> Vec<u8> {
    let plain = GIVEN_BACK.strip_prefix(LEAVE_ALTERNATE).unwrap_or(GIVEN_BACK);
    if screen.screen().alternate_screen() { GIVEN_BACK.to_vec() } else { plain.to_vec() }
}

/// Why it ended.
enum End {
    /// It is over, the user has seen enough, or nobody reads it any more.
    Over,
    /// Of a signal; the exit code.
    Signal(u8),
}

/// What a recording is played with.
struct Stage {
    keys: Option<Input>,
    signals: Signals,
    screen: Option<vt100::Parser>,
    output: Output,
}

impl Stage {
    async fn play(&mut self, recording: &mut Recording, mut schedule: Schedule) -> anyhow::Result<End> {
        let mut next: Option<Event> = None;
        loop {
            let due = next.is_some().then(|| schedule.due()).flatten();
            tokio::select! {
                read = recording.events.recv(), if next.is_none() => {
                    let Some(event) = read else { return Ok(End::Over) };
                    let event = event?;
                    schedule.next(event.after);
                    next = Some(event);
                }
                () = until(due) => {
                    if let Some(Event { kind: Kind::Output(text), .. }) = next.take()
                        && !self.put(text.into_bytes()).await
                    {
                        return Ok(End::Over);
                    }
                }
                keys = keys(&mut self.keys) => match keys {
                    Some(keys) => for key in keys {
                        match key {
                            b' ' => schedule.toggle(Instant::now()),
                            b'.' if schedule.due().is_none() => {
                                schedule.skip(Instant::now());
                                if let Some(Event { kind: Kind::Output(text), .. }) = next.take() {
                                    self.put(text.into_bytes()).await;
                                }
                            }
                            b'q' | CTRL_C => return Ok(End::Over),
                            _ => {}
                        }
                    },
                    None => self.keys = None,
                },
                code = self.signals.next() => return Ok(End::Signal(code)),
            }
        }
    }

    /// Writes it; false when output can't be written any more.
    async fn put(&mut self, bytes: Vec<u8>) -> bool {
        if let Some(screen) = &mut self.screen {
            screen.process(&bytes);
        }
        match self.output.room().await {
            Some(room) => {
                room.send((Out::Stdout, bytes));
                true
            }
            None => false,
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The next keys; none when there are no more.
async fn keys(keys: &mut Option<Input>) -> Option<Vec<u8>> {
    match keys {
        Some(keys) => keys.next().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// What ends it from outside, so that the terminal is given back.
struct Signals([(u8, Signal); 3]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind: SignalKind, number: u8| -> anyhow::Result<_> {
            Ok((128 + number, signal(kind).context("can't listen for signals")?))
        };
        Ok(Self([
            listen(SignalKind::interrupt(), 2)?,
            listen(SignalKind::terminate(), 15)?,
            listen(SignalKind::hangup(), 1)?,
        ]))
    }

    /// The exit code for the next one. Cancel-safe.
    async fn next(&mut self) -> u8 {
        let [(interrupt, first), (terminate, second), (hangup, third)] = &mut self.0;
        tokio::select! {
            _ = first.recv() => *interrupt,
            _ = second.recv() => *terminate,
            _ = third.recv() => *hangup,
        }
    }
}

/// A recording that is read on a thread of its own, since a pipe may keep one waiting.
struct Recording {
    header: Header,
    events: mpsc::Receiver<anyhow::Result<Event>>,
}

impl Recording {
    async fn open(path: &Path) -> anyhow::Result<Self> {
        let lines: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
            Box::new(BufReader::new(file))
        };
        let (begun, header) = tokio::sync::oneshot::channel();
        let (sender, events) = mpsc::channel(AHEAD);
        std::thread::spawn(move || read(lines, begun, &sender));
        let header = header.await.context("the recording is not read")??;
        Ok(Self { header, events })
    }
}

fn read(
    mut lines: Box<dyn BufRead + Send>,
    begun: tokio::sync::oneshot::Sender<anyhow::Result<Header>>,
    events: &mpsc::Sender<anyhow::Result<Event>>,
) {
    let first = line(&mut lines).and_then(|line| {
        let line = line.ok_or_else(|| anyhow!("the recording is empty"))?;
        Ok(Reader::begin(&line)?)
    });
    let mut reader = match first {
        Ok(reader) => reader,
        // Who asked waits for it.
        Err(error) => return drop(begun.send(Err(error))),
    };
    if begun.send(Ok(reader.header().clone())).is_err() {
        return;
    }
    while let Some(line) = line(&mut lines).transpose() {
        let event = match line.and_then(|line| Ok(reader.event(&line)?)) {
            Ok(None) => continue,
            Ok(Some(event)) => Ok(event),
            Err(error) => Err(error),
        };
        let failed = event.is_err();
        if events.blocking_send(event).is_err() || failed {
            return;
        }
    }
}

/// The next line; none at the end.
fn line(lines: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = lines.take(LONGEST_LINE).read_line(&mut line).context("can't read the recording")?;
    if read as u64 == LONGEST_LINE && !line.ends_with('\n') {
        bail!("a line of the recording has more than {LONGEST_LINE} bytes");
    }
    Ok((read > 0).then_some(line))
}
