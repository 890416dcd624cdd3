//! The machine's own limits: the same work without a server in between.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Seconds that `action` takes, and what it gives.
pub fn timed<T>(action: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let since = Instant::now();
    let value = action()?;
    Ok((since.elapsed().as_secs_f64(), value))
}

fn spawn_true() -> Result<Child> {
    let mut command = Command::new("/bin/true");
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("spawning /bin/true")
}

fn finish(mut child: Child) -> Result<()> {
    let mut rest = Vec::new();
    child.stdout.take().context("stdout")?.read_to_end(&mut rest)?;
    child.stderr.take().context("stderr")?.read_to_end(&mut rest)?;
    child.wait()?;
    Ok(())
}

/// Seconds for `/bin/true` with pipes: spawn, read both to their end, reap.
pub fn spawn_and_wait() -> Result<f64> {
    timed(|| finish(spawn_true()?)).map(|(seconds, ())| seconds)
}

/// Spawns per second, one thread, `window` children at once.
pub fn spawns_per_second(count: usize, window: usize) -> Result<f64> {
    let (seconds, ()) = timed(|| {
        let mut running = VecDeque::new();
        for _ in 0..count {
            if running.len() == window
                && let Some(oldest) = running.pop_front()
            {
                finish(oldest)?;
            }
            running.push_back(spawn_true()?);
        }
        running.into_iter().try_for_each(finish)
    })?;
    Ok(count as f64 / seconds)
}

/// Bytes per second of `head -c SIZE /dev/zero` through a pipe, read 64 KiB at a time.
pub fn pipe_throughput(size: u64) -> Result<f64> {
    let (seconds, total) = timed(|| {
        let mut child = Command::new("head")
            .args(["-c", &size.to_string(), "/dev/zero"])
            .stdout(Stdio::piped())
            .spawn()?;
        let total = read_all(child.stdout.take().context("stdout")?)?;
        child.wait()?;
        Ok(total)
    })?;
    check_total(total, size)?;
    Ok(size as f64 / seconds)
}

/// The same through a terminal.
pub fn terminal_throughput(size: u64) -> Result<f64> {
    let (seconds, total) = timed(|| {
        let mut terminal = Terminal::run("head", &["-c", &size.to_string(), "/dev/zero"])?;
        let total = read_all(&mut terminal.master)?;
        terminal.child.wait()?;
        Ok(total)
    })?;
    check_total(total, size)?;
    Ok(size as f64 / seconds)
}

/// Fails unless every byte came.
pub fn check_total(total: u64, expected: u64) -> Result<()> {
    if total != expected {
        bail!("{total} bytes came instead of {expected}");
    }
    Ok(())
}

fn read_all(mut from: impl Read) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => total += read as u64,
            // A terminal whose last user is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(total),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Both ends of a new terminal.
pub fn open_terminal() -> Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: the two integers are ours; null is allowed for name, attributes and size.
    let opened = unsafe {
        libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    if opened != 0 {
        return Err(std::io::Error::last_os_error()).context("opening a terminal");
    }
    // SAFETY: openpty has just given us these two descriptors; nobody else owns them.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    // A child that held the master would keep the terminal alive for ever.
    rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
    Ok((master, slave))
}

/// A program on a bare terminal.
pub struct Terminal {
    /// Our side.
    pub master: File,
    child: Child,
}

impl Terminal {
    /// Opens a terminal and runs a program on it.
    pub fn run(program: &str, arguments: &[&str]) -> Result<Self> {
        let (master, slave) = open_terminal()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn().with_context(|| format!("running {program}"))?;
        Ok(Self { master: File::from(master), child })
    }

    /// Waits until the program says something.
    pub fn await_output(&mut self) -> Result<()> {
        self.master.read(&mut [0; 64]).map(drop).context("waiting for the program on the terminal")
    }

    /// Seconds from a keystroke to its echo.
    pub fn keystroke(&mut self) -> Result<f64> {
        let mut echo = [0; 64];
        let (seconds, ()) = timed(|| {
            self.master.write_all(b"x")?;
            self.master.read(&mut echo).map(drop).map_err(Into::into)
        })?;
        Ok(seconds)
    }
}

/// A bare terminal behind a TCP connection: the least that any server can do for a keystroke, two wake-ups included.
pub struct Relay {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts the thread that carries single bytes between the connection and the terminal.
    pub fn run(mut terminal: Terminal) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let thread = std::thread::spawn(move || {
            let mut byte = [0; 64];
            // The connection's end, or any failure, ends the relay; the other side then sees an early end.
            while let Ok(1..) = far.read(&mut byte[..1]) {
                let echoed =
                    terminal.master.write_all(&byte[..1]).and_then(|()| terminal.master.read(&mut byte));
                if !echoed.is_ok_and(|read| far.write_all(&byte[..read]).is_ok()) {
                    return;
                }
            }
        });
        Ok(Self { stream, thread: Some(thread) })
    }

    /// Seconds from a keystroke to its echo.
    pub fn keystroke(&mut self) -> Result<f64> {
        let mut echo = [0; 64];
        let (seconds, ()) = timed(|| {
            self.stream.write_all(b"x")?;
            match self.stream.read(&mut echo)? {
                0 => bail!("the relay ended early"),
                _ => Ok(()),
            }
        })?;
        Ok(seconds)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
