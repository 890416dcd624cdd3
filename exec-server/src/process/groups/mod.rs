//! Bounds a program together with all that it starts, by control groups (cgroup v2), where the server may make any.
//!
//! Nothing is looked at or made before the first program with such bounds. Each gets a group of its own, which goes when
//! nothing runs in it any more.

mod delegated;
mod root;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::process::{Enforcement, LimitsEnforced, ProgramLimits};
use parking_lot::Mutex;

use rustix::thread::CapabilitySet;

use delegated::NoDelegatedGroup;
use root::GroupRoot;

use crate::blocking;

/// How long it is taken for granted that there is no place for groups: who shared the server's own may have left.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The groups that a server may make. Clones share them; [`Groups::default`] never makes any.
#[derive(Debug, Clone, Default)]
pub struct Groups(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
enum State {
    Untried,
    /// There was no place for groups when that was last asked.
    Nowhere {
        reason: NoDelegatedGroup,
        asked: Instant,
    },
    /// Setting up the place failed, and was undone; not tried again, since that moves processes about.
    Unusable,
    Ready(Arc<GroupRoot>),
}

/// One program's group; dropped, it is removed, at once or when what runs in it has ended.
#[derive(Debug)]
pub(crate) struct Group {
    root: Arc<GroupRoot>,
    directory: PathBuf,
}

/// How a program's limits are enforced.
#[derive(Debug, Default)]
pub(crate) struct Bounded {
    /// What it has to be put into.
    pub(crate) group: Option<Group>,
    /// What is left to bound by resource limits.
    pub(crate) rest: ProgramLimits,
    /// What the client is told.
    pub(crate) enforced: Option<LimitsEnforced>,
}

impl Groups {
    /// To be tried when they are first needed. For a program whose own process may be moved into a group below the one
    /// that it was started in. Does no I/O.
    pub fn when_needed() -> Self {
        Self(Some(Arc::new(Mutex::new(State::Untried))))
    }

    /// How a server would enforce limits that is started where this process is, in words; changes nothing. Another one, of
    /// a unit or in a container, has a cgroup of its own.
    pub fn describe() -> String {
        let how = match delegated::find() {
            Ok(delegated) => {
                let what = match delegated.controllers {
                    delegated::Controllers { memory: true, processes: true } => "memory and processes",
                    delegated::Controllers { memory: true, .. } => "memory",
                    delegated::Controllers { .. } => "processes",
                };
                let free = if delegated.controllers.processes { "" } else { unheld() };
                format!(
                    "{what} by cgroups in {}, the rest by resource limits{free}",
                    delegated.directory.display()
                )
            }
            Err(reason) => {
                format!("by resource limits only, of single processes{}: {reason}", unheld())
            }
        };
        match delegated::own_name() {
            Some(own) => format!(
                "{how} (so for a server in this command's cgroup {own}; one that runs as a unit or in a container has another)"
            ),
            None => how,
        }
    }

    /// Makes a group for the bounds that one can keep, and leaves the rest to resource limits. Blocks.
    pub(crate) fn bound(&self, limits: ProgramLimits) -> Bounded {
        let group = self.root(&limits).and_then(|root| {
            let made = root.make_group(&limits);
            made.map_err(
                |error| tracing::warn!(%error, "can't make a cgroup for a program; it gets resource limits"),
            )
            .ok()
        });
        let Some((directory, root)) = group else {
            return Bounded { group: None, rest: limits, enforced: by_process(&limits) };
        };
        let by = root.controllers();
        let mut rest = limits;
        let mut enforced = by_process(&limits).unwrap_or_default();
        if by.memory && rest.memory_bytes.take().is_some() {
            enforced.memory_bytes = Some(Enforcement::Cgroup);
        }
        if by.processes && rest.processes.take().is_some() {
            enforced.processes = Some(Enforcement::Cgroup);
        }
        Bounded { group: Some(Group { root, directory }), rest, enforced: Some(enforced) }
    }

    /// Has groups removed in which nothing runs any more, on a worker thread. Waits for nothing; cheap when there are none.
    /// Within a runtime.
    pub fn tidy(&self) {
        let Some(state) = &self.0 else { return };
        // Who holds it looks for a place, so there are no groups yet, or takes it, and tidies before it makes a group.
        let root = state.try_lock().and_then(|state| state.root());
        if let Some(root) = root.filter(|root| root.is_untidy()) {
            blocking::spawn(move || root.tidy()).detach();
        }
    }

    /// Where groups for these limits are made; none where they are not needed or can't be. Blocks.
    fn root(&self, limits: &ProgramLimits) -> Option<Arc<GroupRoot>> {
        if limits.memory_bytes.is_none() && limits.processes.is_none() {
            return None;
        }
        // Kept until it is known: the next start waits for the answer of the first.
        let mut state = self.0.as_ref()?.lock();
        if state.is_to_be_tried(Instant::now()) {
            *state = state.try_now();
        }
        state.root().filter(|root| root.can_keep(limits))
    }
}

impl State {
    fn root(&self) -> Option<Arc<GroupRoot>> {
        match self {
            Self::Ready(root) => Some(Arc::clone(root)),
            Self::Untried | Self::Nowhere { .. } | Self::Unusable => None,
        }
    }

    fn is_to_be_tried(&self, now: Instant) -> bool {
        match self {
            Self::Untried => true,
            Self::Nowhere { asked, .. } => now.saturating_duration_since(*asked) >= ASKED_AGAIN_AFTER,
            Self::Ready(_) | Self::Unusable => false,
        }
    }

    /// The state after looking for a place, and setting it up. Blocks.
    fn try_now(&self) -> Self {
        let delegated = match delegated::find() {
            Ok(delegated) => delegated,
            Err(reason) => {
                if !matches!(self, Self::Nowhere { reason: told, .. } if *told == reason) {
                    tracing::info!("limits are kept by resource limits, of single processes: {reason}");
                }
                return Self::Nowhere { reason, asked: Instant::now() };
            }
        };
        match GroupRoot::prepare(delegated) {
            Ok(root) => Self::Ready(Arc::new(root)),
            Err(error) => {
                tracing::info!("limits are kept by resource limits, of single processes: {error}");
                Self::Unusable
            }
        }
    }
}

/// What is told of limits that are resource limits.
fn by_process(limits: &ProgramLimits) -> Option<LimitsEnforced> {
    LimitsEnforced::by_process(limits, is_held_to_processes())
}

/// Whether `RLIMIT_NPROC` binds programs of this server. In doubt it does not: user 0 of a user namespace may be an ordinary
/// one outside, and a program need not keep the server's capabilities.
fn is_held_to_processes() -> bool {
    let freeing = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    let held = rustix::thread::capabilities(None);
    let is_free = held.map_or(true, |held| held.effective.intersects(freeing));
    !is_free && !rustix::process::geteuid().is_root() && !rustix::process::getuid().is_root()
}

/// In words, what no resource limit binds.
fn unheld() -> &'static str {
    if is_held_to_processes() { "" } else { " (which bind no administrator's number of processes)" }
}

impl Group {
    /// The file that a process writes `0` to, to come in.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// What the kernel has to tell of it.
    pub(crate) fn events(&self) -> Events {
        Events(self.directory.clone())
    }

    /// Kills everything in it at once. Nothing on kernels before 5.14, where the tree is walked anyway.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.directory.join("cgroup.kill"), "1");
    }
}

/// The kernel's account of a group, to be read without the group at hand.
#[derive(Debug)]
pub(crate) struct Events(PathBuf);

impl Events {
    /// Whether the kernel killed something in the group because there was no memory left within the group's own bound.
    pub(crate) fn had_no_memory(&self) -> bool {
        let read = |name| fs::read_to_string(self.0.join(name));
        let Ok(all) = read("memory.events") else { return false };
        // Not there before Linux 5.2, where the other one is of the group alone.
        let own = read("memory.events.local");
        ran_out(own.as_ref().unwrap_or(&all), &all)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.root.let_go(&self.directory);
    }
}

/// Whether the group met its own bound, and something in it or below was killed. Neither alone tells: a killer that ran since
/// the machine, or a group around, had no memory left counts as well.
fn ran_out(own: &str, all: &str) -> bool {
    let counts = |events: &str, name| {
        let mut words = events.lines().filter_map(|line| line.split_once(' '));
        words.any(|(word, count)| word == name && count.trim() != "0")
    };
    counts(own, "oom") && counts(all, "oom_kill")
}

/// Removes a group's directory. False while something runs in it.
fn remove(directory: &Path) -> bool {
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kills_for_the_groups_own_bound_count() {
        let events =
            |oom, kill| format!("low 0\nhigh 0\nmax 17\noom {oom}\noom_kill {kill}\noom_group_kill 1\n");
        for (own, all, expected) in [
            (events(1, 2), events(1, 2), true),
            // In a group below, for this one's bound.
            (events(1, 0), events(1, 2), true),
            // Refused, but nobody was killed.
            (events(3, 0), events(3, 0), false),
            // The machine had no memory left.
            (events(0, 1), events(0, 1), false),
            // A group below met a bound of its own.
            (events(0, 0), events(2, 2), false),
            (String::new(), String::new(), false),
        ] {
            assert_eq!(ran_out(&own, &all), expected, "{own}{all}");
        }
    }

    #[test]
    fn before_linux_5_2_the_one_account_is_of_the_group_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let events = Events(directory.path().to_owned());
        assert!(!events.had_no_memory(), "without the controller there is none");
        fs::write(directory.path().join("memory.events"), "max 9\noom 1\noom_kill 1\n").expect("written");
        assert!(events.had_no_memory());
        fs::write(directory.path().join("memory.events.local"), "max 0\noom 0\noom_kill 1\n")
            .expect("written");
        assert!(!events.had_no_memory());
    }

    #[tokio::test]
    async fn tidying_waits_for_nobody_who_looks_for_a_place() {
        let groups = Groups::when_needed();
        let state = Arc::clone(groups.0.as_ref().expect("to be tried"));
        let looking = state.lock();
        groups.tidy();
        drop(looking);
        groups.tidy();
        assert!(matches!(*state.lock(), State::Untried));
    }

    #[test]
    fn a_place_that_was_missing_is_looked_for_again_after_a_while() {
        let asked = Instant::now();
        let nowhere = State::Nowhere { reason: NoDelegatedGroup::Shared("/x".into()), asked };
        let before = ASKED_AGAIN_AFTER - Duration::from_nanos(1);
        for (state, at, again) in [
            (&State::Untried, asked, true),
            (&State::Unusable, asked + ASKED_AGAIN_AFTER, false),
            (&nowhere, asked, false),
            (&nowhere, asked + before, false),
            (&nowhere, asked + ASKED_AGAIN_AFTER, true),
        ] {
            assert_eq!(state.is_to_be_tried(at), again, "{state:?}");
        }
    }

    #[test]
    fn without_groups_everything_is_left_to_resource_limits() {
        let limits = ProgramLimits {
            memory_bytes: Some(1),
            processes: Some(3),
            cpu_seconds: Some(2),
            ..Default::default()
        };
        let bounded = Groups::default().bound(limits);
        assert!(bounded.group.is_none());
        assert_eq!(bounded.rest, limits);
        let enforced = bounded.enforced.expect("there are limits");
        assert_eq!(enforced.memory_bytes, Some(Enforcement::Rlimit));
        assert_eq!((enforced.cpu_seconds, enforced.open_files), (Some(Enforcement::Rlimit), None));
        let claimed = enforced.processes.is_some();
        assert!(!claimed || !rustix::process::getuid().is_root(), "the kernel does not hold root to it");
        assert_eq!(claimed, is_held_to_processes());
    }

    #[test]
    fn a_limit_that_nothing_holds_is_not_claimed() {
        let limits = ProgramLimits { processes: Some(3), ..Default::default() };
        for (holds, expected) in [(true, Some(Enforcement::Rlimit)), (false, None)] {
            let enforced = LimitsEnforced::by_process(&limits, holds).expect("there is a limit");
            assert_eq!(enforced, LimitsEnforced { processes: expected, ..Default::default() });
        }
        assert_eq!(LimitsEnforced::by_process(&ProgramLimits::default(), true), None);
    }
}
