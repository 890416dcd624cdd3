//! What `codex sandbox` gives a program as stdin, stdout and stderr: nothing of it leads out, whatever it is.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::attacker::asked;
use super::attacks::all;
use super::escapes::{User, profile, users};
use super::*;

/// What a stream is, by name, as somebody outside opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    ReadFile,
    AppendedFile,
    WrittenFile,
    FileForBoth,
    Directory,
    Device,
    Terminal,
    Pipe,
    NamedPipe,
    Multiplexer,
    OnlyNamed,
    DatagramSocket,
    LooseSocket,
    ListeningSocket,
    JoinedSocket,
    DeletedFile,
}

impl Given {
    const ALL: [Self; 16] = [
        Self::ReadFile,
        Self::AppendedFile,
        Self::WrittenFile,
        Self::FileForBoth,
        Self::Directory,
        Self::Device,
        Self::Terminal,
        Self::Pipe,
        Self::NamedPipe,
        Self::Multiplexer,
        Self::OnlyNamed,
        Self::DatagramSocket,
        Self::LooseSocket,
        Self::ListeningSocket,
        Self::JoinedSocket,
        Self::DeletedFile,
    ];

    /// The file whose mode, owner, times and attributes have to stay.
    fn file(self, ground: &Ground) -> PathBuf {
        match self {
            Self::Directory | Self::OnlyNamed => ground.at(""),
            Self::Device => ground.at("o/null"),
            Self::NamedPipe => ground.at("o/pipe"),
            _ => ground.at("o/precious"),
        }
    }

    /// Opened; none where this user can't have such a thing. What has to stay open meanwhile comes along.
    fn open(self, ground: &Ground) -> Option<(OwnedFd, Option<OwnedFd>)> {
        let file = self.file(ground);
        let mut options = OpenOptions::new();
        let options = match self {
            Self::AppendedFile => options.append(true),
            Self::WrittenFile => options.write(true),
            Self::FileForBoth | Self::NamedPipe => options.read(true).write(true),
            Self::OnlyNamed => options.read(true).custom_flags(libc::O_PATH),
            Self::Device => options.read(true).write(true),
            _ => options.read(true),
        };
        let socket = |kind| rustix::net::socket(AddressFamily::UNIX, kind, None).expect("a socket");
        let file = match self {
            Self::Device => {
                let device = rustix::fs::makedev(1, 3);
                let mode = Mode::from_raw_mode(0o666);
                rustix::fs::mknodat(CWD, &file, FileType::CharacterDevice, mode, device).ok()?;
                options.open(file)
            }
            Self::NamedPipe => {
                let mode = Mode::from_raw_mode(0o666);
                rustix::fs::mknodat(CWD, &file, FileType::Fifo, mode, 0).expect("a named pipe");
                options.open(file)
            }
            Self::Terminal => {
                let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
                let master = rustix::pty::openpt(flags).expect("a terminal");
                rustix::pty::grantpt(&master)
                    .and_then(|()| rustix::pty::unlockpt(&master))
                    .expect("it opens");
                let name = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
                let name = PathBuf::from(name.to_str().expect("text"));
                std::os::unix::fs::chown(&name, Some(owner(ground)), None).expect("root may");
                let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name);
                return Some((slave.expect("it opens").into(), Some(master)));
            }
            Self::Pipe => {
                let (ours, theirs) = rustix::pipe::pipe().expect("a pipe");
                return Some((ours, Some(theirs)));
            }
            Self::Multiplexer => options.open("/dev/ptmx"),
            Self::DatagramSocket => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                        .expect("a pair");
                return Some((theirs, Some(ours)));
            }
            Self::JoinedSocket => {
                let (ours, theirs) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                        .expect("a pair");
                return Some((theirs, Some(ours)));
            }
            Self::LooseSocket => return Some((socket(SocketType::STREAM), None)),
            Self::ListeningSocket => {
                let listener = std::os::unix::net::UnixListener::bind(ground.at("o/listening"));
                return Some((listener.expect("it listens").into(), None));
            }
            Self::DeletedFile => {
                let gone = ground.at("o/gone");
                std::fs::write(&gone, "gone").expect("written");
                let opened = File::open(&gone);
                std::fs::remove_file(gone).expect("removed");
                opened
            }
            _ => options.open(file),
        };
        Some((file.expect("it opens").into(), None))
    }

    /// Whether such a stream is refused.
    fn is_refused(self, user: User, stream: usize, profile: &str) -> bool {
        let is_open = profile == "external";
        match self {
            // Who opened it did so where `/proc` shows others.
            Self::OnlyNamed if is_open => user.has_own_pids(),
            Self::Multiplexer | Self::FileForBoth | Self::AppendedFile | Self::WrittenFile if is_open => {
                false
            }
            // Without namespaces the filter keeps every file as it is.
            Self::Multiplexer => user != User::WithoutNamespaces,
            Self::OnlyNamed | Self::DatagramSocket | Self::LooseSocket | Self::ListeningSocket => true,
            // Elsewhere it is carried.
            Self::FileForBoth | Self::AppendedFile | Self::WrittenFile => stream == 0,
            Self::Directory => profile == "path",
            _ => false,
        }
    }
}

fn owner(ground: &Ground) -> u32 {
    ground.at("o/precious").metadata().expect("it is there").uid()
}

/// What must not change, beside the content.
fn facts(file: &std::path::Path) -> (u32, u32, u32, bool) {
    let found = file.metadata().expect("it is there");
    let has_attribute = rustix::fs::getxattr(file, c"user.evil", &mut [0; 8]).is_ok();
    (found.mode(), found.uid(), found.gid(), has_attribute)
}

fn run(user: User, profile: &str, ground: &Ground, program: &[String], streams: [Stdio; 3]) -> Output {
    let mut command = command(user, profile, ground);
    let [stdin, stdout, stderr] = streams;
    command.args(program).stdin(stdin).stdout(stdout).stderr(stderr).output().expect("it runs")
}

fn command(user: User, profile: &str, ground: &Ground) -> Command {
    let mut command = user.codex();
    command.arg("sandbox").arg("--cwd").arg(ground.at("w")).arg("--profile").arg(profile).arg("--");
    command
}

#[test]
fn nothing_that_a_program_is_given_leads_out_of_its_sandbox() {
    if !enforceable() {
        return;
    }
    let mut tried = 0;
    for user in users() {
        for name in ["read", "deny", "path", "external"] {
            if !user.may_have(name) {
                continue;
            }
            for given in Given::ALL {
                for stream in 0..3 {
                    tried += usize::from(holds(user, name, given, stream));
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Makes all attempts on one stream; whether there was one.
fn holds(user: User, name: &str, given: Given, stream: usize) -> bool {
    let ground = Ground::new();
    user.owns(&ground);
    let file = tempfile::NamedTempFile::new().expect("a file");
    user.wrote(file.path(), &profile(name, &ground)["permissions"].to_string());
    let Some((opened, _other)) = given.open(&ground) else { return false };
    let before = facts(&given.file(&ground));
    // For the program's own words, which only some of these streams can be read from.
    let told = ground.at("told");
    std::fs::write(&told, "").expect("written");
    let mut streams = [Stdio::null(), Stdio::piped(), Stdio::piped()];
    streams[stream] = Stdio::from(opened);
    let suffix = format!("stream {stream}");
    let attempts: Vec<String> = all(&ground.root)
        .into_iter()
        .map(|attack| attack.name)
        .filter(|name| name.ends_with(&suffix))
        .collect();
    // A pipe has no file, and a deleted one no name: what becomes of its mode is nobody's matter. Nor what is written to
    // a terminal or device that was given for that.
    let is_free = |name: &String| match given {
        Given::Pipe | Given::DeletedFile | Given::JoinedSocket => {
            !["below", "enter", "bystander"].iter().any(|word| name.contains(word))
        }
        Given::Terminal | Given::Device | Given::NamedPipe => {
            ["write over", "reopen"].iter().any(|word| name.contains(word))
        }
        // Carried through a pipe.
        Given::AppendedFile | Given::WrittenFile | Given::FileForBoth => {
            let words = ["the mode", "owner", "times", "reopen"];
            words.iter().any(|word| name.contains(word))
        }
        _ => false,
    };
    let denies = name != "read";
    let is_tried = |attempt: &String| match name {
        // Says nothing of files.
        "external" => ["bystander", "process"].iter().any(|word| attempt.contains(word)) && !is_free(attempt),
        _ => !is_free(attempt) && (denies || !attempt.contains("denied")),
    };
    let attempts: Vec<String> = attempts.into_iter().filter(is_tried).collect();
    let path = file.path().to_str().expect("text");
    let output = run(user, path, &ground, &asked(&attempts.join(","), &ground), streams);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let context = format!("{given:?} as stream {stream} under {name} as {user:?}: {said}");
    if given.is_refused(user, stream, name) {
        assert_eq!(output.status.code(), Some(1), "{context}");
        assert!(stream == 2 || said.contains("as std"), "{context}");
    } else {
        assert!(!said.contains("ESCAPED"), "{context}");
        let is_readable =
            stream == 1 && !matches!(given, Given::AppendedFile | Given::WrittenFile | Given::FileForBoth);
        assert!(output.status.success() || is_readable, "{context}");
    }
    assert_eq!(facts(&given.file(&ground)), before, "{context}");
    let precious = std::fs::read_to_string(ground.at("o/precious")).expect("it is there");
    if matches!(given, Given::AppendedFile) {
        assert!(precious.starts_with("precious"), "{context}: {precious}");
    } else if !matches!(given, Given::WrittenFile | Given::FileForBoth) {
        assert_eq!(precious, "precious", "{context}");
    }
    true
}

#[test]
fn what_is_redirected_arrives_as_without_a_sandbox() {
    if !enforceable() {
        return;
    }
    let script = "cat; echo out; echo err >&2; echo out again; [ -t 1 ] || exit 5";
    for user in users() {
        for name in ["read", "deny"] {
            if !user.may_have(name) {
                continue;
            }
            let ground = Ground::new();
            user.owns(&ground);
            let file = tempfile::NamedTempFile::new().expect("a file");
            user.wrote(file.path(), &profile(name, &ground)["permissions"].to_string());
            for (log, both) in [("o/log", true), ("o/log", false), ("w/log", true)] {
                let log = ground.at(log);
                std::fs::write(&log, "before\n").expect("written");
                let append = || OpenOptions::new().append(true).open(&log).expect("it opens");
                let mut stdin = File::open(ground.at("o/precious")).expect("it opens");
                // From where it is, not from the beginning.
                std::io::Seek::seek(&mut stdin, std::io::SeekFrom::Start(4)).expect("it seeks");
                let stderr = if both { Stdio::from(append()) } else { Stdio::piped() };
                let program = ["sh", "-c", script].map(String::from);
                let streams = [Stdio::from(stdin), Stdio::from(append()), stderr];
                let output = run(user, file.path().to_str().expect("text"), &ground, &program, streams);
                let written = std::fs::read_to_string(&log).expect("it is there");
                let (err, apart) = if both { ("err\n", "") } else { ("", "err\n") };
                assert_eq!(written, format!("before\niousout\n{err}out again\n"), "{name} as {user:?}");
                assert_eq!(String::from_utf8_lossy(&output.stderr), apart, "{name} as {user:?}");
                assert_eq!(output.status.code(), Some(5), "{name} as {user:?}");
                std::fs::remove_file(log).expect("removed");
            }
        }
    }
}

#[test]
fn a_full_disk_behind_a_redirection_is_told() {
    if !enforceable() {
        return;
    }
    let ground = Ground::new();
    let mut command = command(User::Root, "read-only", &ground);
    let log = File::create(ground.at("o/log")).expect("a file");
    // No file may grow beyond a page, which is as good as a full disk.
    let script = "ulimit -f 8; trap '' XFSZ; exec \"$@\"";
    let inner: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(inner).args(["sh", "-c", "head -c 100000 /dev/zero"]);
    let output = command.stdout(log).stderr(Stdio::piped()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("can't write the program's output to its file"), "{said}");
}
