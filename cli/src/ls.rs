//! `codex exec-server ls`: lists files of an exec-server's machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use codex_exec_server::environment::CallError;
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::filesystem::{Entry, GetEntryParams, Kind, ListParams};
use codex_exec_server::transfer::explained;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::codes::FAILURE;
use crate::output;
use crate::reach::{ReachArgs, say};
use crate::setup::Setup;
use crate::table;
use crate::there::{There, shown};

const VERB: &str = "ls";

/// Lists files of the server's machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server ls -E box
  codex exec-server ls -E box -l /var/log
  codex exec-server ls -E box --json '~' | jq .size")]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Paths there, relative to the server's directory, or with '~' to the home directory [default: the server's directory].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print mode, size and time, too.
    #[arg(short, long)]
    long: bool,
    /// List names that begin with a dot, too.
    #[arg(short, long)]
    all: bool,
    /// Print a JSON object on each line, as fs/list gives it.
    #[arg(long, conflicts_with = "long")]
    json: bool,
}

/// Lists; 0 if everything was there.
///
/// # Errors
/// What keeps this side from working at all.
pub(crate) async fn ls(args: LsArgs, setup: Setup) -> anyhow::Result<u8> {
    let there = match There::reach(&args.reach.target, &setup).await {
        Ok(there) => there,
        Err(unreached) => return Ok(unreached.told(VERB)),
    };
    let here = [PathBuf::from("")];
    let paths = if args.paths.is_empty() { &here[..] } else { &args.paths };
    let mut code = 0;
    for written in paths {
        let listed = match there.path(written) {
            Ok(path) => {
                list(&there, &path).await.map_err(|error| format!("{}: {error}", shown(path.as_os_str())))
            }
            Err(sentence) => Err(sentence),
        };
        match listed {
            Ok(entries) => {
                let printed = table::printed(print(&args, &entries));
                if printed != 0 {
                    code = printed;
                    break;
                }
            }
            Err(sentence) => {
                say(VERB, &sentence);
                code = FAILURE;
            }
        }
    }
    there.close().await;
    Ok(code)
}

async fn list(there: &There, path: &Path) -> Result<Vec<Entry>, CallError> {
    let wire = WirePath::from(path.to_owned());
    let stat = GetEntryParams { path: wire.clone(), follow_symlinks: true, extents: false, sandbox: None };
    let entry = there.files.stat(stat).await.map_err(explained)?;
    match entry.kind {
        Kind::Directory => {
            let list = ListParams { path: wire, sandbox: None };
            Ok(there.files.list_entries(list).await.map_err(explained)?.entries)
        }
        _ => Ok(vec![entry]),
    }
}

fn print(args: &LsArgs, entries: &[Entry]) -> std::io::Result<()> {
    let mut lines = String::new();
    for entry in entries {
        let name = entry.path.local().ok().and_then(Path::file_name).unwrap_or(OsStr::new("/"));
        if !args.all && !args.json && name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let line = match (args.json, args.long) {
            (true, _) => json!(entry).to_string(),
            (false, true) => format!(
                "{}{}\t{}\t{}\t{}{}",
                letter(entry.kind),
                permissions(entry.mode),
                entry.size,
                time(entry.modified_at_ns),
                shown(name),
                target(entry)
            ),
            (false, false) => shown(name),
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    output::bytes(lines.as_bytes())
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Other => '?',
    }
}

fn permissions(mode: u32) -> String {
    let special = [(0o4000, 6, 's', 'S'), (0o2000, 3, 's', 'S'), (0o1000, 0, 't', 'T')];
    let mut text = String::new();
    for (bit, shift, with, without) in special {
        let of = |mask: u32, c: char| if (mode >> shift) & mask != 0 { c } else { '-' };
        text.push(of(4, 'r'));
        text.push(of(2, 'w'));
        text.push(match (mode & bit != 0, of(1, 'x')) {
            (true, 'x') => with,
            (true, _) => without,
            (false, x) => x,
        });
    }
    text
}

fn time(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(nanoseconds.into()) {
        Ok(time) => time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => "-".to_owned(),
    }
}

fn target(entry: &Entry) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    match &entry.target {
        Some(target) => format!(" -> {}", shown(OsStr::from_bytes(&target.0))),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_as_everywhere() {
        for (mode, text) in [
            (0o755, "rwxr-xr-x"),
            (0o4711, "rws--x--x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
            (0, "---------"),
        ] {
            assert_eq!(permissions(mode), text, "{mode:o}");
        }
        assert_eq!(time(1_700_000_000_123_000_000), "2023-11-14T22:13:20Z");
    }
}
