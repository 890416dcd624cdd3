//! `codex exec-server cp`: copies files and trees to and from an exec-server's machine.

mod machines;
mod progress;
mod words;

use std::ffi::OsString;
use std::sync::Arc;

use codex_exec_server::transfer::{self, Naming, Progress, Report, StreamError};

use crate::closed_stdout;
use crate::codes::{BROKEN_PIPE, FAILURE, WRONG_USAGE};
use crate::reach::{ReachArgs, say};
use crate::setup::Setup;
use crate::there::shown;
use machines::Machines;
use progress::{Bar, bytes};
use words::{End, Way, way};

const VERB: &str = "cp";
/// What a file has that comes from standard input, before the umask.
const NEW_MODE: u32 = 0o644;

/// Copies files and trees to and from other machines, and between them.
///
/// Modes and times are kept, links stay links, holes stay holes. A file has its name only once it is whole and has the same
/// hash as the original; what is there already, with the same size, time and mode, is not sent again. After a cut, repeat
/// the command: it goes on where it stopped.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "codex exec-server cp [OPTIONS] <SOURCE>... <DESTINATION>",
    after_help = "Examples:
  codex exec-server cp src box:/srv/app        # src becomes /srv/app, or goes into it
  codex exec-server cp box:build/out.tar .     # from the server's directory to here
  codex exec-server cp box:~/notes other:/tmp  # from one machine to another
  tar c . | codex exec-server cp - :/tmp/all.tar   # to the environment in use"
)]
pub(crate) struct CpArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// What to copy, and at the end where to. NAME:PATH is a path of the environment NAME, :PATH of the one that -E or --url
    /// names or that is in use; relative to the server's directory, or to the home directory with ~. A path here that has a
    /// colon is written with ./ before it. `-` is standard input or output.
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    paths: Vec<OsString>,
    /// Follow a link that is named as a source.
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Trees are copied anyway; taken for those who are used to it.
    #[arg(short, long, visible_short_alias = 'a', hide = true)]
    recursive: bool,
    /// Show no progress and no summary.
    #[arg(short, long)]
    quiet: bool,
}

/// Copies; 0 if all of it arrived.
///
/// # Errors
/// What keeps this side from working at all.
pub(crate) async fn cp(args: CpArgs, setup: Setup) -> anyhow::Result<u8> {
    let way = match way(&args.paths) {
        Ok(way) => way,
        Err(problem) => {
            say(VERB, &problem);
            return Ok(WRONG_USAGE);
        }
    };
    let machines = match Machines::reach(&args.reach.target, &setup, &way).await {
        Ok(machines) => machines,
        Err(unreached) => return Ok(unreached.told(VERB)),
    };
    let done = match way {
        Way::FromStdin(end) => from_stdin(&machines, &end).await,
        Way::ToStdout(end) => to_stdout(&machines, &end).await,
        Way::Copy { sources, destination } => copy(&machines, &args, sources, destination).await,
    };
    machines.close().await;
    Ok(done.unwrap_or_else(|sentence| {
        say(VERB, &sentence);
        FAILURE
    }))
}

async fn from_stdin(machines: &Machines, end: &End) -> Result<u8, String> {
    let (files, path) = machines.resolve(end)?;
    let stored = transfer::store(&*files, &mut tokio::io::stdin(), &path, NEW_MODE, None).await;
    stored.map_err(|error| format!("{}: {error}", shown(path.as_os_str())))?;
    Ok(0)
}

async fn to_stdout(machines: &Machines, end: &End) -> Result<u8, String> {
    let (files, path) = machines.resolve(end)?;
    match transfer::fetch(&*files, &path, &mut tokio::io::stdout()).await {
        Ok(_) => closed_stdout::check().map(|()| 0),
        Err(StreamError::Here(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(BROKEN_PIPE),
        Err(StreamError::Here(error)) => Err(format!("can't write to stdout: {error}")),
        Err(StreamError::There(error)) => Err(format!("{}: {error}", shown(path.as_os_str()))),
    }
}

async fn copy(machines: &Machines, args: &CpArgs, sources: Vec<End>, destination: End) -> Result<u8, String> {
    let progress = Arc::new(Progress::default());
    let bar = Bar::start(Arc::clone(&progress), args.quiet);
    let (to, destination_path) = machines.resolve(&destination)?;
    let several = sources.len() > 1;
    let mut total = Report::default();
    for source in &sources {
        let (from, path) = machines.resolve(source)?;
        if several && path.file_name().is_none() {
            return Err(format!("{} has no name to have at the destination", path.display()));
        }
        let target = match several {
            // They can only stand in it.
            true => destination_path.join(path.file_name().unwrap_or_default()),
            false => destination_path.clone(),
        };
        let naming = Naming { follow: args.follow_link, exact: several };
        let copied =
            transfer::copy(from, Arc::clone(&to), &path, &target, naming, Arc::clone(&progress)).await;
        match copied {
            Ok(report) => add(&mut total, report),
            Err(error) => {
                bar.note(&format!("codex exec-server {VERB}: {}: {error}", shown(path.as_os_str())));
                total.failed += 1;
            }
        }
    }
    bar.end();
    Ok(tell(&total, args.quiet))
}

fn add(total: &mut Report, report: Report) {
    total.copied += report.copied;
    total.same += report.same;
    total.sent += report.sent;
    total.resumed += report.resumed;
    total.failed += report.failed;
    total.failures.extend(report.failures);
}

/// Says what failed and why, and sums up.
fn tell(report: &Report, quiet: bool) -> u8 {
    for failure in &report.failures {
        say(VERB, &format!("{}: {}", shown(failure.path.as_os_str()), failure.reason));
    }
    if !quiet {
        let mut parts = vec![format!("{} copied ({})", report.copied, bytes(report.sent))];
        let more = [
            (report.same, format!("{} there already", report.same)),
            (report.resumed, format!("{} taken up from before", bytes(report.resumed))),
            (report.failed, format!("{} failed", report.failed)),
        ];
        parts.extend(more.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text));
        say(VERB, &parts.join(", "));
    }
    if report.failed > 0 { FAILURE } else { 0 }
}
