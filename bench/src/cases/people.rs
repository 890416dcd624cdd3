//! What the verbs cost that people use: copies, forwarded ports, a shell, a machine behind ssh.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::Context;
use crate::machine::{Terminal, check_total, timed};
use crate::remote::{ENVIRONMENT, Rendezvous, executor};
use crate::report::{Bar, Row, median};
use crate::server::{ServerCommand, memory};

const MB: f64 = 1e6;

/// Copies of a large file and of many small ones.
pub fn copy(context: &Context<'_>) -> Result<Vec<Row>> {
    let size = context.pick(1_u64 << 30, 128 << 20);
    let place = tempfile::tempdir()?;
    let (large, there) = (place.path().join("large"), place.path().join("there"));
    fill(&large, size)?;
    let server = context.server.start(&[])?;
    let direct = ["--url", server.url.as_str()];
    let speed = |seconds: f64| size as f64 / MB / seconds;
    let up = cp(context.server.command(&["cp", "-q"]), &direct, &large, &remote(&there))?;
    std::fs::remove_file(&large)?;
    let down = cp(context.server.command(&["cp", "-q"]), &direct, &remote(&there), &large)?;
    check_total(large.metadata()?.len(), size)?;
    let peak = memory(server.pid(), "VmHWM")? as f64 / f64::from(1 << 20);

    let many = place.path().join("many");
    let files = context.pick(10_000, 1_000);
    for number in 0..files {
        let directory = many.join(format!("d{}", number / 100));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("f{number}")), format!("{number}").repeat(200))?;
    }
    let copied = place.path().join("copied");
    let small = cp(context.server.command(&["cp", "-q"]), &direct, &many, &remote(&copied))?;
    drop(server);

    std::fs::remove_file(&there)?;
    let rendezvous = Rendezvous::start(context.server, &[])?;
    let _executor = executor(context.server, &rendezvous.url, &rendezvous.token, &[])?;
    let mut command = context.server.command(&["cp", "-q"]);
    command.env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", &rendezvous.token);
    let through = ["--registry", rendezvous.url.as_str(), "--environment-id", ENVIRONMENT];
    let noise = cp(command, &through, &large, &remote(&there))?;
    check_total(there.metadata()?.len(), size)?;
    Ok(vec![
        Row::new("cp: a large file there", "MB/s", speed(up), Bar::AtLeast(500.0)),
        Row::new("cp: a large file back", "MB/s", speed(down), Bar::AtLeast(500.0)),
        Row::new("cp: the server's peak memory", "MiB", peak, Bar::None),
        Row::new("cp: 10,000 small files", "s", small * 10_000.0 / f64::from(files), Bar::AtMost(3.0)),
        Row::new("cp: a large file through Noise", "MB/s", speed(noise), Bar::AtLeast(250.0)),
    ])
}

/// Bytes that no copy can leave out as a hole.
fn fill(path: &Path, size: u64) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut block = vec![7; 1 << 20];
    for number in 0..size >> 20 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    Ok(())
}

/// A path of the environment, as `cp` is told it.
fn remote(path: &Path) -> std::path::PathBuf {
    format!(":{}", path.display()).into()
}

/// Seconds of a copy.
fn cp(mut command: Command, flags: &[&str], from: &Path, to: &Path) -> Result<f64> {
    command.args(flags).args([from, to]).stdin(Stdio::null());
    let (seconds, status) = timed(|| Ok(command.status()?))?;
    if !status.success() {
        bail!("cp ended with {status}");
    }
    Ok(seconds)
}

/// Bytes and single keys through a forwarded port, and on a connection of their own.
pub fn forward(context: &Context<'_>) -> Result<Vec<Row>> {
    let size = context.pick(2_u64 << 30, 256 << 20);
    let rounds = context.pick(20_000, 2_000);
    let server = context.server.start(&[])?;
    let target = answering(size)?;
    let direct = (flood(target, size)?, echo(target, rounds)?);
    let (mut child, at) = forwarded(context.server, &server.url, target.port())?;
    let through = flood(at, size).and_then(|speed| Ok((speed, echo(at, rounds)?)));
    let _ = child.kill();
    let _ = child.wait();
    let through = through?;
    Ok(vec![
        Row::new("port-forward: bytes to here", "MB/s", through.0, Bar::AtLeast(1000.0)).against(direct.0),
        Row::new(
            "port-forward: a byte and its echo adds, p50",
            "us",
            through.1 - direct.1,
            Bar::AtMost(100.0),
        ),
    ])
}

/// Who is asked by an `f` gives so many bytes; by anything else, each byte back.
fn answering(size: u64) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || answer(stream, size));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, size: u64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    if byte == *b"f" {
        let block = vec![7; 1 << 20];
        for _ in 0..size >> 20 {
            stream.write_all(&block)?;
        }
        return Ok(());
    }
    loop {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
}

/// Megabytes per second.
fn flood(at: SocketAddr, size: u64) -> Result<f64> {
    let mut stream = TcpStream::connect(at)?;
    stream.write_all(b"f")?;
    let mut buffer = vec![0; 1 << 20];
    let (mut total, since) = (0, Instant::now());
    while let read @ 1.. = stream.read(&mut buffer)? {
        total += read as u64;
    }
    check_total(total, size)?;
    Ok(total as f64 / MB / since.elapsed().as_secs_f64())
}

/// Microseconds from a byte to its echo, in the middle.
fn echo(at: SocketAddr, rounds: usize) -> Result<f64> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    let (mut samples, mut byte) = (Vec::new(), [0]);
    for _ in 0..rounds {
        let (seconds, ()) = timed(|| {
            stream.write_all(b"x")?;
            Ok(stream.read_exact(&mut byte)?)
        })?;
        samples.push(seconds * 1e6);
    }
    Ok(median(&samples))
}

/// Forwards a port, and tells where it is open.
fn forwarded(server: &ServerCommand, url: &str, port: u16) -> Result<(Child, SocketAddr)> {
    let ports = format!("0:{port}");
    let mut command = server.command(&["port-forward", "--url", url, &ports]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
    let at = line.split(" -> ").next().unwrap_or_default().parse();
    let at = at.with_context(|| format!("port-forward printed {line:?}"))?;
    Ok((child, at))
}

/// Says that it is ready, and echoes keys by itself.
const READY: &str = "stty raw -echo; printf 'RE%s' ADY; exec cat";

/// A keystroke in `shell` against one in `run --tty`, in turn.
pub fn shell(context: &Context<'_>) -> Result<Vec<Row>> {
    let server = context.server.start(&[])?;
    let (program, words) = context.server.words.split_first().context("a server")?;
    let with = |more: &[&str]| {
        let words = words.iter().map(String::as_str).chain(more.iter().copied());
        Terminal::run(program, &words.collect::<Vec<_>>())
    };
    let (mut shells, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(10, 3) {
        let mut run = with(&["run", "--url", &server.url, "--tty", "--", "sh", "-c", READY])?;
        keys(&mut run, &mut runs)?;
        let mut shell = with(&["shell", "--url", &server.url])?;
        shell.master.write_all(format!("exec sh -c \"{READY}\"\r").as_bytes())?;
        keys(&mut shell, &mut shells)?;
    }
    let row =
        Row::new("shell: a keystroke, p50, limit: run --tty", "us", median(&shells), Bar::RatioAtMost(1.5));
    Ok(vec![row.against(median(&runs))])
}

/// Microseconds of a hundred keys, once the program is ready.
fn keys(terminal: &mut Terminal, samples: &mut Vec<f64>) -> Result<()> {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.windows(5).any(|part| part == b"READY") {
        match terminal.master.read(&mut buffer)? {
            0 => bail!("the terminal ended early: {}", String::from_utf8_lossy(&said)),
            read => said.extend_from_slice(&buffer[..read]),
        }
    }
    for _ in 0..100 {
        samples.push(terminal.keystroke()? * 1e6);
    }
    Ok(())
}

/// The first command on a machine behind ssh, which brings the program, and those after it.
pub fn ssh(context: &Context<'_>) -> Result<Vec<Row>> {
    let place = tempfile::tempdir()?;
    let sshd = Sshd::start(place.path())?;
    let far = place.path().join("far");
    let far = far.to_str().context("UTF-8")?;
    let once = || {
        let flags = ["run", "--url", "ssh://bench", "--remote-dir", far, "--", "true"];
        let mut command = context.server.command(&flags);
        command.env("PATH", &sshd.path).stdin(Stdio::null());
        let (seconds, status) = timed(|| Ok(command.status()?))?;
        if !status.success() {
            bail!("run ended with {status}");
        }
        Ok(seconds)
    };
    std::fs::create_dir(far)?;
    let first = once()?;
    let later = (0..context.pick(20, 5)).map(|_| once()).collect::<Result<Vec<_>>>()?;
    Ok(vec![
        Row::new("ssh: the first command, with the copy", "s", first, Bar::AtMost(3.0)),
        Row::new("ssh: a later command, p50", "ms", median(&later) * 1e3, Bar::AtMost(400.0)),
    ])
}

/// An sshd on loopback with a key of its own, and an `ssh` that knows it as `bench`.
struct Sshd {
    child: Child,
    /// What `PATH` has to be.
    path: String,
}

impl Sshd {
    fn start(place: &Path) -> Result<Self> {
        let at = place.display();
        for name in ["host", "key"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.join(name));
            if !made.status().context("this case needs OpenSSH")?.success() {
                bail!("ssh-keygen failed");
            }
        }
        std::fs::create_dir_all("/run/sshd").context("sshd wants a directory that only root makes")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::write(
            place.join("server"),
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\nPidFile none\n\
                 UsePAM no\nStrictModes no\nPermitRootLogin yes\n"
            ),
        )?;
        std::fs::write(
            place.join("client"),
            format!(
                "Host bench\n HostName 127.0.0.1\n Port {port}\n IdentityFile {at}/key\n IdentitiesOnly yes\n \
                 UserKnownHostsFile {at}/known\n StrictHostKeyChecking accept-new\n"
            ),
        )?;
        let bin = place.join("bin");
        std::fs::create_dir(&bin)?;
        std::fs::write(bin.join("ssh"), format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/client \"$@\"\n"))?;
        std::fs::set_permissions(bin.join("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut command = Command::new("/usr/sbin/sshd");
        let child = command.arg("-D").arg("-f").arg(place.join("server")).stdin(Stdio::null()).spawn()?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
        let sshd = Self { child, path };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if since.elapsed().as_secs() > 10 {
                bail!("sshd does not listen");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(sshd)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
