//! Where a view needs mounts, and which directories have to stay where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::sandbox::policy::{Access, Region};

/// Shared memory, of which every program has one of its own.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// What is mounted at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mount {
    /// What is there, as it is.
    Same,
    /// What is there, read-only.
    ReadOnly,
    /// Something empty, with places for what is mounted in there.
    Cover(Vec<PathBuf>),
}

/// What a view is built from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// By path, and so parents first.
    pub(super) mounts: BTreeMap<PathBuf, Mount>,
    /// Directories between something writable and what is closed in there: who renames one takes the closed along, and may
    /// put another in its place.
    pub(super) pinned: BTreeSet<PathBuf>,
}

impl Layout {
    /// For regions, parents first, in a root with access `base`.
    pub(super) fn of(base: Access, regions: &[Region]) -> Self {
        let mut layout = Self::default();
        let mut open: Vec<&Region> = Vec::new();
        for region in regions {
            while open.last().is_some_and(|outer| !region.path.starts_with(&outer.path)) {
                open.pop();
            }
            let around = open.last();
            if let Some(outer) = around
                && let Some(Mount::Cover(places)) = layout.mounts.get_mut(&outer.path)
            {
                places.push(region.path.clone());
            }
            if around.map_or(base, |outer| outer.access) == Access::Write {
                let top = around.map_or(Path::new("/"), |outer| &outer.path);
                let between = region.path.ancestors().skip(1).take_while(|path| *path != top);
                layout.pinned.extend(between.map(Path::to_owned));
            }
            layout.mounts.insert(region.path.clone(), mount(region.access));
            open.push(region);
        }
        layout
    }

    /// Adds a device, unless something around it is covered.
    pub(super) fn add_device(&mut self, device: PathBuf) {
        let around = device.ancestors().find_map(|path| self.mounts.get(path));
        if !matches!(around, Some(Mount::Cover(_))) {
            self.mounts.entry(device).or_insert(Mount::ReadOnly);
        }
    }

    /// Leaves what is granted of the machine's shared memory where it was, in the program's own: each name directly in there
    /// that a mount or the working directory is below.
    pub(super) fn keep_shared_memory(&mut self, base: Access, regions: &[Region], cwd: Option<&Path>) {
        let memory = Path::new(SHARED_MEMORY);
        if self.mounts.contains_key(memory) {
            return;
        }
        let top = |path: &Path| Some(memory.join(path.strip_prefix(memory).ok()?.iter().next()?));
        let tops: BTreeSet<PathBuf> =
            self.mounts.keys().map(PathBuf::as_path).chain(cwd).filter_map(top).collect();
        for top in tops {
            let around = regions.iter().rev().find(|region| top.starts_with(&region.path));
            let access = around.map_or(base, |region| region.access);
            if !access.is_none() {
                self.mounts.entry(top).or_insert(mount(access));
            }
        }
    }
}

fn mount(access: Access) -> Mount {
    match access {
        Access::Write => Mount::Same,
        Access::Read => Mount::ReadOnly,
        Access::Hidden | Access::Denied => Mount::Cover(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(of: &[(&str, Access)]) -> Vec<Region> {
        of.iter().map(|(path, access)| Region { path: path.into(), access: *access }).collect()
    }

    #[test]
    fn what_is_granted_in_a_cover_has_a_place_there_and_ways_to_what_is_closed_are_pinned() {
        use Access::{Denied, Read, Write};
        let cover = |places: &[&str]| Mount::Cover(places.iter().map(PathBuf::from).collect());
        for (base, of, mounts, pinned) in [
            (
                Read,
                vec![("/h", Denied), ("/h/u/p", Write), ("/h/u/p/a/.git", Read), ("/h/v", Read)],
                vec![
                    ("/h", cover(&["/h/u/p", "/h/v"])),
                    ("/h/u/p", Mount::Same),
                    ("/h/u/p/a/.git", Mount::ReadOnly),
                    ("/h/v", Mount::ReadOnly),
                ],
                vec!["/h/u/p/a"],
            ),
            (Write, vec![("/a/b/c", Denied)], vec![("/a/b/c", cover(&[]))], vec!["/a", "/a/b"]),
            (
                Read,
                vec![
                    ("/w", Write),
                    ("/w/.codex", Read),
                    ("/w/.codex/tmp", Write),
                    ("/w/.codex/tmp/x/y", Denied),
                ],
                vec![
                    ("/w", Mount::Same),
                    ("/w/.codex", Mount::ReadOnly),
                    ("/w/.codex/tmp", Mount::Same),
                    ("/w/.codex/tmp/x/y", cover(&[])),
                ],
                vec!["/w/.codex/tmp/x"],
            ),
        ] {
            let layout = Layout::of(base, &regions(&of));
            let mounts = mounts.into_iter().map(|(path, mount)| (path.into(), mount)).collect();
            assert_eq!(layout, Layout { mounts, pinned: pinned.into_iter().map(PathBuf::from).collect() });
        }
    }

    #[test]
    fn only_names_in_use_stay_in_shared_memory() {
        let regions = regions(&[("/dev/shm/w/a", Access::Write), ("/dev/shm/d", Access::Denied)]);
        let mut layout = Layout::of(Access::Read, &regions);
        layout.keep_shared_memory(Access::Read, &regions, Some(Path::new("/dev/shm/c/sub")));
        let shown: Vec<_> =
            layout.mounts.into_iter().map(|(path, mount)| (path, mount == Mount::ReadOnly)).collect();
        let expected =
            [("/dev/shm/c", true), ("/dev/shm/d", false), ("/dev/shm/w", true), ("/dev/shm/w/a", false)];
        assert_eq!(shown, expected.map(|(path, read_only)| (PathBuf::from(path), read_only)));
    }
}
