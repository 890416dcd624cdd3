//! `codex exec-server logs`: what a program has printed.

mod source;

use codex_exec_server::client::Client;
use codex_exec_server::protocol::process::Stream;

use crate::console::io::{Out, Output, Unwritten};
use crate::output;
use crate::programs::{self, ProgramError};
use crate::setup::{ConfigArgs, Setup};
use crate::target::TargetArgs;
use source::{Piece, Retained};

/// 128 + SIGPIPE: nobody reads our stdout any more.
const BROKEN_PIPE: u8 = 141;

/// Prints what a program has printed, as far as it is kept: its stdout on stdout, its stderr on stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server logs -f nightly
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
    /// Only this stream: stdout, stderr, or pty for a program on a terminal.
    #[arg(long, value_name = "NAME", value_parser = stream)]
    stream: Option<Stream>,
    /// The program, by its id or by how that begins.
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
    let code = match print(&client, &args).await {
        Ok(code) => code,
        Err(error) => error.tell(),
    };
    client.close().await;
    Ok(code)
}

async fn print(client: &Client, args: &LogsArgs) -> Result<u8, ProgramError> {
    let (place, _) = programs::find(client, &args.id).await?;
    let mut source = Retained::new(client, place, args.stream);
    let (output, outcome) = Output::start();
    let mut first = source.all().await?;
    if let Some(from) = args.from {
        if from < first.offset {
            let lost = first.offset - from;
            output::note(&format!("{lost} bytes before what is kept are gone; going on at {}", first.offset));
        }
        first.skip_to(from);
    }
    if let Some(Tail(Some(lines))) = args.tail {
        first.keep_last_lines(lines);
    }
    let mut pieces = first.pieces;
    let mut skip = args.from.map_or(0, |from| from.saturating_sub(first.end));
    loop {
        for Piece { stream, mut bytes } in pieces {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes.drain(..skipped);
            skip -= skipped as u64;
            let out = if stream == Stream::Stderr { Out::Stderr } else { Out::Stdout };
            match output.room().await {
                Some(room) => drop(room.send((out, bytes))),
                None => return Ok(finished(output.finish(outcome).await)),
            }
        }
        if !args.follow || source.is_over() {
            return Ok(finished(output.finish(outcome).await));
        }
        let more = source.more().await?;
        if more.lost > 0 {
            output::note(&format!("{} bytes came faster than they were read, and are gone", more.lost));
        }
        pieces = more.pieces;
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
