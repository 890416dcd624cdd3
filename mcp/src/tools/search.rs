//! The tools that look for files: list, glob, grep.

use std::path::Path;

use codex_exec_protocol::filesystem::{
    ReadDirectoryParams, WalkEntry, WalkKind, WalkOptions, WalkParams, WalkResult,
};
use codex_exec_protocol::path::WirePath;
use codex_exec_server::interactive::{Ask, Budget, Shape, State};
use globset::GlobBuilder;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::call::{Call, program};
use crate::environments::Connected;
use crate::outcome::{Outcome, Refused};
use crate::places::Place;

/// Directories that a walk enters, as released servers bound it. Fixed by the wire.
const MOST_DIRECTORIES: u64 = 10_000;
/// How deep a walk goes, as released servers bound it. Fixed by the wire.
const MOST_DEPTH: u64 = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListArgs {
    path: Option<String>,
    depth: Option<u64>,
    max_entries: Option<u64>,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GlobArgs {
    pattern: String,
    path: Option<String>,
    #[serde(default)]
    hidden: bool,
    max_entries: Option<u64>,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrepArgs {
    pattern: String,
    path: Option<String>,
    glob: Option<String>,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    files_only: bool,
    max_entries: Option<u64>,
    max_bytes: Option<u64>,
    environment: Option<String>,
}

pub(crate) async fn list(call: &Call<'_>, args: ListArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, args.path.as_deref().unwrap_or("."), false).await?;
    let most = call.lender.limits.entries(args.max_entries);
    let depth = args.depth.unwrap_or(1).clamp(1, call.lender.limits.depth);
    let (mut entries, mut more) = match depth {
        1 => (directory(&there, &place).await?, false),
        _ => {
            let walk = walk(&there, &place, depth - 1, most as u64, false).await?;
            (walk.entries.iter().filter_map(|entry| relative(entry, &place.path)).collect(), walk.truncated)
        }
    };
    entries.sort_unstable();
    let total = entries.len();
    more |= total > most;
    entries.truncate(most);
    Ok(names(&place, entries, more.then(|| format!("at most {most} entries are shown"))))
}

/// What is in one directory, symlinks too; directories end with a slash.
async fn directory(there: &Connected, place: &Place) -> Result<Vec<String>, Refused> {
    let params = ReadDirectoryParams { path: place.wire(), sandbox: place.sandbox.clone() };
    let entries = there.environment().files.read_directory(params).await?.entries;
    let name = |is_directory, name: String| if is_directory { name + "/" } else { name };
    Ok(entries.into_iter().map(|entry| name(entry.is_directory, entry.file_name)).collect())
}

async fn walk(
    there: &Connected,
    place: &Place,
    max_depth: u64,
    max_entries: u64,
    prune_hidden_directories: bool,
) -> Result<WalkResult, Refused> {
    let options = WalkOptions {
        max_depth,
        max_directories: MOST_DIRECTORIES,
        max_entries,
        follow_directory_symlinks: false,
        prune_hidden_directories,
    };
    let params = WalkParams { path: place.wire(), options, sandbox: place.sandbox.clone() };
    Ok(there.environment().files.walk(params).await?)
}

/// The path of an entry below `root`; a directory's ends with a slash.
fn relative(entry: &WalkEntry, root: &Path) -> Option<String> {
    let WirePath::Local(path) = &entry.path else { return None };
    let mut text = path.strip_prefix(root).ok()?.to_string_lossy().into_owned();
    if entry.kind == WalkKind::Directory {
        text.push('/');
    }
    Some(text)
}

fn names(place: &Place, entries: Vec<String>, cut: Option<String>) -> Outcome {
    let mut text = entries.join("\n");
    if entries.is_empty() {
        text.push_str("Nothing found.");
    }
    if let Some(cut) = &cut {
        text.push_str(&format!("\n[… there may be more: {cut} …]"));
    }
    let data = json!({"path": place.path, "entries": entries, "truncated": cut.is_some()});
    Outcome { text, data }
}

pub(crate) async fn glob(call: &Call<'_>, args: GlobArgs) -> Result<Outcome, Refused> {
    let matcher = GlobBuilder::new(&args.pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| Refused(format!("{:?} is no pattern: {error}", args.pattern)))?
        .compile_matcher();
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, args.path.as_deref().unwrap_or("."), false).await?;
    let looked_at = call.lender.limits.looked_at;
    let found = walk(&there, &place, MOST_DEPTH, looked_at, !args.hidden).await?;
    let most = call.lender.limits.entries(args.max_entries);
    let mut entries: Vec<_> = found.entries.iter().filter_map(|entry| relative(entry, &place.path)).collect();
    entries.retain(|path| matcher.is_match(path.trim_end_matches('/')));
    entries.sort_unstable();
    let cut = match (entries.len() > most, found.truncated) {
        (true, _) => Some(format!("{} paths match, at most {most} are shown", entries.len())),
        (false, true) => Some(format!("the search ended after {} entries", found.entries.len())),
        (false, false) => None,
    };
    entries.truncate(most);
    Ok(names(&place, entries, cut))
}

pub(crate) async fn grep(call: &Call<'_>, args: GrepArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let place = call.lender.confinement.place(&there, args.path.as_deref().unwrap_or("."), false).await?;
    let mut argv: Vec<String> = ["grep", "-rIHE", "--exclude-dir=.git"].map(String::from).into();
    argv.push(if args.files_only { "-l" } else { "-n" }.into());
    argv.extend(args.ignore_case.then(|| "-i".into()));
    argv.extend(args.glob.map(|glob| format!("--include={glob}")));
    // Names as the caller gave them, and never an option.
    argv.extend(["-e".into(), args.pattern, "--".into(), place.path.to_string_lossy().into_owned()]);
    let params = program(argv, call.lender.confinement.base(&there)?, place.sandbox.clone());
    let limits = &call.lender.limits;
    let asked = Instant::now();
    let started = call
        .with_place(there.programs.start_within(limits.longest_wait, params))
        .await
        .map_err(|error| Refused(format!("grep can't be started on {:?}: {error}", there.name)))?;
    let id = &started.process;
    let ask = Ask {
        cursor: Some(0),
        wait: limits.longest_wait.saturating_sub(asked.elapsed()),
        budget: Budget::Bytes(limits.shown(args.max_bytes)),
        shape: Shape::Page,
    };
    let reading = call.with_progress(there.programs.read(id, &ask), || 0).await;
    // Also when it still looks: what is shown is full, or the time is up.
    there.programs.forget(id);
    let reading = reading?;
    let most = limits.entries(args.max_entries);
    let mut lines: Vec<&str> = reading.output.lines().take(most).collect();
    let mut cut = (reading.output.lines().count() > most).then(|| format!("at most {most} lines are shown"));
    match reading.state {
        State::Exited { code: 0 | 1, .. } => {}
        // Some files could not be read; what it says of them is among the lines.
        State::Exited { code: 2, .. } if !lines.is_empty() && !reading.output.starts_with("grep: ") => {}
        State::Exited { code, .. } => {
            return Err(Refused(format!("grep ended with {code}: {}", reading.output.trim_end())));
        }
        State::Running => cut = Some("the search was ended before it was through".into()),
        State::Lost { reason } => return Err(Refused(reason)),
    }
    if cut.is_none() && reading.next_cursor < reading.total_bytes {
        cut = Some(format!("{} bytes are shown", reading.shown_bytes));
    }
    if cut.is_some() && !reading.output.ends_with('\n') {
        // The last line may be a part of one.
        lines.pop();
    }
    Ok(names(&place, lines.into_iter().map(String::from).collect(), cut))
}
