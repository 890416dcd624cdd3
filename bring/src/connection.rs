//! Makes the connection: starts the system's program, follows what the script says, sends the bytes that it asks for.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::error::{BringError, Failure};
use crate::payload::Payload;
use crate::script::{Served, Words, mark, reached};
use crate::stderr::{Heard, StderrOfWay};
use crate::target::{Hop, Target};
use crate::way;

/// What is brought, and where.
#[derive(Debug, Clone)]
pub struct Request {
    /// The way.
    pub target: Target,
    /// The program that is brought, a file of this machine.
    pub binary: PathBuf,
    /// What it does there.
    pub served: Served,
    /// Where it is to lie, in place of the user's cache over there: an absolute path.
    pub directory: Option<String>,
    /// Whether somebody sits at our terminal, whom ssh may ask for passwords.
    pub asks: bool,
}

/// What there is to tell while the connection is made, and afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// The program is not there, and is sent: so many bytes.
    Sends(usize),
    /// A line of stderr, ours or the other side's, once the server runs.
    Said(&'a str),
}

/// Whoever is told of it.
pub type Tell = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// A connection to the server over there.
#[derive(Debug)]
pub struct Connection {
    /// What the server says. Dropping it ends the connection.
    pub input: FromFar,
    /// What it is told.
    pub output: ToFar,
}

/// The way to the server.
pub type ToFar = ChildStdin;

/// The way from the server; owns the program that makes both.
#[derive(Debug)]
pub struct FromFar {
    stdout: BufReader<ChildStdout>,
    _way: WayProgram,
}

/// Until the other side says its first word, where nobody is asked for passwords. ssh itself waits two minutes for a host.
const FIRST_WORD: Duration = Duration::from_secs(150);
/// The same where somebody has to find a password first.
const FIRST_WORD_OF_PEOPLE: Duration = Duration::from_secs(600);
/// Longer than another client may take to bring the program (the script's own bound is 5 minutes).
const OTHER_FLIGHT: Duration = Duration::from_secs(330);
/// Without progress for this long the link is dead.
const NO_PROGRESS: Duration = Duration::from_secs(60);
/// What is printed before the first word of ours, by a login script for example. A safeguard, far from any real use.
const MOST_NOISE: u64 = 1 << 20;
/// What is said of a failure is cut behind this many bytes. A safeguard, far from any real use.
const LONGEST_REASON: u64 = 4096;
/// How long a program that closed its stdout may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Connects. Drop the result, or this while it waits, and the way is cut; what runs attached over there ends.
///
/// # Errors
/// Which step broke, and what to do.
pub async fn connect(request: &Request, tell: Tell) -> Result<Connection, BringError> {
    let opened = open(request, tell).await?;
    // Only who asks about a server is told that there is none.
    opened.ok_or_else(|| at(&request.target, 0, Failure::Damaged { said: "none".into() }))
}

/// Has the program over there say something in place of serving ([`Served::Look`], [`Served::Stop`]): all that it printed, or
/// none where no server stays.
///
/// # Errors
/// As for [`connect`].
pub async fn ask(request: &Request, tell: Tell) -> Result<Option<String>, BringError> {
    let Some(Connection { input, output }) = open(request, tell).await? else { return Ok(None) };
    let mut said = String::new();
    let read = tokio::time::timeout(OTHER_FLIGHT, input.take(LONGEST_REASON).read_to_string(&mut said)).await;
    drop(output);
    let hop = request.target.hops().len().saturating_sub(1);
    match read {
        Ok(Ok(_)) => Ok(Some(said)),
        Ok(Err(error)) => Err(at(&request.target, hop, Failure::Cut { said: error.to_string() })),
        Err(_) => {
            let what = "what the program has to say of the server that stays";
            Err(at(&request.target, hop, Failure::Silent { after: OTHER_FLIGHT, what }))
        }
    }
}

/// Connects, unless only a server that stays is asked about and none does.
async fn open(request: &Request, tell: Tell) -> Result<Option<Connection>, BringError> {
    let path = request.binary.clone();
    let payload = blocking(move || Payload::read(&path)).await?;
    let nonce = format!("{:016x}", rand::random::<u64>());
    let words = Words {
        nonce: &nonce,
        hash: &payload.hash,
        size: payload.size,
        directory: request.directory.as_deref(),
        served: request.served,
    };
    let command =
        way::command(&request.target, &words.script(), |number| reached(&nonce, number), request.asks);
    let not_started = |cause: String| {
        at(&request.target, 0, Failure::NoProgram { program: request.target.program(), cause })
    };
    let mut child = start(&command, request.asks).map_err(|error| not_started(error.to_string()))?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(not_started("its pipes are missing".into()));
    };
    let heard = Arc::new(Heard::default());
    let stderr = StderrOfWay::new(stderr, Arc::clone(&heard), Arc::clone(&tell));
    let talk = Talk {
        request,
        payload: &payload,
        mark: mark(&nonce),
        program: WayProgram { child, stderr },
        stdin,
        stdout: BufReader::with_capacity(64 << 10, stdout),
        heard,
        tell,
        reached: 0,
        stage: Stage::OnTheWay,
    };
    talk.run().await
}

/// Runs on a thread where a disk may be waited for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BringError> + Send + 'static,
) -> Result<T, BringError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(BringError::Binary { path: PathBuf::new(), problem: error.to_string() }),
    }
}

fn at(target: &Target, number: usize, failure: Failure) -> BringError {
    let hop = target.hops().get(number).map_or_else(|| target.to_string(), ToString::to_string);
    BringError::Hop { number, hop, failure }
}

/// Starts the program that makes the way.
fn start(words: &[String], asks: bool) -> io::Result<Child> {
    let (program, arguments) =
        words.split_first().map_or(("ssh", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command;
    if asks {
        // It stays with us in the terminal's foreground, where it may ask, and leaves the keys to us.
        command = Command::new("sh");
        command.args(["-c", "trap '' INT QUIT TSTP; exec \"$0\" \"$@\"", program]);
    } else {
        command = Command::new(program);
        command.process_group(0);
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn()
}

/// Owns the program that makes the way; dropping it ends the program with its helpers.
#[derive(Debug)]
struct WayProgram {
    child: Child,
    stderr: StderrOfWay,
}

impl Drop for WayProgram {
    fn drop(&mut self) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It leads no group where it may ask; then it is ended alone, by its owner.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}

/// The talk with the script over there.
struct Talk<'a> {
    request: &'a Request,
    payload: &'a Payload,
    mark: String,
    program: WayProgram,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    heard: Arc<Heard>,
    tell: Tell,
    /// The number of the hop that is being made, or was made last.
    reached: usize,
    stage: Stage,
}

/// How far the talk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has spoken at the way's end yet.
    OnTheWay,
    /// The script runs there.
    There,
}

/// What the script says.
enum Word {
    /// The machine of this number on the way was reached.
    Hop(usize),
    /// The script runs at the end of the way.
    Here,
    /// The program is wanted: the system, the machine, and how it may come.
    Want(String),
    /// The program is there; the server's own words follow.
    Have,
    /// No server stays there.
    NoServer,
    /// It can't go on.
    Fail(String),
}

impl Talk<'_> {
    async fn run(mut self) -> Result<Option<Connection>, BringError> {
        loop {
            match self.next().await? {
                Word::Hop(number) => self.reached = number,
                Word::Here => (self.reached, self.stage) = (self.last_hop(), Stage::There),
                Word::Want(machine) => self.send(&machine).await?,
                Word::Have => break,
                Word::NoServer => return Ok(None),
                Word::Fail(text) => return Err(self.broke(Failure::of_script(&text, self.payload.size))),
            }
        }
        self.heard.serves();
        let input = FromFar { stdout: self.stdout, _way: self.program };
        Ok(Some(Connection { input, output: self.stdin }))
    }

    /// The number of the last hop.
    fn last_hop(&self) -> usize {
        self.request.target.hops().len().saturating_sub(1)
    }

    /// A failure of the step that is being made.
    fn broke(&self, failure: Failure) -> BringError {
        at(&self.request.target, self.reached, failure)
    }

    /// The script's next word.
    async fn next(&mut self) -> Result<Word, BringError> {
        let (after, what) = match (self.stage, self.request.asks) {
            (Stage::OnTheWay, true) => (FIRST_WORD_OF_PEOPLE, "the other side's first word"),
            (Stage::OnTheWay, false) => (FIRST_WORD, "the other side's first word"),
            (Stage::There, _) => (OTHER_FLIGHT, "the program, which another client may be bringing"),
        };
        match tokio::time::timeout(after, word(&mut self.stdout, &self.mark)).await {
            Ok(Ok(Some(word))) => Ok(word),
            Ok(Ok(None) | Err(_)) => Err(self.ended().await),
            Err(_) => Err(self.broke(Failure::Silent { after, what })),
        }
    }

    /// Sends the program.
    async fn send(&mut self, machine: &str) -> Result<(), BringError> {
        let mut words = machine.split(' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        let (system, machine, packing) = (next(), next(), next());
        if system != "Linux" {
            return Err(self.broke(Failure::System { system }));
        }
        if !self.payload.runs_on(&machine) {
            let built_for = self.payload.machine;
            return Err(self.broke(Failure::Architecture { machine, built_for }));
        }
        let payload = self.payload.clone();
        let packed = packing == "gzip";
        let bytes = blocking(move || payload.bytes(packed)).await?;
        (self.tell)(Event::Sends(bytes.len()));
        let head = format!("{} {}\n", bytes.len(), if packed { "gzip" } else { "raw" });
        match write(&mut self.stdin, [head.as_bytes(), &bytes]).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let what = "the program's bytes to be taken";
                Err(self.broke(Failure::Silent { after: NO_PROGRESS, what }))
            }
            // Whoever takes no more has said why, or is gone.
            Err(_) => match self.next().await? {
                Word::Fail(text) => Err(self.broke(Failure::of_script(&text, self.payload.size))),
                _ => Err(self.ended().await),
            },
        }
    }

    /// Why the program that makes the way has ended.
    async fn ended(&mut self) -> BringError {
        let status = tokio::time::timeout(ENDING, self.program.child.wait()).await;
        // Helpers that hold its stderr may go on.
        let _ = tokio::time::timeout(ENDING, self.program.stderr.ended()).await;
        let said = self.heard.last();
        if self.stage == Stage::There {
            return self.broke(Failure::Cut { said });
        }
        let code = status.ok().and_then(Result::ok).and_then(|status| status.code()).unwrap_or(-1);
        let hop = self.request.target.hops().get(self.reached);
        let program = hop.map_or("ssh", Hop::program);
        if code == 127 && self.reached == 0 && self.request.asks && said.contains("not found") {
            return self.broke(Failure::NoProgram { program, cause: said });
        }
        self.broke(match (Failure::of_hop(program, code, said), hop) {
            (Failure::HostKey { said, .. }, Some(Hop::Ssh { host, .. })) => {
                Failure::HostKey { host: host.clone(), said }
            }
            (other, _) => other,
        })
    }
}

/// Writes these parts, as long as there is progress.
async fn write(stdin: &mut ChildStdin, parts: [&[u8]; 2]) -> io::Result<()> {
    for block in parts.into_iter().flat_map(|part| part.chunks(64 << 10)) {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(NO_PROGRESS, stdin.write_all(block)).await.map_err(|_| late())??;
    }
    stdin.flush().await
}

/// The next line of the script; none at the end.
async fn word(stdout: &mut BufReader<ChildStdout>, mark: &str) -> io::Result<Option<Word>> {
    let mut noise = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        noise += (&mut *stdout).take(MOST_NOISE).read_until(b'\n', &mut line).await? as u64;
        if line.is_empty() {
            return Ok(None);
        }
        if noise > MOST_NOISE {
            return Err(io::Error::other("too much is printed before the first word"));
        }
        let text = String::from_utf8_lossy(&line);
        // A prompt or the like may stand before it.
        let Some((_, said)) = text.split_once(mark) else { continue };
        let (first, rest) = said.trim_end().split_once(' ').unwrap_or((said.trim_end(), ""));
        return Ok(Some(match first {
            "hop" => Word::Hop(rest.parse().unwrap_or_default()),
            "here" => Word::Here,
            "want" => Word::Want(rest.to_owned()),
            "have" => Word::Have,
            "none" => Word::NoServer,
            "fail" => Word::Fail(whole(stdout, rest).await),
            _ => continue,
        }));
    }
}

/// What was said of a failure may have several lines; it is the last that comes.
async fn whole(stdout: &mut BufReader<ChildStdout>, first: &str) -> String {
    let mut rest = Vec::new();
    let mut reason = stdout.take(LONGEST_REASON);
    let _ = tokio::time::timeout(ENDING, reason.read_to_end(&mut rest)).await;
    let rest = String::from_utf8_lossy(&rest);
    let lines = std::iter::once(first).chain(rest.lines()).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

impl AsyncRead for FromFar {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buffer)
    }
}
