//! Finds the keepers of this user's servers.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, bail};
use rustix::process::Pid;

/// What a keeper calls itself; see `codex_children::keeper`.
const NAME: &str = "codex-keeper";

/// The keeper that has this number, or whose server has it; without a number, the only one of this user.
///
/// # Errors
/// There is none, or there are several and none was named.
pub(super) fn find(named: Option<i32>) -> anyhow::Result<Pid> {
    let Some(named) = named else { return only() };
    let above = || parent(named).filter(|parent| is_keeper(*parent));
    let keeper = Some(named).filter(|pid| is_keeper(*pid)).or_else(above);
    keeper.and_then(Pid::from_raw).with_context(|| {
        format!("process {named} is no exec-server with a keeper; without one there is no upgrade in place")
    })
}

fn only() -> anyhow::Result<Pid> {
    let entries = std::fs::read_dir("/proc").context("can't read /proc")?;
    let us = rustix::process::geteuid().as_raw();
    let own = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        (entry.metadata().ok()?.uid() == us && is_keeper(pid)).then_some(pid)
    };
    let keepers: Vec<i32> = entries.flatten().filter_map(own).collect();
    match keepers[..] {
        [] => bail!("no exec-server of this user that has a keeper runs here"),
        [pid] => Pid::from_raw(pid).context("process 0"),
        _ => {
            let list: Vec<String> =
                keepers.iter().map(|pid| format!("  {pid}  {}", command_line(*pid))).collect();
            bail!("several servers run here; name one with --pid:\n{}", list.join("\n"))
        }
    }
}

fn is_keeper(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == NAME)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses; then come state and parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// What a keeper was started with, on one line and without what a terminal could take for more.
fn command_line(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let line = words.collect::<Vec<_>>().join(" ");
    line.trim_end().chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
