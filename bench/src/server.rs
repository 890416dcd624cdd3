//! An exec-server under test: started, examined through /proc, stopped.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Connection;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct ServerCommand {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Ours: then flags of ours may be added.
    pub ours: bool,
}

impl ServerCommand {
    /// A command line, split at white space, or the word `floor`.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "floor" {
            return Self::floor();
        }
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            bail!("--server needs a command");
        }
        Ok(Self { words, ours: false })
    }

    /// The least that a server for this protocol can be ([`crate::floor`]).
    pub fn floor() -> Result<Self> {
        let own = std::env::current_exe().context("finding the bench's own path")?;
        Ok(Self { words: vec![own.display().to_string(), "--serve-floor".into()], ours: false })
    }

    /// `codex exec-server` beside the bench's own binary, built by the same profile.
    pub fn ours() -> Result<Self> {
        let own = std::env::current_exe().context("finding the bench's own path")?;
        let directory = own.parent().context("the bench's own directory")?;
        let path: PathBuf = directory.join("codex");
        // A profile's name is that of its directory.
        let profile = directory.file_name().unwrap_or_default();
        let built =
            Command::new("cargo").args(["build", "-q", "-p", "codex-cli", "--profile"]).arg(profile).status();
        if !path.exists() {
            bail!(
                "{} is missing, and building it gave {built:?}; run cargo build --profile dist",
                path.display()
            );
        }
        Ok(Self { words: vec![path.display().to_string(), "exec-server".into()], ours: true })
    }

    /// A short name for the table.
    pub fn name(&self) -> String {
        if self.words.get(1).is_some_and(|word| word == "--serve-floor") {
            return "floor".into();
        }
        let program = self.words.first().map_or("", String::as_str);
        program.rsplit('/').next().unwrap_or(program).to_owned()
    }

    /// The command with more arguments, not yet started.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(more);
        command
    }

    /// Starts it and waits for its address.
    pub fn start(&self, more: &[&str]) -> Result<Server> {
        self.start_with(more, &[])
    }

    /// The same, with these variables.
    pub fn start_with(&self, more: &[&str], variables: &[(&str, String)]) -> Result<Server> {
        let mut child = self
            .command(more)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {:?}", self.words))?;
        let stdout = child.stdout.take().context("the server's stdout")?;
        let mut server = Server { child, url: String::new() };
        let mut lines = BufReader::with_capacity(512, stdout);
        lines.read_line(&mut server.url).context("reading the server's address")?;
        server.url = server.url.trim().to_owned();
        if server.url.is_empty() {
            bail!("{:?} printed no address", self.words);
        }
        Ok(server)
    }
}

/// A running server; dropping it stops it.
pub struct Server {
    child: Child,
    /// The address that it printed.
    pub url: String,
}

impl Server {
    /// A new connection with its own session.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.url)
    }

    /// The operating system's id of the process that serves.
    pub fn pid(&self) -> u32 {
        serving(self.child.id())
    }

    /// See [`memory`].
    pub fn memory(&self, line: &str) -> Result<u64> {
        memory(self.pid(), line)
    }

    /// See [`cpu_seconds`].
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid())
    }

    /// SIGTERM, and waits for the end without looking at the clock.
    pub fn end(&mut self) -> Result<()> {
        // SAFETY: plain system call; the child is ours and not reaped, so its id is still its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.child.wait().map(drop).context("waiting for the server's end")
    }

    /// SIGTERM, and SIGKILL five seconds later; whether SIGTERM was enough and the exit code 0.
    pub fn stop(&mut self) -> bool {
        stop(&mut self.child)
    }
}

/// The process that serves, given the one that was started: below a keeper it is the child with the same arguments.
pub fn serving(started: u32) -> u32 {
    let read = |pid: u32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    if read(started, "comm").trim_ascii_end() != b"codex-keeper" {
        return started;
    }
    let arguments = |pid| {
        let line = read(pid, "cmdline");
        line.split(|byte| *byte == 0).skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let children = String::from_utf8(read(started, &format!("task/{started}/children"))).unwrap_or_default();
    let wanted = arguments(started);
    let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.find(|pid| arguments(*pid) == wanted).unwrap_or(started)
}

/// A line of /proc/PID/status that counts KiB, in bytes: `VmRSS`, `VmHWM`.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value =
        status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).context("no such line")?;
    let kib: u64 = value.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// User and system time so far; children are not counted. By the scheduler's clock: the ticks of `/proc/PID/stat` are 10 ms,
/// which is all that a client needs for a flood.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both write to the places that they are given, which live on.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid as i32, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0
    };
    if failed {
        bail!("the CPU time of process {pid} can't be read");
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// See [`Server::stop`].
pub fn stop(child: &mut Child) -> bool {
    // SAFETY: plain system call; the child is ours and not reaped, so its id is still its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    match wait(child, Duration::from_secs(5)) {
        Some(status) => status.success(),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            false
        }
    }
}

/// Waits for a child for at most this long.
pub fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let since = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            _ if since.elapsed() > patience => return None,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.stop();
        }
    }
}
