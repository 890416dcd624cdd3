//! `codex exec-server logs`: what a program has printed.

pub(crate) mod find;
mod lines;
mod since;
pub(crate) mod source;

use codex_exec_server::client::Client;
use codex_exec_server::protocol::process::Stream;

use crate::codes::BROKEN_PIPE;
use crate::console::io::{Out, Output, Unwritten};
use crate::output;
use crate::programs::{self, ProgramError};
use crate::setup::{ConfigArgs, Setup};
use crate::target::TargetArgs;
use find::{Found, find};
use lines::{Last, Stamps};
use since::{Since, since};
use source::{From, Page, Piece, Source};

/// So much of the end is looked at first for the last lines; then more. Chosen for speed.
const FIRST_WINDOW: u64 = 256 << 10;

/// Prints what a program has printed, as far as it is kept: its stdout on stdout, its stderr on stderr.
///
/// Output that is kept on the server's disk, as that of `run -d`, is found there also when the program, its session or the
/// server has ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server logs -f nightly
  codex exec-server logs -t --since 15m nightly
  codex exec-server logs --tail 20 --stream stderr nightly
  codex exec-server logs --from 1048576 nightly >> nightly.log")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Go on with what it prints from now on, until it ends.
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines of what is kept.
    #[arg(short = 'n', long, value_name = "N", value_parser = lines, conflicts_with = "from")]
    tail: Option<Tail>,
    /// Begin at this byte of all that the stream, or all streams together, have had since the start.
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// Only what was printed since then: how long ago, as 15m, or a time, as 2026-11-30T08:00:00Z. Only for output that is kept
    /// on disk.
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "from")]
    since: Option<Since>,
    /// Print before each line when it was printed, in UTC. Only for output that is kept on disk.
    #[arg(short, long)]
    timestamps: bool,
    /// Only this stream: stdout, stderr, or pty for a program on a terminal.
    #[arg(long, value_name = "NAME", value_parser = stream)]
    stream: Option<Stream>,
    /// The program, by its id or by how that begins; or a log on disk, by its id.
    #[arg(value_name = "ID")]
    id: String,
}

/// How many lines at the end; none for all.
#[derive(Debug, Clone, Copy)]
struct Tail(Option<usize>);

fn lines(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        number => {
            number.parse().map(|lines| Tail(Some(lines))).map_err(|_| "expected a number, or `all`".into())
        }
    }
}

fn stream(text: &str) -> Result<Stream, String> {
    match text {
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        "pty" => Ok(Stream::Pty),
        _ => Err("expected stdout, stderr or pty".into()),
    }
}

/// Prints it.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn logs(args: LogsArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let (output, outcome) = Output::start();
    let code = match print(&client, &args, &output).await {
        // What became of the output is told by its end.
        Ok(()) => finished(output.finish(outcome).await),
        Err(error) => {
            let _ = output.finish(outcome).await;
            error.tell()
        }
    };
    client.close().await;
    Ok(code)
}

/// Prints until all is printed, or nobody reads it any more.
async fn print(client: &Client, args: &LogsArgs, output: &Output) -> Result<(), ProgramError> {
    let timed = args.timestamps || args.since.is_some();
    let found = find(client, &args.id, timed).await?;
    let mut reading = Reading {
        source: Source::new(client, found.from.clone(), args.stream),
        since: args.since,
        // The log on disk of a program that has ended gets its end in a moment.
        waits: args.follow || (found.ends && matches!(found.from, From::Log(_))),
        over: false,
    };
    let mut shown = Shown { output, stamps: args.timestamps.then(Stamps::default), skip: 0 };
    if let Some(Tail(Some(lines))) = args.tail {
        // Only what is there now: what comes later is not among the last lines.
        for piece in last_lines(&mut reading, &found, lines).await? {
            if !shown.print(piece).await {
                return Ok(());
            }
        }
    } else {
        let first = begin(&mut reading, args, &mut shown).await?;
        for piece in first {
            if !shown.print(piece).await {
                return Ok(());
            }
        }
    }
    while !reading.over {
        let page = reading.page(reading.waits).await?;
        if page.lost > 0 {
            output::note(&format!("{} bytes of output are gone", page.lost));
        }
        let at_end = page.at_end;
        for piece in page.pieces {
            if !shown.print(piece).await {
                return Ok(());
            }
        }
        if at_end && !reading.waits {
            break;
        }
    }
    Ok(())
}

/// Output that is read to its end.
struct Reading<'a> {
    source: Source<'a>,
    since: Option<Since>,
    /// What is there is not all that is wanted.
    waits: bool,
    over: bool,
}

impl Reading<'_> {
    /// The next page, as far as it is new enough.
    async fn page(&mut self, wait: bool) -> Result<Page, ProgramError> {
        let mut page = self.source.page(wait).await?;
        if let Some(Since(since)) = self.since {
            if page.pieces.iter().any(|piece| piece.time.is_none()) {
                return Err(ProgramError::Unknown(
                    "this exec-server does not tell when output was printed; a newer one does".into(),
                ));
            }
            page.pieces.retain(|piece| piece.time.is_some_and(|time| time >= since));
        }
        self.over |= page.over;
        if let Some(failure) = page.failure.as_ref().filter(|_| page.over) {
            output::note(failure);
        }
        Ok(page)
    }
}

/// What is printed.
struct Shown<'a> {
    output: &'a Output,
    stamps: Option<Stamps>,
    /// Bytes that are not wanted yet.
    skip: u64,
}

impl Shown<'_> {
    /// Prints it; false when output can't be written any more.
    async fn print(&mut self, mut piece: Piece) -> bool {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.bytes.len());
        piece.bytes.drain(..skipped);
        self.skip -= skipped as u64;
        if piece.bytes.is_empty() {
            return true;
        }
        let Piece { stream, bytes, .. } = match &mut self.stamps {
            Some(stamps) => stamps.stamp(piece),
            None => piece,
        };
        let out = if stream == Stream::Stderr { Out::Stderr } else { Out::Stdout };
        match self.output.room().await {
            Some(room) => {
                room.send((out, bytes));
                true
            }
            None => false,
        }
    }
}

/// The first page, from where it is to begin.
async fn begin(
    reading: &mut Reading<'_>,
    args: &LogsArgs,
    shown: &mut Shown<'_>,
) -> Result<Vec<Piece>, ProgramError> {
    let from = args.from.unwrap_or(0);
    // Only offsets of all streams together are known to the server.
    let counts_here = args.stream.is_some();
    reading.source.seek(if counts_here { 0 } else { from });
    let page = reading.page(false).await?;
    let kept: u64 = page.pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
    let begins = match counts_here {
        true if page.lost > 0 => reading.source.total().saturating_sub(kept),
        true => 0,
        false => reading.source.offset().saturating_sub(kept),
    };
    if args.from.is_some() && begins > from {
        output::note(&format!("{} bytes before what is kept are gone; going on at {begins}", begins - from));
    }
    shown.skip = from.saturating_sub(begins);
    Ok(page.pieces)
}

/// The last lines of what is there now.
async fn last_lines(
    reading: &mut Reading<'_>,
    found: &Found,
    lines: usize,
) -> Result<Vec<Piece>, ProgramError> {
    let ends = found.ends && matches!(found.from, From::Log(_));
    let mut window = FIRST_WINDOW;
    loop {
        let begin = found.total.unwrap_or(0).saturating_sub(window);
        reading.source.seek(begin);
        let mut last = Last::new(lines);
        loop {
            let page = reading.page(ends).await?;
            let done = page.over || (page.at_end && !ends);
            page.pieces.into_iter().for_each(|piece| last.take(piece));
            if done {
                break;
            }
        }
        // What the window's edge has cut is no whole line.
        if begin == 0 || last.is_full() {
            return Ok(last.finish());
        }
        window = window.saturating_mul(8);
    }
}

fn finished(written: Result<(), Unwritten>) -> u8 {
    match written {
        Ok(()) => 0,
        Err(Unwritten::NobodyReads) => BROKEN_PIPE,
        Err(Unwritten::Failed { what, error }) => {
            output::error(&format!("can't write to {what}: {error}"));
            crate::codes::FAILURE
        }
    }
}
