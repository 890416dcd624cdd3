//! The kernel's own file systems below what may be written.

use serde_json::json;

use super::*;
use crate::sandbox::lookups::Lookups;
use crate::sandbox::resolve::resolve_by;

#[test]
fn the_kernels_controls_are_read_only_unless_a_rule_names_them() {
    use Access::{Denied, Hidden, Read, Write};
    let place = Place::new();
    place.directory("w/chroot/proc/sys").directory("w/chroot/etc").directory("other");
    let kernel = ["/proc", "/sys", "/sys/fs/cgroup"].map(PathBuf::from).into_iter();
    let kernel: Vec<PathBuf> = kernel.chain([place.at("w/chroot/proc")]).collect();
    let (wide, deny) = (special("root", "write"), path("@/other", "deny"));
    let named = |path_: &str| json!([wide, deny, path(path_, "write")]);
    // Entries, and then: /proc/sys, /sys/power, /sys/fs/cgroup/a, w/chroot/proc/sys, w/chroot/etc.
    for (entries, expected) in [
        (json!([wide, deny]), [Read, Read, Read, Read, Write]),
        (named("/sys/fs/cgroup"), [Read, Read, Write, Read, Write]),
        (named("/sys"), [Read, Write, Write, Read, Write]),
        (named("/proc/sys/net"), [Read, Read, Read, Read, Write]),
        (named("/proc"), [Write, Read, Read, Read, Write]),
        (named("@/w"), [Read, Read, Read, Read, Write]),
        (named("@/w/chroot/proc"), [Read, Read, Read, Write, Write]),
        (json!([special("root", "read"), path("@/w", "write")]), [Read, Read, Read, Read, Write]),
        (json!([path("@/w", "write")]), [Hidden, Hidden, Hidden, Read, Write]),
        (json!([wide, path("/sys", "deny")]), [Read, Denied, Denied, Read, Write]),
    ] {
        let sandbox = place.sandbox(&entries, &json!({"cwd": "@/w"}));
        let mut lookups = Lookups::default();
        let policy =
            resolve_by(&sandbox, &Surroundings::default(), &kernel, &mut lookups).expect("it resolves");
        let proc = place.at("w/chroot/proc/sys");
        let paths = ["/proc/sys".into(), "/sys/power".into(), "/sys/fs/cgroup/a".into(), proc];
        let paths = paths.into_iter().chain([place.at("w/chroot/etc")]);
        let got: Vec<Access> = paths.map(|path: PathBuf| policy.files.access_at(&path)).collect();
        assert_eq!(got, expected, "{entries}");
    }
    let sandbox = place.sandbox(&json!([wide]), &json!({}));
    let all = resolve_by(&sandbox, &Surroundings::default(), &kernel, &mut Lookups::default());
    assert_eq!(all.expect("it resolves").files, Files::All, "nothing is restricted, so nothing is kept");
}
