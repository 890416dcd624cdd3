//! `codex exec-server run`: runs one program through an exec-server, as if it ran here.

mod args;
mod io;
mod registry;
mod signals;
mod terminal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use codex_exec_server::client::{
    Bearer, Client, ClientError, ClientOptions, Command, Endpoint, Process, ProcessControl, ProcessEvent,
    Stderr,
};
use codex_exec_server::protocol::environment::Info;
use codex_exec_server::protocol::path::LocalPath;
use codex_exec_server::protocol::process::{
    EnvInherit, EnvPolicy, ExitDetails, SignalName, StartParams, Stream,
};
use codex_exec_server::protocol::{ErrorCode, WirePath, encode::NoParams};
use codex_outgoing::{Outgoing, file};

pub(crate) use args::RunArgs;
pub(crate) use registry::TOKEN_VARIABLE as REGISTRY_TOKEN_VARIABLE;

use crate::setup::Setup;

use io::{Input, Out, Outcome, Output, Room, Unwritten, Watch, say};
use signals::{Asked, Presses, Signals};
use terminal::RawMode;

/// Holds the token for a server with --ws-auth; never handed on to programs.
pub(crate) const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_TOKEN";

/// No connection, or it was lost.
const UNREACHABLE: u8 = 255;
/// `--timeout` ended the program.
const TIMED_OUT: u8 = 124;
/// The program exists but can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// The program does not exist.
const NOT_FOUND: u8 = 127;
/// 128 + SIGPIPE: nobody reads our stdout any more.
const BROKEN_PIPE: u8 = 141;
/// This side can't go on: output can't be written, a token can't be read.
const FAILURE: u8 = 1;
/// Flags that do not go together.
const WRONG_USAGE: u8 = 2;
/// 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// 128 + SIGTERM.
const TERMINATED: u8 = 143;
/// The server ends the program at `--timeout`; one that does not know the option gets this much longer until we do.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);
/// On a terminal, background programs may hold the output open after the program's end; they are not waited for longer.
const TTY_LINGER: Duration = Duration::from_millis(500);
/// SIGTERM for us is SIGTERM for the program, and this long after SIGKILL.
const TERMINATE_GRACE_MS: u64 = 10_000;
/// How long the server may take to answer the last terminate.
const TERMINATE_TIME: Duration = Duration::from_secs(2);

/// Runs the program and gives its exit code (128 + n for a signal, 127 and 126 as in a shell, 124 for `--timeout`, 1
/// with a sentence for output that can't be written, 255 with one for a server that can't be reached or was lost).
///
/// # Errors
/// Only what keeps this side from working at all, such as a terminal that can't be set.
pub(crate) async fn run(args: RunArgs, setup: Setup) -> anyhow::Result<u8> {
    if let Some(problem) = args.problem() {
        say(&problem);
        return Ok(WRONG_USAGE);
    }
    let endpoint = match endpoint(&args, &setup) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            say(&format!("{error:#}"));
            return Ok(FAILURE);
        }
    };
    let options = ClientOptions {
        client_name: "codex-run".into(),
        outgoing: Outgoing::from_lookup(|name| std::env::var(name).ok()),
        ..ClientOptions::default()
    };
    let client = match Client::connect(endpoint, options).await {
        Ok(client) => client,
        Err(error) => {
            say(&error.to_string());
            return Ok(UNREACHABLE);
        }
    };
    let code = run_on(&client, &args).await;
    client.close().await;
    code
}

fn endpoint(args: &RunArgs, setup: &Setup) -> anyhow::Result<Endpoint> {
    if let Some(endpoint) = args.registry.endpoint()? {
        return Ok(endpoint);
    }
    Ok(match &args.url {
        Some(url) => match url.strip_prefix("unix://") {
            Some(path) => Endpoint::Unix { path: PathBuf::from(path) },
            None => Endpoint::WebSocket { url: url.clone(), bearer: token(args)?.map(Bearer::new) },
        },
        None => Endpoint::Command(Command {
            program: std::env::current_exe().context("can't tell where this program's own file is")?,
            // The server reads the same configuration, so its bounds hold here too.
            args: ["exec-server", "--listen", "stdio"]
                .map(String::from)
                .into_iter()
                .chain(setup.to_arguments())
                .collect(),
            env: BTreeMap::new(),
            cwd: None,
            stderr: Stderr::Inherit,
        }),
    })
}

/// The token for a server with --ws-auth, from the file or else from the environment.
fn token(args: &RunArgs) -> anyhow::Result<Option<String>> {
    let Some(path) = &args.token_file else {
        return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()));
    };
    let token =
        file::read_secret(path).with_context(|| format!("can't read the token from {}", path.display()))?;
    anyhow::ensure!(!token.trim().is_empty(), "the token file {} is empty", path.display());
    Ok(Some(token.as_str().to_owned()))
}

async fn run_on(client: &Client, args: &RunArgs) -> anyhow::Result<u8> {
    let cwd = match working_directory(client, args).await {
        Ok(cwd) => cwd,
        Err(error) => {
            say(&format!("{error:#}"));
            return Ok(UNREACHABLE);
        }
    };
    let mut signals = Signals::new()?;
    let process = match client.start(start_params(args, cwd)).await {
        Ok(process) => process,
        Err(error) => return Ok(not_started(args, &error)),
    };
    // Only now: until here, Ctrl-C and messages are those of a plain command.
    let raw = if args.tty { RawMode::enter().context("can't set the terminal to raw mode")? } else { None };
    let mut session = Session::new(process, args);
    let code = session.follow(&mut signals).await;
    drop(raw);
    if let Some(sentence) = session.last_words {
        say(&sentence);
    }
    Ok(code)
}

async fn working_directory(client: &Client, args: &RunArgs) -> anyhow::Result<PathBuf> {
    match (&args.cwd, args.is_remote()) {
        (Some(cwd), true) if cwd.is_absolute() => Ok(cwd.clone()),
        (Some(cwd), true) => {
            anyhow::bail!(
                "--cwd {} is not absolute; with --url and --registry it is a path of the server's machine",
                cwd.display()
            )
        }
        (cwd, false) => {
            let here = std::env::current_dir().context("can't tell the current directory; give --cwd")?;
            Ok(cwd.as_ref().map_or(here.clone(), |cwd| here.join(cwd)))
        }
        (None, true) => {
            let info = match client.environment_info() {
                Some(info) => Some(info),
                None => client.call::<Info>(&NoParams).await.ok(),
            };
            match info.and_then(|info| info.cwd) {
                Some(WirePath::Local(cwd)) => Ok(cwd),
                _ => anyhow::bail!("this exec-server does not say where it works; give --cwd"),
            }
        }
    }
}

fn start_params(args: &RunArgs, cwd: PathBuf) -> StartParams {
    let mut env: BTreeMap<String, String> = args.env.iter().cloned().collect();
    let size = if args.tty { terminal::size() } else { None };
    if args.tty
        && !env.contains_key("TERM")
        && let Ok(term) = std::env::var("TERM")
    {
        env.insert("TERM".into(), term);
    }
    StartParams {
        process_id: "run".into(),
        argv: args.command.clone(),
        cwd: LocalPath(cwd),
        env,
        tty: args.tty,
        arg0: None,
        pipe_stdin: !args.tty,
        env_policy: Some(EnvPolicy {
            inherit: EnvInherit::All,
            ignore_default_excludes: true,
            exclude: Vec::new(),
            set: BTreeMap::new(),
            include_only: Vec::new(),
        }),
        sandbox: None,
        enforce_managed_network: false,
        managed_network: None,
        network_proxy: None,
        shell_snapshot: None,
        metadata: None,
        rows: size.map(|(rows, _)| rows),
        cols: size.map(|(_, cols)| cols),
        timeout_ms: args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        idle_timeout_ms: None,
        limits: None,
    }
}

fn not_started(args: &RunArgs, error: &ClientError) -> u8 {
    let ClientError::Rpc(refusal) = error else {
        say(&error.to_string());
        return UNREACHABLE;
    };
    let program = args.command.first().map_or("", String::as_str);
    say(&format!("can't start {program:?}: {}", refusal.message));
    let text = refusal.message.to_lowercase();
    let about_directory = text.contains("cwd") || text.contains("working directory");
    let missing = ["os error 2)", "no such file", "not found"].iter().any(|word| text.contains(word));
    let code = if missing && !about_directory { NOT_FOUND } else { NOT_EXECUTABLE };
    if refusal.code == ErrorCode::INTERNAL { code } else { NOT_EXECUTABLE }
}

/// One running program, followed to its end.
struct Session {
    process: Process,
    control: ProcessControl,
    tty: bool,
    timeout: Option<Duration>,
    presses: Presses,
    /// SIGTERM came once.
    terminating: bool,
    exit: Option<u8>,
    /// To be said once the terminal is as it was.
    last_words: Option<String>,
}

impl Session {
    fn new(process: Process, args: &RunArgs) -> Self {
        let control = process.control();
        let timeout = args.timeout.map(|time| time.saturating_add(TIMEOUT_MARGIN));
        Self {
            process,
            control,
            tty: args.tty,
            timeout,
            presses: Presses::default(),
            terminating: false,
            exit: None,
            last_words: None,
        }
    }

    async fn follow(&mut self, signals: &mut Signals) -> u8 {
        let (output, mut outcome) = Output::start();
        let mut reader = Watch::start();
        let mut input = std::pin::pin!(pass_input(self.control.clone(), self.tty));
        let mut input_open = true;
        let mut deadline = std::pin::pin!(sleep_for(self.timeout));
        let mut linger = std::pin::pin!(sleep_for(None));
        loop {
            let end_at = self.presses.end_at;
            tokio::select! {
                // Room first: an event without it would be lost.
                (room, event) = async { (output.room().await, self.process.next().await) } => {
                    let lasts = self.exit.is_none();
                    match self.take(event, room) {
                        Next::Continue => {}
                        Next::Finish(code) => return self.flush(output, outcome, signals, code).await,
                        Next::Abort(code) => return self.abort(code).await,
                    }
                    if lasts && self.exit.is_some() {
                        input_open = false;
                        deadline.set(sleep_for(None));
                        if self.tty {
                            linger.set(sleep_for(Some(TTY_LINGER)));
                        }
                    }
                }
                unwritten = outcome.failure() => {
                    let code = self.unwritten(unwritten);
                    return self.abort(code).await;
                }
                () = reader.gone() => return self.abort(BROKEN_PIPE).await,
                complaint = &mut input, if input_open => {
                    input_open = false;
                    self.last_words = complaint;
                }
                () = &mut deadline => return self.abort(TIMED_OUT).await,
                () = until(end_at) => return self.abort(INTERRUPTED).await,
                () = &mut linger => {
                    let code = self.exit.unwrap_or(UNREACHABLE);
                    return self.flush(output, outcome, signals, code).await;
                }
                asked = signals.next() => if let Some(code) = self.asked(asked).await { return code },
            }
        }
    }

    /// What becomes of us when our output can't be written.
    fn unwritten(&mut self, unwritten: Unwritten) -> u8 {
        match unwritten {
            Unwritten::NobodyReads => BROKEN_PIPE,
            Unwritten::Failed { what, error } => {
                self.last_words = Some(format!("can't write to {what}: {error}; the program was ended"));
                FAILURE
            }
        }
    }

    /// Waits until all output is written, or for a signal that ends us.
    async fn flush(&mut self, output: Output, outcome: Outcome, signals: &mut Signals, code: u8) -> u8 {
        let asked = async {
            loop {
                match signals.next().await {
                    Asked::Interrupt => return INTERRUPTED,
                    Asked::Terminate => return TERMINATED,
                    Asked::Forward(_, number) => return 128 + number,
                    Asked::Resize => {}
                }
            }
        };
        tokio::select! {
            written = output.finish(outcome) => match written {
                Ok(()) => code,
                Err(unwritten) => self.unwritten(unwritten),
            },
            code = asked => code,
        }
    }

    fn take(&mut self, event: Option<ProcessEvent>, room: Option<Room>) -> Next {
        // Without room, output can't be written any more; why is told beside.
        let Some(room) = room else { return Next::Continue };
        match event {
            Some(ProcessEvent::Output { stream, bytes }) => {
                let out = if stream == Stream::Stderr { Out::Stderr } else { Out::Stdout };
                room.send((out, bytes));
                Next::Continue
            }
            Some(ProcessEvent::Exited { code, details }) => {
                self.exit = Some(self.exit_code(code, &details));
                Next::Continue
            }
            Some(ProcessEvent::Lost { bytes }) => {
                let amount = bytes.map_or("some".into(), |bytes| bytes.to_string());
                self.last_words =
                    Some(format!("{amount} bytes of output were lost while the connection was away"));
                // The output is not whole: that is never a success.
                Next::Abort(UNREACHABLE)
            }
            Some(ProcessEvent::Disconnected { reason }) => {
                self.last_words = Some(format!("the connection to the exec-server was lost: {reason}"));
                Next::Finish(UNREACHABLE)
            }
            Some(ProcessEvent::Closed) | None => Next::Finish(self.exit.unwrap_or(UNREACHABLE)),
        }
    }

    fn exit_code(&mut self, code: i32, details: &ExitDetails) -> u8 {
        if details.timed_out {
            return TIMED_OUT;
        }
        if let Some(signal) = details.signal {
            return u8::try_from(128 + signal).unwrap_or(UNREACHABLE);
        }
        u8::try_from(code).unwrap_or_else(|_| {
            self.last_words =
                Some("the program was ended by a signal that this exec-server does not name".into());
            128
        })
    }

    /// Does what a signal asks for; gives our exit code when that ends us.
    async fn asked(&mut self, asked: Asked) -> Option<u8> {
        match (asked, self.exit) {
            (Asked::Resize, _) => {
                if let Some((rows, cols)) = terminal::size().filter(|_| self.tty) {
                    // A server without this extension leaves the size as it is; nothing else is harmed.
                    let _ = tokio::time::timeout(TERMINATE_TIME, self.control.resize(rows, cols)).await;
                }
                None
            }
            // The program has ended; only something that holds its output was waited for.
            (_, Some(code)) => Some(code),
            (Asked::Interrupt, None) => {
                let impatient = self.presses.press(std::time::Instant::now());
                if impatient || !self.signal(SignalName::Interrupt).await {
                    return Some(self.abort(INTERRUPTED).await);
                }
                None
            }
            (Asked::Terminate, None) => {
                if std::mem::replace(&mut self.terminating, true) {
                    return Some(self.abort(TERMINATED).await);
                }
                let sent = self.control.terminate(Some(TERMINATE_GRACE_MS));
                match tokio::time::timeout(TERMINATE_TIME, sent).await {
                    // Its end is told like any other, with its last words.
                    Ok(Ok(_)) => None,
                    _ => Some(TERMINATED),
                }
            }
            (Asked::Forward(name, number), None) => {
                if self.signal(name).await {
                    return None;
                }
                // As the signal would have done to us.
                Some(self.abort(128 + number).await)
            }
        }
    }

    /// Signals the program. False when the server does not know the signal, or does not answer.
    async fn signal(&mut self, name: SignalName) -> bool {
        matches!(tokio::time::timeout(TERMINATE_TIME, self.control.signal(name)).await, Ok(Ok(())))
    }

    async fn abort(&mut self, code: u8) -> u8 {
        // Should it fail, the end of the session ends the program.
        let _ = tokio::time::timeout(TERMINATE_TIME, self.control.terminate(None)).await;
        code
    }
}

enum Next {
    Continue,
    /// Nothing more comes: write what is queued, then exit.
    Finish(u8),
    /// End the program, then exit.
    Abort(u8),
}

async fn until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Passes our stdin on, and its end. Gives a sentence when the server can't take its end.
async fn pass_input(control: ProcessControl, tty: bool) -> Option<String> {
    let mut input = Input::start();
    while let Some(bytes) = input.next().await {
        // Once nobody takes input any more, the program's end tells the rest.
        control.write(bytes).await.ok()?;
    }
    match control.close_stdin().await {
        // A terminal has no end; its end-of-file key is what a program waits for.
        Err(ClientError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND && tty => {
            control.write(vec![4]).await.ok();
            None
        }
        Err(ClientError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => Some(error.message),
        _ => None,
    }
}
