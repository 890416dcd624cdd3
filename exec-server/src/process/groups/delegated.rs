//! Finds the control group whose children the server may make, and why there may be none. Changes nothing.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use codex_children::keeper;
use codex_children::tree::has_stranger;
use rustix::fs::Access;

/// Where a server moves itself, with its pid behind.
pub(super) const SERVER: &str = "codex-server.";
/// Looks at who is in the server's group before it counts as shared. A safeguard, far from any real use.
const MOST_LOOKS: usize = 5;

/// Where the groups of programs can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DelegatedGroup {
    /// The directory of the group, below the mount of its hierarchy.
    pub(super) directory: PathBuf,
    /// The server is in it, so it has to move into a child of its own before other children can be given bounds.
    pub(super) must_move: bool,
    /// Which bounds it can give.
    pub(super) controllers: Controllers,
    /// Where a server before this one, below the same keeper, has moved both.
    pub(super) moved: Option<PathBuf>,
}

/// The controllers that bounds are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Controllers {
    pub(super) memory: bool,
    pub(super) processes: bool,
}

/// Why there is none, with what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoDelegatedGroup {
    #[error("no cgroup hierarchy of version 2 is mounted")]
    NoHierarchy,
    #[error(
        "{0} has neither the memory nor the pids controller; on a machine with both versions, version 1 has them"
    )]
    NoControllers(String),
    #[error(
        "the server's cgroup {0} can't be written; delegate it to the server's user (systemd: Delegate=yes)"
    )]
    Closed(String),
    #[error("systemd manages the server's cgroup {0}; let it delegate that (Delegate=yes in the unit)")]
    NotDelegated(String),
    #[error(
        "other programs run in the server's cgroup {0} too; start the server in one of its own \
         (systemd-run --user -p Delegate=yes, or as a container's first process)"
    )]
    Shared(String),
    #[error("the server's cgroup can't be found: {0}")]
    Unreadable(String),
}

impl Controllers {
    /// Those in a list as the kernel writes it.
    pub(super) fn in_list(list: &str) -> Self {
        let has = |name| list.split_ascii_whitespace().any(|word| word == name);
        Self { memory: has("memory"), processes: has("pids") }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The words that switch them on (`+`) or off (`-`) for children.
    pub(super) fn switch(self, sign: char) -> String {
        let words = [(self.memory, "memory"), (self.processes, "pids")];
        let chosen: Vec<String> =
            words.iter().filter(|(on, _)| *on).map(|(_, name)| format!("{sign}{name}")).collect();
        chosen.join(" ")
    }
}

/// This process's group, as the kernel names it.
pub(super) fn own_name() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The server's own group if its children may be made there, or the one around it if that was handed over.
pub(super) fn find() -> Result<DelegatedGroup, NoDelegatedGroup> {
    let unreadable = |error: io::Error| NoDelegatedGroup::Unreadable(error.to_string());
    let own = own_directory(
        &fs::read_to_string("/proc/self/cgroup").map_err(unreadable)?,
        &fs::read("/proc/self/mountinfo").map_err(unreadable)?,
    )?;
    let of_all = !own.join("cgroup.type").exists();
    let managed = Path::new("/run/systemd/system").is_dir() && !of_all;
    if let Some(around) = own.parent().filter(|around| made_way(&own) && empty(around)) {
        let delegated = delegated_at(around, false, managed)?;
        return Ok(DelegatedGroup { moved: Some(own), ..delegated });
    }
    let mut last = match delegated_at(&own, !of_all, managed) {
        Ok(delegated) if !delegated.must_move => return Ok(delegated),
        Ok(delegated) => match strangers(|| members(&delegated.directory)) {
            Ok(false) => return Ok(delegated),
            Ok(true) => NoDelegatedGroup::Shared(shown(&own)),
            Err(error) => unreadable(error),
        },
        Err(reason) => reason,
    };
    // A unit with DelegateSubgroup= starts in a child of what it was given.
    if let Some(around) = own.parent().filter(|around| is_delegated(around)) {
        match delegated_at(around, false, managed) {
            Ok(delegated) if empty(around) => return Ok(delegated),
            Ok(_) => last = NoDelegatedGroup::Shared(shown(around)),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

/// Whether a server below the same keeper has moved to this group and died.
fn made_way(own: &Path) -> bool {
    keeper::is_above() && own.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SERVER))
}

fn delegated_at(
    directory: &Path,
    must_move: bool,
    managed: bool,
) -> Result<DelegatedGroup, NoDelegatedGroup> {
    let list = fs::read_to_string(directory.join("cgroup.controllers"))
        .map_err(|error| NoDelegatedGroup::Unreadable(format!("{}: {error}", directory.display())))?;
    let controllers = Controllers::in_list(&list);
    if controllers.is_empty() {
        return Err(NoDelegatedGroup::NoControllers(shown(directory)));
    }
    let writable = |name: &str| rustix::fs::access(directory.join(name), Access::WRITE_OK).is_ok();
    if !["", "cgroup.procs", "cgroup.subtree_control"].into_iter().all(writable) {
        return Err(NoDelegatedGroup::Closed(shown(directory)));
    }
    if managed && !is_delegated(directory) {
        return Err(NoDelegatedGroup::NotDelegated(shown(directory)));
    }
    Ok(DelegatedGroup { directory: directory.to_owned(), must_move, controllers, moved: None })
}

fn shown(directory: &Path) -> String {
    directory.display().to_string()
}

/// systemd marks what it handed over; an ordinary user's own directory was handed over too.
fn is_delegated(directory: &Path) -> bool {
    let marked = ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(directory, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    });
    let user = rustix::process::geteuid();
    marked || (!user.is_root() && fs::metadata(directory).is_ok_and(|found| found.uid() == user.as_raw()))
}

fn empty(directory: &Path) -> bool {
    members(directory).is_ok_and(|members| members.is_empty())
}

/// The processes in a group. One that this process can't see counts as 0.
pub(super) fn members(directory: &Path) -> io::Result<Vec<i32>> {
    let list = fs::read_to_string(directory.join("cgroup.procs"))?;
    Ok(list.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
}

/// Whether somebody else than this process, its keeper and its descendants is among the members, which are read anew in each round.
fn strangers(mut members: impl FnMut() -> io::Result<Vec<i32>>) -> io::Result<bool> {
    // A look at `/proc` takes a while: it misses a child whose parent dies meanwhile, and a number may go to somebody
    // else. A stranger who stays is there in every round.
    for _ in 0..MOST_LOOKS {
        // Members first: our own children that are born in between are seen, but were not asked about.
        let members = members()?;
        if !has_stranger(&members)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The directory of this process's group, from what the kernel says of its group and of the mounts.
fn own_directory(groups: &str, mounts: &[u8]) -> Result<PathBuf, NoDelegatedGroup> {
    let path =
        groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or(NoDelegatedGroup::NoHierarchy)?;
    let path = Path::new(path);
    let mut outside = false;
    for line in mounts.split(|byte| *byte == b'\n') {
        let Some((root, at)) = hierarchy(line) else { continue };
        match path.strip_prefix(&root) {
            // Without a slash behind the root's own name.
            Ok(below) => return Ok(at.join(below).components().collect()),
            Err(_) => outside = true,
        }
    }
    Err(if outside {
        NoDelegatedGroup::Unreadable(format!("{} is in no mounted part of the hierarchy", path.display()))
    } else {
        NoDelegatedGroup::NoHierarchy
    })
}

/// What of the hierarchy a line of `mountinfo` mounts, and where; none for other file systems.
fn hierarchy(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut words = line.split(|byte| *byte == b' ');
    let (root, at) = (words.nth(3)?, words.next()?);
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    (kind == b"cgroup2").then(|| (unescaped(root), unescaped(at)))
}

/// The kernel writes blanks and the like as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let code =
            after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                plain.push(code);
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_directory_is_found_by_group_and_mount() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "41 33 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      42 33 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let part = "30 24 0:26 /docker/1 /a\\040b/cg rw - cgroup2 cgroup rw\n";
        let found = |groups: &str, mounts: &str| own_directory(groups, mounts.as_bytes());
        for (groups, mounts, expected) in [
            ("0::/user.slice/x.scope\n", unified, "/sys/fs/cgroup/user.slice/x.scope"),
            ("8:pids:/\n0::/\n", hybrid, "/sys/fs/cgroup/unified"),
            ("0::/docker/1/in\n", part, "/a b/cg/in"),
        ] {
            assert_eq!(found(groups, mounts), Ok(expected.into()), "{groups}");
        }
        assert_eq!(found("8:pids:/\n", unified), Err(NoDelegatedGroup::NoHierarchy));
        assert_eq!(
            found("0::/\n", "1 2 0:3 / /sys rw - sysfs sysfs rw\n"),
            Err(NoDelegatedGroup::NoHierarchy)
        );
        assert!(matches!(found("0::/../other\n", part), Err(NoDelegatedGroup::Unreadable(_))));
    }

    #[test]
    fn controllers_are_read_and_switched_by_name() {
        let all = Controllers::in_list("cpuset cpu io memory hugetlb pids\n");
        assert_eq!(all, Controllers { memory: true, processes: true });
        assert_eq!(all.switch('+'), "+memory +pids");
        assert_eq!(Controllers::in_list("pids").switch('-'), "-pids");
        assert!(Controllers::in_list("memory_recursiveprot\n").is_empty());
    }

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("1000").spawn().expect("it starts")
    }

    #[test]
    fn children_that_are_born_or_die_during_the_look_are_no_strangers() {
        let mut children = Vec::new();
        let mut looks = 0;
        let look = || {
            looks += 1;
            let mut dead = sleeper();
            dead.kill().and_then(|()| dead.wait()).expect("it ends");
            children.push(sleeper());
            let listed = [std::process::id(), dead.id(), children.last().expect("just started").id()];
            Ok(listed.map(u32::cast_signed).into())
        };
        assert!(!strangers(look).expect("readable"));
        for mut child in children {
            child.kill().and_then(|()| child.wait()).expect("it ends");
        }
        assert_eq!(looks, 1);
    }

    #[test]
    fn who_is_no_descendant_or_out_of_sight_is_a_stranger() {
        let parent = rustix::process::getppid().expect("tests have a parent").as_raw_pid();
        for stranger in [parent, 0] {
            let mut looks = 0;
            let look = || {
                looks += 1;
                Ok(vec![rustix::process::getpid().as_raw_pid(), stranger])
            };
            assert!(strangers(look).expect("readable"), "{stranger}");
            assert_eq!(looks, MOST_LOOKS);
        }
        let mut transient = vec![vec![], vec![parent], vec![parent]];
        assert!(!strangers(|| Ok(transient.pop().expect("asked no more often"))).expect("readable"));
    }
}
