//! `codex exec-server rec`: what a program has printed, as a file that asciinema plays.

mod sink;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use codex_exec_server::client::Client;
use codex_exec_server::protocol::process::{LogInfo, ProcessInfo, ProcessState, Stream};
use codex_recording::{Header, Kind, LineEnds, Writer};

use crate::codes::{BROKEN_PIPE, FAILURE};
use crate::console::io::Unwritten;
use crate::logs::find::newest;
use crate::logs::source::{From, Page, Source};
use crate::output;
use crate::programs::{self, ProgramError};
use crate::setup::{ConfigArgs, Setup};
use crate::target::TargetArgs;
use sink::Sink;

/// The size of a terminal of which nobody knows it.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Record what a program has printed, in asciicast format, for `play` and for asciinema.
///
/// Output that is kept on the server's disk, as that of `run -d`, can be recorded after the fact, with the times at which it was
/// printed. Of other programs the recording has what is still kept, all at its beginning, and what comes with --follow. What
/// somebody typed is never recorded; what the terminal has shown of it is output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server rec nightly nightly.cast
  codex exec-server rec -f build build.cast
  codex exec-server rec nightly - | codex exec-server play --idle-limit 2 -")]
pub(crate) struct RecArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Go on with what it prints from now on, until it ends.
    #[arg(short, long)]
    follow: bool,
    /// Replace FILE if it is there.
    #[arg(long)]
    force: bool,
    /// The program, by its id or by how that begins; or a log on disk, by its id.
    #[arg(value_name = "ID")]
    id: String,
    /// The recording, which only you may read; - for stdout.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What is recorded.
struct Recorded {
    from: From,
    info: Option<ProcessInfo>,
    log: Option<LogInfo>,
}

/// Records it.
///
/// # Errors
/// Never; what goes wrong is told, and gives an exit code.
pub(crate) async fn rec(args: RecArgs, setup: Setup) -> anyhow::Result<u8> {
    let client = match programs::reach(&args.target, &setup).await {
        Ok(client) => client,
        Err(error) => return Ok(crate::target::tell(&error)),
    };
    let code = match record(&client, &args).await {
        Ok(code) => code,
        Err(error) => error.tell(),
    };
    client.close().await;
    Ok(code)
}

async fn record(client: &Client, args: &RecArgs) -> Result<u8, ProgramError> {
    let recorded = recorded(client, &args.id).await?;
    let mut sink = match Sink::open(&args.file, args.force) {
        Ok(sink) => sink,
        Err(sentence) => {
            output::error(&sentence);
            return Ok(FAILURE);
        }
    };
    write(client, args, recorded, &mut sink).await?;
    Ok(match sink.finish().await {
        Ok(()) => 0,
        Err(Unwritten::NobodyReads) => BROKEN_PIPE,
        Err(Unwritten::Failed { what, error }) => {
            output::error(&format!("can't write to {what}: {error}"));
            FAILURE
        }
    })
}

/// Writes it to its end, or as far as the sink takes it, which tells why.
async fn write(
    client: &Client,
    args: &RecArgs,
    recorded: Recorded,
    sink: &mut Sink,
) -> Result<(), ProgramError> {
    let timed = matches!(recorded.from, From::Log(_));
    if !timed {
        output::note(
            "this output is kept in memory alone, and nobody knows when it was printed: it comes at once",
        );
    }
    let (mut writer, header) = begin(&recorded);
    if !sink.put(header).await {
        return Ok(());
    }
    let ended = recorded.has_ended();
    let mut source = Source::new(client, recorded.from.clone(), None);
    loop {
        // The log on disk of a program that has ended gets its end in a moment.
        let Page { pieces, lost, at_end, over, .. } = source.page(args.follow || (ended && timed)).await?;
        let mut lines = String::new();
        if lost > 0 {
            output::note(&format!("{lost} bytes of output are gone"));
            let at = pieces.first().and_then(|piece| piece.time).unwrap_or_else(now);
            lines += &writer.event(at, &Kind::Marker(format!("{lost} bytes of output are gone")));
        }
        for piece in pieces {
            lines +=
                &writer.output(piece.time.unwrap_or_else(now), piece.stream == Stream::Stderr, &piece.bytes);
        }
        if !lines.is_empty() && !sink.put(lines).await {
            return Ok(());
        }
        if over {
            let (at, code) = end_of(client, args, &recorded).await;
            sink.put(writer.end(at, code)).await;
            return Ok(());
        }
        if at_end && !args.follow && !(ended && timed) {
            sink.put(writer.end(0, None)).await;
            return Ok(());
        }
    }
}

/// The recording's beginning.
fn begin(recorded: &Recorded) -> (Writer, String) {
    let Recorded { info, log, .. } = recorded;
    let started = log.as_ref().map(|log| log.started_ms);
    let age = info.as_ref().and_then(|info| info.running_ms).unwrap_or(0);
    let tty = info.as_ref().is_some_and(|info| info.tty) || log.as_ref().is_some_and(|log| log.tty);
    let size = |rows: Option<u16>, cols: Option<u16>| rows.zip(cols);
    let size = log
        .as_ref()
        .and_then(|log| size(log.rows, log.cols))
        .or_else(|| info.as_ref().and_then(|info| size(info.rows, info.cols)));
    let (rows, cols) = size.unwrap_or(USUAL_SIZE);
    let name = |id: &str| Some(id.to_owned()).filter(|id| !id.is_empty());
    let title = info
        .as_ref()
        .map_or_else(|| log.as_ref().and_then(|log| name(&log.process_id)), |info| name(&info.process_id));
    let timestamp = started.unwrap_or_else(|| now().saturating_sub(age)) / 1000;
    let header = Header { cols, rows, timestamp: Some(timestamp), title };
    let line_ends = if tty { LineEnds::Keep } else { LineEnds::AddReturns };
    Writer::begin(&header, started.unwrap_or_else(now), line_ends)
}

/// When it ended, and how, as far as it is known now.
async fn end_of(client: &Client, args: &RecArgs, before: &Recorded) -> (u64, Option<i32>) {
    let id = before.log.as_ref().map_or(args.id.as_str(), |log| log.log_id.as_str());
    match recorded(client, id).await {
        Ok(Recorded { info, log, .. }) => {
            let code = log.as_ref().and_then(|log| log.exit_code);
            let code = code.or_else(|| info.and_then(|info| info.exit_code));
            (log.and_then(|log| log.ended_ms).unwrap_or_else(now), code)
        }
        // It was forgotten just now; what it printed is recorded.
        Err(_) => (now(), None),
    }
}

/// Finds what is meant.
async fn recorded(client: &Client, id: &str) -> Result<Recorded, ProgramError> {
    let absent = match programs::find(client, id).await {
        Ok((place, info)) => {
            let log = match &info.log_id {
                Some(log) => newest(client, log).await?,
                None => None,
            };
            let from = match &log {
                Some(log) => From::Log(log.log_id.clone()),
                None => From::Process(place),
            };
            return Ok(Recorded { from, info: Some(info), log });
        }
        Err(ProgramError::Absent(sentence)) => ProgramError::Absent(sentence),
        Err(other) => return Err(other),
    };
    let log = newest(client, id).await?.ok_or(absent)?;
    Ok(Recorded { from: From::Log(log.log_id.clone()), info: None, log: Some(log) })
}

impl Recorded {
    fn has_ended(&self) -> bool {
        match &self.info {
            Some(info) => info.state == ProcessState::Closed,
            None => self.log.as_ref().is_some_and(|log| log.ended_ms.is_some()),
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
