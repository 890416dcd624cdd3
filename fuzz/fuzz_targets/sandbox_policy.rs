//! Sandbox policies (protocol.md 14): whatever a profile holds, nothing is open that no entry opens, and another prohibition never
//! makes a policy wider.
#![cfg_attr(fuzzing, no_main)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use codex_exec_protocol::sandbox::Sandbox;
use codex_exec_server::sandbox::{Access, Files, Surroundings, resolve, unwrap};
use codex_fuzz::target;
use serde_json::{Value, json};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    entries: Vec<Rule<'a>>,
    more: Rule<'a>,
    depth: Option<u8>,
    roots: Option<Vec<u8>>,
    older: Vec<&'a str>,
}

#[derive(Debug, Arbitrary)]
struct Rule<'a> {
    place: Place<'a>,
    access: u8,
    skip: bool,
}

#[derive(Debug, Arbitrary)]
enum Place<'a> {
    Known(u8),
    Below(u8, &'a str),
    Glob(&'a str),
    Special(u8, Option<&'a str>),
}

/// What is there, and what is asked about; links lead around inside, and outside.
const NAMES: [&str; 14] = [
    "a",
    "a/b",
    "a/b/c.txt",
    "a/.git",
    "a/.git/config",
    "a/.codex",
    "link",
    "link/b",
    "out",
    "loop",
    "missing/x",
    "a/new",
    "é",
    "a/b/.agents",
];

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = codex_fuzz::directory();
    let at = |name: &str| dir.path().join(name);
    for name in ["a/b", "a/.git", "é"] {
        std::fs::create_dir_all(at(name)).expect("a directory");
    }
    for name in ["a/b/c.txt", "a/.git/config"] {
        std::fs::write(at(name), "x").expect("a file");
    }
    for (name, text) in [("link", "a"), ("out", "/etc"), ("loop", "loop")] {
        std::os::unix::fs::symlink(text, at(name)).expect("a link");
    }
    dir
});

fn known(number: u8) -> PathBuf {
    DIR.path().join(NAMES[usize::from(number) % NAMES.len()])
}

impl Rule<'_> {
    fn entry(&self, access: Option<&str>) -> Value {
        let own = ["read", "write", "deny", "none", "Read"][usize::from(self.access) % 5];
        let path = match &self.place {
            Place::Known(number) => json!({ "type": "path", "path": known(*number) }),
            Place::Below(number, text) => {
                json!({ "type": "path", "path": known(*number).join(text.trim_start_matches('/')) })
            }
            // The whole disk would be scanned for one that begins at the root.
            Place::Glob(text) => json!({ "type": "glob_pattern", "pattern": text.trim_start_matches('/') }),
            Place::Special(kind, below) => {
                let kinds = [
                    "minimal",
                    "current_working_directory",
                    "project_roots",
                    "tmpdir",
                    "slash_tmp",
                    "unknown",
                    "root",
                ];
                json!({ "type": "special", "value": { "kind": kinds[usize::from(*kind) % kinds.len()], "subpath": below, "path": "x" } })
            }
        };
        let mut entry = json!({ "path": path, "access": access.unwrap_or(own) });
        if self.skip {
            entry["missing_path_behavior"] = "skip".into();
        }
        entry
    }
}

fn policy(input: &Input<'_>, entries: &[Value]) -> Option<Files> {
    let mut sandbox = json!({
        "permissions": {
            "type": "managed", "network": "restricted",
            "file_system": { "type": "restricted", "entries": entries, "glob_scan_max_depth": input.depth },
        },
        "cwd": DIR.path(),
        "windowsSandboxLevel": "disabled",
    });
    if let Some(roots) = &input.roots {
        sandbox["workspaceRoots"] = roots.iter().take(4).map(|root| json!(known(*root))).collect();
    }
    let sandbox: Sandbox = serde_json::from_value(sandbox).ok()?;
    let around = Surroundings { tmpdir: Some(DIR.path().join("a/b")), ..Surroundings::default() };
    Some(resolve(&sandbox, &around).ok()?.files)
}

/// Real paths only: the kernel follows links before it asks.
fn asked() -> impl Iterator<Item = PathBuf> {
    let below = NAMES.iter().map(|name| DIR.path().join(name));
    let fixed = ["/", "/etc/passwd", "/tmp", "/home", "/root/x", "/dev/shm"].map(PathBuf::from);
    below.filter(|path| !path.is_symlink() && !path.starts_with(DIR.path().join("link"))).chain(fixed)
}

fn width(access: Access) -> u8 {
    match access {
        Access::Hidden | Access::Denied => 0,
        Access::Read => 1,
        Access::Write => 2,
    }
}

fn system(path: &Path) -> bool {
    path.starts_with("/etc") || path.starts_with("/usr")
}

target!(|input: Input<'_>| {
    let older: Vec<String> = input.older.iter().map(|text| (*text).to_owned()).collect();
    let _ = unwrap(&older);
    let whole: Vec<String> = ["/x/codex-linux-sandbox".to_owned()].into_iter().chain(older).collect();
    let _ = unwrap(&whole);

    let entries: Vec<Value> = input.entries.iter().take(16).map(|rule| rule.entry(None)).collect();
    let Some(files) = policy(&input, &entries) else { return };
    let grants =
        |words: &[&str]| entries.iter().any(|entry| words.iter().any(|word| entry["access"] == *word));
    for path in asked() {
        let width = width(files.access_at(&path));
        assert!(width < 2 || grants(&["write"]), "{path:?} is writable, and no entry writes: {entries:?}");
        assert!(
            width < 1 || system(&path) || grants(&["read", "write"]),
            "{path:?} is readable: {entries:?}"
        );
    }
    // One prohibition more, at either end.
    for access in ["deny", "none"] {
        let more = input.more.entry(Some(access));
        for at in [0, entries.len()] {
            let mut with = entries.clone();
            with.insert(at, more.clone());
            let Some(narrower) = policy(&input, &with) else { continue };
            for path in asked() {
                let (before, after) = (files.access_at(&path), narrower.access_at(&path));
                // A root that was readable brings no system directories of its own.
                assert!(
                    width(after) <= width(before) || system(&path),
                    "{more} opens {path:?} from {before:?} to {after:?} beside {entries:?}"
                );
            }
            if let (Place::Known(number), false) = (&input.more.place, input.more.skip)
                && let Ok(real) = known(*number).canonicalize()
            {
                assert_eq!(width(narrower.access_at(&real)), 0, "{real:?} is denied: {with:?}");
            }
        }
    }
});
