//! Why a program could not be brought: which step of the way broke, and what to do.

use std::path::PathBuf;
use std::time::Duration;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BringError {
    /// The file that is to be brought can't be used.
    #[error("can't bring {}: {problem}", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A step of the way broke, or what comes at its end.
    #[error("{hop}: {failure}")]
    Hop {
        /// Its number, from 0.
        number: usize,
        /// The hop, as a target names it.
        hop: String,
        /// What broke.
        failure: Failure,
    },
}

/// What broke, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The system's program for this step is not there.
    #[error("can't start {program}: {cause}; install it, or put it into PATH")]
    NoProgram {
        /// `ssh`, `docker` or `kubectl`.
        program: &'static str,
        /// What the system said.
        cause: String,
    },
    /// It did not lead to the other side.
    #[error("{program} ended with code {code}: {said}")]
    Unreached {
        /// `ssh`, `docker` or `kubectl`.
        program: &'static str,
        /// Its exit code.
        code: i32,
        /// The last that it said.
        said: String,
    },
    /// ssh would have to ask, and nobody can be asked.
    #[error(
        "{said}: nobody can be asked for a password or a key here; load the key into ssh-agent (`ssh-add`), or connect once from a \
         terminal"
    )]
    NobodyToAsk {
        /// The last that ssh said.
        said: String,
    },
    /// The host's key is not known, or another one than before.
    #[error("{said}; connect once with `ssh {host}` from a terminal, and compare the key that it shows")]
    HostKey {
        /// The host to connect to.
        host: String,
        /// The last that ssh said.
        said: String,
    },
    /// Nothing runs commands there.
    #[error(
        "there is no shell that runs commands ({said}); the other side needs /bin/sh, and an account that may use it"
    )]
    NoShell {
        /// The last that was said.
        said: String,
    },
    /// Nothing was heard.
    #[error(
        "nothing was heard for {after:?} while waiting for {what}; a login script there may wait for input"
    )]
    Silent {
        /// How long.
        after: Duration,
        /// For what.
        what: &'static str,
    },
    /// There is no home directory.
    #[error("neither HOME nor XDG_CACHE_HOME is set there; name a directory with --remote-dir")]
    NoHome,
    /// The directory can't be used.
    #[error("can't use the directory {said}; mend that, or name another one with --remote-dir")]
    Directory {
        /// The directory and what the system said.
        said: String,
    },
    /// Another system.
    #[error("the machine runs {system}, and this program needs Linux")]
    System {
        /// As `uname -s` says it.
        system: String,
    },
    /// Another architecture.
    #[error(
        "the machine is {machine}, and the program to bring is built for {built_for}; give one for {machine} with --binary \
         (`packaging/static {machine}` builds it)"
    )]
    Architecture {
        /// As `uname -m` says it.
        machine: String,
        /// What the program is built for.
        built_for: &'static str,
    },
    /// Nothing may be executed there.
    #[error(
        "programs in {directory} may not be executed (is it mounted noexec?); name another directory with --remote-dir"
    )]
    NotExecutable {
        /// The directory.
        directory: String,
    },
    /// The C library does not fit.
    #[error(
        "the machine's C library is too old for this program, or is another one ({said}); give a static one with --binary \
         (`packaging/static` builds it)"
    )]
    Library {
        /// What the loader said.
        said: String,
    },
    /// It does not run for another reason.
    #[error("the program was brought but does not run there (code {code}): {said}")]
    DoesNotRun {
        /// Its exit code.
        code: i32,
        /// What was said.
        said: String,
    },
    /// No room.
    #[error(
        "no room in {directory} for the program's {size} bytes: {said}; free some, or name another directory with --remote-dir"
    )]
    Full {
        /// The directory.
        directory: String,
        /// In bytes.
        size: u64,
        /// What the system said.
        said: String,
    },
    /// Other bytes arrived than were sent.
    #[error("the program did not arrive as it was sent ({said}); try again")]
    Damaged {
        /// What was found.
        said: String,
    },
    /// The connection was cut meanwhile.
    #[error("the connection was cut while the program was brought: {said}")]
    Cut {
        /// The last that was said.
        said: String,
    },
}

impl Failure {
    /// What to paste that cures it, or to do, for the step that is named `hop`.
    pub fn remedy(&self, hop: &str) -> String {
        const STATIC: &str = "packaging/static, and `--binary` with the file that it names";
        match self {
            Self::NoProgram { program: "ssh", .. } => "sudo apt-get install openssh-client".into(),
            Self::NoProgram { program, .. } => format!("install {program}, or put it into PATH"),
            Self::Unreached { program: "docker", .. } => "docker ps".into(),
            Self::Unreached { program: "kubectl", .. } => "kubectl get pods --all-namespaces".into(),
            Self::Unreached { .. } | Self::Silent { .. } | Self::Cut { .. } => {
                format!("ssh -v {} true", hop.trim_start_matches("ssh://"))
            }
            Self::NobodyToAsk { .. } => "ssh-add".into(),
            Self::HostKey { host, .. } => format!("ssh {host} true"),
            Self::NoShell { .. } => {
                "give the machine a /bin/sh, and the account one that runs commands".into()
            }
            Self::NoHome | Self::Directory { .. } | Self::NotExecutable { .. } | Self::Full { .. } => {
                "codex exec-server env rm NAME, and `env add` again with --remote-dir /var/tmp".into()
            }
            Self::System { .. } => "use a machine with Linux".into(),
            Self::Architecture { machine, .. } => {
                format!("packaging/static {machine}, and `--binary` with its file")
            }
            Self::Library { .. } | Self::DoesNotRun { .. } => STATIC.into(),
            Self::Damaged { .. } => "try again".into(),
        }
    }

    /// What a program's end means that never led to the other side.
    pub(crate) fn of_hop(program: &'static str, code: i32, said: String) -> Self {
        let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if program == "ssh" {
            if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
                return Self::HostKey { host: "HOST".into(), said };
            }
            if has(&["Permission denied (", "Too many authentication failures"]) {
                return Self::NobodyToAsk { said };
            }
            if code != 255 {
                return Self::NoShell { said };
            }
        }
        // The runtime says so with 126 or 127, and kubectl in words alone.
        let lacks = has(&["executable file not found", "exec: \"sh\"", "no such file or directory: unknown"]);
        if program != "ssh" && lacks {
            return Self::NoShell { said };
        }
        Self::Unreached { program, code, said }
    }

    /// What the script says of its failure: a word, and the rest.
    pub(crate) fn of_script(text: &str, size: u64) -> Self {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim().to_owned();
        let full = |rest: &str| rest.contains("No space left") || rest.contains("quota exceeded");
        match word {
            "home" => Self::NoHome,
            "directory" if full(&rest) => {
                let (directory, said) = rest.split_once(": ").unwrap_or((&rest, "no space left"));
                Self::Full { directory: directory.into(), size, said: said.into() }
            }
            "directory" => Self::Directory { said: rest },
            "size" => {
                let mut parts = rest.splitn(3, ' ');
                let arrived = parts.next().unwrap_or_default().to_owned();
                let directory = parts.next().unwrap_or_default().to_owned();
                let said = parts.next().unwrap_or_default().trim().to_owned();
                if full(&said) {
                    return Self::Full { directory, size, said };
                }
                Self::Damaged { said: format!("{arrived} of {size} bytes {said}").trim().to_owned() }
            }
            "run" => Self::of_trial(&rest),
            other => Self::Damaged { said: format!("{other} {rest}").trim().to_owned() },
        }
    }

    /// Why the program does not run: the exit code of the trial, the directory, and what was said.
    fn of_trial(rest: &str) -> Self {
        let mut parts = rest.splitn(3, ' ');
        let code = parts.next().and_then(|code| code.parse().ok()).unwrap_or(-1);
        let directory = parts.next().unwrap_or_default().to_owned();
        let said = parts.next().unwrap_or_default().trim().to_owned();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if has(&["GLIBC_", "libc.so", "error while loading shared libraries", "symbol not found"]) {
            return Self::Library { said };
        }
        // The program is there, and yet its loader is not.
        if code == 127 || has(&["not found", "No such file"]) {
            return Self::Library { said };
        }
        if code == 126 && has(&["ermission denied"]) {
            return Self::NotExecutable { directory };
        }
        Self::DoesNotRun { code, said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_sentence_that_says_what_to_do() {
        let of_hop = |program, code, said: &str| Failure::of_hop(program, code, said.into());
        let of_script = |text| Failure::of_script(text, 5);
        for (failure, words) in [
            (
                of_hop("ssh", 255, "ssh: connect to host h port 22: Connection refused"),
                "ssh ended with code 255",
            ),
            (of_hop("ssh", 255, "Host key verification failed."), "compare the key"),
            (of_hop("ssh", 255, "a@h: Permission denied (publickey)."), "ssh-add"),
            (of_hop("ssh", 1, "This account is currently not available."), "no shell that runs commands"),
            (of_hop("docker", 127, "exec: \"sh\": executable file not found in $PATH"), "no shell"),
            (of_hop("docker", 1, "Error response from daemon: No such container: x"), "No such container"),
            (of_hop("kubectl", 1, ""), "it said nothing"),
            (of_script("home"), "--remote-dir"),
            (of_script("directory /x: Read-only file system"), "Read-only file system; mend that"),
            (of_script("directory /x: mkdir: can't: No space left on device"), "no room in /x"),
            (
                of_script("size 3 /x gzip: stdout: No space left on device"),
                "no room in /x for the program's 5 bytes",
            ),
            (of_script("size 3 /x "), "(3 of 5 bytes); try again"),
            (of_script("hash abc"), "(hash abc)"),
            (of_script("run 126 /x sh: 1: /x/codex: Permission denied"), "mounted noexec"),
            (of_script("run 1 /x codex: version `GLIBC_2.34' not found"), "C library is too old"),
            (of_script("run 127 /x sh: /x/codex: not found"), "static one with --binary"),
            (of_script("run 132 /x Illegal instruction"), "(code 132): Illegal instruction"),
        ] {
            assert!(failure.to_string().contains(words), "{words}: {failure}");
        }
    }
}
