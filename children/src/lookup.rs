//! Finds the file that a program's name stands for, as `execvp` does, but in the child's `PATH` and directory.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

/// Searched when the child has no `PATH` (8.1).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file to execute, for a process whose directory is `cwd` when it does so.
///
/// A name with `/` is taken as it is. Others are searched in `PATH`, where an empty entry is `cwd` and relative ones
/// start from it: the first executable file wins; if there is none, a file that may not be executed makes the
/// error `EACCES`, else it is `ENOENT`.
///
/// # Errors
/// When there is none that may be executed.
pub fn find<'a>(name: &'a OsStr, cwd: &Path, env: &[(OsString, OsString)]) -> io::Result<Cow<'a, OsStr>> {
    if name.as_bytes().contains(&b'/') {
        return Ok(Cow::Borrowed(name));
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut answer = Errno::NOENT;
    for entry in path.as_bytes().split(|byte| *byte == b':') {
        let candidate = cwd.join(OsStr::from_bytes(entry)).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(Cow::Owned(candidate.into_os_string())),
            Err(Errno::ACCESS) => answer = Errno::ACCESS,
            // The file is missing, or we may not look at it: the next entry may have one.
            Err(_) => {}
        }
    }
    Err(answer.into())
}

/// Whether there is a file at this path that may be executed, as far as can be told without doing it.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    executable(path).is_ok()
}

/// Whether the file may be executed, as far as can be told without doing it: `EACCES` for directories and missing permission.
fn executable(path: &Path) -> Result<(), Errno> {
    rustix::fs::access(path, Access::EXEC_OK)?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode);
    if kind.is_file() { Ok(()) } else { Err(Errno::ACCESS) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, "x").expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn names_are_searched_as_execvp_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        file(&root.join("a/tool"), 0o644);
        file(&root.join("b/tool"), 0o755);
        file(&root.join("b/here"), 0o755);
        file(&root.join("here"), 0o755);
        file(&root.join("a/locked"), 0o644);
        fs::create_dir(root.join("a/folder")).expect("a directory");
        let absolute = |text: &str| text.replace('@', root.to_str().expect("text"));
        for (name, path, expected) in [
            ("tool", "@/a:@/b", Ok("@/b/tool")),
            ("tool", "@/none:@/here:a:b", Ok("@/b/tool")),
            ("here", "", Ok("@/here")),
            ("here", ":@/b", Ok("@/here")),
            ("here", "@/b:", Ok("@/b/here")),
            ("locked", "@/a:@/b", Err(libc::EACCES)),
            ("folder", "@/a", Err(libc::EACCES)),
            ("nothing", "@/a:@/b", Err(libc::ENOENT)),
            ("./tool", "@/b", Ok("./tool")),
            ("b/tool", "", Ok("b/tool")),
        ] {
            let env = [(OsString::from("PATH"), OsString::from(absolute(path)))];
            let got =
                find(OsStr::new(name), root, &env).map_err(|error| error.raw_os_error().expect("an errno"));
            let got = got.map(|found| found.to_str().expect("text").to_owned());
            assert_eq!(got, expected.map(absolute), "{name} in {path}");
        }
    }

    #[test]
    fn without_a_path_the_usual_directories_are_searched() {
        let found = find(OsStr::new("env"), Path::new("/"), &[]).expect("env is somewhere");
        assert!(found.as_bytes().ends_with(b"bin/env"), "{found:?}");
    }
}
