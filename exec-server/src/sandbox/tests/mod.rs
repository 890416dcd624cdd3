//! Policies by table and by random profiles.

mod controls;
mod globs;
mod lookups;
mod old_forms;
mod promises;
mod properties;
mod situations;
mod tables;
mod wire;

use std::path::{Path, PathBuf};

use codex_exec_protocol::sandbox::Sandbox;
use serde_json::{Value, json};

use super::{Access, Files, Policy, PolicyError, Rules, Surroundings, resolve};

/// A directory with a real path, removed at the end.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().expect("it exists")
    }
    fn at(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }
    fn directory(&self, below: &str) -> &Self {
        std::fs::create_dir_all(self.at(below)).expect("a directory");
        self
    }
    fn file(&self, below: &str, text: &str) -> &Self {
        let path = self.at(below);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
        self
    }
    fn link(&self, below: &str, text: &str) -> &Self {
        std::os::unix::fs::symlink(text, self.at(below)).expect("a link");
        self
    }
    /// Puts the root's path for `@` in every text.
    fn fill(&self, value: &Value) -> Value {
        let root = self.root();
        serde_json::from_str(&value.to_string().replace('@', root.to_str().expect("text"))).expect("JSON")
    }
    fn sandbox(&self, entries: &Value, more: &Value) -> Sandbox {
        let mut sandbox = json!({
            "permissions": {"type": "managed", "network": "restricted",
                "file_system": {"type": "restricted", "entries": self.fill(entries)}},
            "windowsSandboxLevel": "disabled",
        });
        let more = self.fill(more);
        sandbox.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        serde_json::from_value(sandbox).expect("it decodes")
    }
    fn try_resolve(&self, entries: &Value, more: &Value) -> Result<Policy, PolicyError> {
        let sandbox = self.sandbox(entries, more);
        resolve(&sandbox, &Surroundings { tmpdir: Some(self.at("tmp")), ..Surroundings::default() })
    }
    fn rules(&self, entries: &Value, more: &Value) -> Rules {
        match self.try_resolve(entries, more).unwrap_or_else(|error| panic!("{entries}: {error}")).files {
            Files::Rules(rules) => rules,
            Files::All => panic!("{entries} restricts nothing"),
        }
    }
}

fn path(path: &str, access: &str) -> Value {
    json!({"path": {"type": "path", "path": path}, "access": access})
}

fn special(kind: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": kind}}, "access": access})
}

fn sub(subpath: &str, access: &str) -> Value {
    json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": subpath}}, "access": access})
}

fn glob(pattern: &str) -> Value {
    json!({"path": {"type": "glob_pattern", "pattern": pattern}, "access": "deny"})
}

fn at(rules: &Rules, path: impl AsRef<Path>) -> Access {
    rules.access_at(path.as_ref())
}
