//! Tests of every clause of section 10, on real files.

mod files;
mod handles;
mod trees;
mod watches;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PathMethod, ToOpen, WholeFile, content, piece, read_piece, write};
use crate::Limits;
use crate::protocol::encode::Empty;
use crate::protocol::filesystem::{ReadFileParams, ReadFileResult, WriteFileParams};
use crate::protocol::{RpcError, WireEncode, WirePath};

/// A directory with the fixtures that the recorded conversations use.
pub(super) struct Fixture {
    pub(super) dir: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        std::fs::write(at.join("a.txt"), "hello\n").unwrap();
        std::fs::create_dir_all(at.join("sub/deep")).unwrap();
        std::fs::write(at.join("sub/x"), "x").unwrap();
        std::os::unix::fs::symlink("a.txt", at.join("link")).unwrap();
        std::os::unix::fs::symlink("sub", at.join("dlink")).unwrap();
        std::os::unix::fs::symlink("nowhere", at.join("dangling")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        Self { dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A request's params: `path` is a name in the fixture, unless it is absolute.
    pub(super) fn params<P: serde::de::DeserializeOwned>(&self, mut members: Value) -> P {
        for key in ["path", "sourcePath", "destinationPath", "present"] {
            if let Some(Value::String(name)) = members.get_mut(key) {
                *name = WirePath::uri_of(&self.path(name));
            }
        }
        if let Some(Value::Array(paths)) = members.get_mut("missing") {
            for path in paths {
                *path = json!(WirePath::uri_of(&self.path(path.as_str().unwrap())));
            }
        }
        serde_json::from_value(members).unwrap()
    }
}

/// An answer as a table can show it: JSON, or the code.
pub(super) fn shown<R: WireEncode>(result: Result<R, RpcError>) -> Value {
    match result {
        Ok(result) => {
            let mut out = Vec::new();
            result.encode(&mut out);
            serde_json::from_slice(&out).unwrap()
        }
        Err(error) => json!(error.code.0),
    }
}

pub(super) fn limits() -> Limits {
    Limits::default()
}

/// Does a method under the usual limits.
pub(super) fn run<M: PathMethod>(params: &M::Params) -> Result<M::Result, RpcError> {
    M::run(params, &limits())
}

/// `fs/readFile`, in one step.
pub(super) fn read_file(params: &ReadFileParams, limits: &Limits) -> Result<ReadFileResult, RpcError> {
    let (file, size) = ToOpen::from(params).open()?;
    if let Some(most) = piece(params, limits)? {
        return read_piece(&file, size, params.offset.unwrap_or(0), most);
    }
    let mut file = WholeFile::new(file, size, limits)?;
    loop {
        if let Some(result) = file.read()? {
            return Ok(result);
        }
    }
}

/// `fs/writeFile`, in one step.
pub(super) fn write_file(params: &WriteFileParams) -> Result<Empty, RpcError> {
    let content = content(params)?;
    write(params, ToOpen::from(params).open()?.0, &content)
}

/// All names below, with content or link target: to see that nothing else has changed.
pub(super) fn snapshot(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            let what = if kind.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()
            } else if kind.is_dir() {
                queue.push(path.clone());
                "directory".to_owned()
            } else {
                "special".to_owned()
            };
            found.push((path.strip_prefix(root).unwrap().to_path_buf(), what));
        }
    }
    found.sort();
    found
}
