//! Describes this machine for `environment/info` and `initialize` (section 9.1).

use std::path::{Path, PathBuf};

use codex_exec_protocol::WirePath;
use codex_exec_protocol::environment::{Capabilities, EnvironmentInfo, Shell};
use sha2::{Digest, Sha256};

/// What only the binary may find out: the library reads no environment.
#[derive(Debug, Clone)]
pub struct MachineFacts {
    /// Working directory of the server, absolute.
    pub cwd: PathBuf,
    /// Home directory of the server's user; left out unless it is absolute.
    pub home: Option<PathBuf>,
    /// The shell that clients are to use, as [`crate::process::login_shell`] finds it; none or empty means `/bin/sh`.
    pub shell: Option<PathBuf>,
    /// The temporary directory; a relative one starts at `cwd`.
    pub temp_dir: Option<PathBuf>,
    /// Directories for temporary files that the server's environment names; relative ones start at `cwd`.
    pub temporary_directories: Vec<PathBuf>,
    /// Directories that clients may put in front of `PATH`; those that are not absolute are left out.
    pub prepend_path_dirs: Vec<PathBuf>,
    /// The version of this program, as `initialize` tells it.
    pub version: String,
}

/// The machine as clients see it. Announces only the capabilities that work.
pub fn describe(facts: MachineFacts) -> EnvironmentInfo {
    EnvironmentInfo {
        shell: shell(facts.shell.as_deref()),
        provider_id: Some(provider_id(&facts.version)),
        executor_version: Some(facts.version),
        user_home_dir: whole(facts.home),
        platform_os: Some(std::env::consts::OS.to_owned()),
        prepend_path_dirs: facts.prepend_path_dirs.into_iter().filter_map(|path| whole(Some(path))).collect(),
        temporary_directories: facts
            .temporary_directories
            .iter()
            .map(|path| facts.cwd.join(path).into())
            .collect(),
        temp_dir: facts.temp_dir.map(|path| facts.cwd.join(path).into()),
        cwd: Some(facts.cwd.into()),
        capabilities: Capabilities {
            detached_sessions: true,
            fs_watch_missing: true,
            http_header_env_vars: true,
            file_write_streaming: true,
            shell_snapshot_v2: true,
            tcp_streams: true,
            file_transfer: true,
            file_pieces: true,
            ..Capabilities::default()
        },
    }
}

/// A path that means the same to everybody; a relative one makes no URI.
fn whole(path: Option<PathBuf>) -> Option<WirePath> {
    path.filter(|path| path.is_absolute()).map(WirePath::from)
}

/// Clients write commands in the language that the name tells, so a shell of another language
/// (fish, nologin) is answered with the one that every machine has.
fn shell(path: Option<&Path>) -> Shell {
    let base = path.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let name = match base {
        "bash" => "bash",
        "zsh" => "zsh",
        "sh" | "dash" | "ash" | "ksh" | "ksh93" | "mksh" | "posh" | "yash" => "sh",
        _ => return Shell { name: "sh".into(), path: "/bin/sh".into() },
    };
    let path = path.unwrap_or(Path::new("/bin/sh"));
    Shell { name: name.into(), path: path.to_string_lossy().into_owned() }
}

/// Tells builds apart without reading the binary, which would cost time at every start.
fn provider_id(version: &str) -> String {
    let build = format!(
        "{}\0{}\0{version}\0{}-{}",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    );
    format!("sha256:{}", hex::encode(Sha256::digest(build)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(shell: Option<&str>) -> MachineFacts {
        MachineFacts {
            cwd: "/srv/a b".into(),
            home: Some("/root".into()),
            shell: shell.map(PathBuf::from),
            temp_dir: Some("to/tmp".into()),
            temporary_directories: vec!["to/tmp".into(), "/var/tmp".into()],
            prepend_path_dirs: vec!["/opt/x".into(), "relative".into()],
            version: "1.2.3".into(),
        }
    }

    #[test]
    fn a_shell_is_named_by_the_language_it_speaks() {
        for (path, name, told) in [
            (Some("/bin/bash"), "bash", "/bin/bash"),
            (Some("/usr/bin/zsh"), "zsh", "/usr/bin/zsh"),
            (Some("/bin/dash"), "sh", "/bin/dash"),
            (Some("/usr/bin/fish"), "sh", "/bin/sh"),
            (Some("/usr/sbin/nologin"), "sh", "/bin/sh"),
            (Some(""), "sh", "/bin/sh"),
            (None, "sh", "/bin/sh"),
        ] {
            let shell = describe(facts(path)).shell;
            assert_eq!((shell.name.as_str(), shell.path.as_str()), (name, told), "{path:?}");
        }
    }

    #[test]
    fn the_machine_is_described_with_uris_and_only_working_capabilities() {
        let info = serde_json::to_value(describe(facts(Some("/bin/bash")))).unwrap();
        assert_eq!(info["cwd"], "file:///srv/a%20b");
        assert_eq!(info["userHomeDir"], "file:///root");
        assert_eq!(info["tempDir"], "file:///srv/a%20b/to/tmp");
        assert_eq!(info["temporaryDirectories"][0], info["tempDir"]);
        assert_eq!(info["temporaryDirectories"][1], "file:///var/tmp");
        assert_eq!(info["prependPathDirs"], serde_json::json!(["file:///opt/x"]));
        assert_eq!(info["platformOs"], std::env::consts::OS);
        assert_eq!(info["executorVersion"], "1.2.3");
        let announced: Vec<_> = info["capabilities"].as_object().unwrap().iter().collect();
        let on: Vec<_> =
            announced.iter().filter(|(_, on)| **on == true).map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            on,
            [
                "detachedSessions",
                "filePieces",
                "fileTransfer",
                "fileWriteStreaming",
                "fsWatchMissing",
                "httpHeaderEnvVars",
                "shellSnapshotV2",
                "tcpStreams"
            ]
        );
        assert_eq!(announced.len(), 20);
    }

    #[test]
    fn a_build_keeps_its_identity_and_another_version_has_another() {
        let id = provider_id("1");
        assert_eq!(id, provider_id("1"));
        assert_ne!(id, provider_id("2"));
        let digits = id.strip_prefix("sha256:").unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
