//! Kimi Code's dialect, over stdio: its words become ours, and what we say becomes its (`docs/extensions.md`, "Kimi Code's
//! dialect"). The work is the same.

mod answers;
mod flow;

use std::path::Path;
use std::sync::Arc;

use codex_exec_protocol::environment::{EnvironmentInfo, StatusResult};
use codex_exec_protocol::kimi::{self, Capabilities, Environment, InitializeResult};
use codex_exec_protocol::process::{self, WriteStatus};
use codex_exec_protocol::{ErrorCode, Method, ProcessId, RpcError, WirePath, environment, filesystem as fs};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::answer::{AnswerSlot, Request};
use super::session::Session;
use crate::environment::machine::{Machine, Reply};
use crate::process::{LogEvent, Process};
use crate::rpc::{Outbox, decode};
use crate::transport::{FrameBuffer, Framing};
use answers::{Spoken, Subject};
use flow::Flow;

/// Names that one `fs/readDirectory` tells at most. Fixed by the wire.
const MOST_NAMES: usize = 50_000;
/// Bytes that a `fs/readFile` without `maxBytes` gives at most: clients take no message of more than 64 MiB. Fixed by the wire.
const LONGEST_WHOLE_FILE: u64 = 32 << 20;
/// From SIGTERM to SIGKILL, in milliseconds. Fixed by the wire.
const GRACE_MS: u64 = 1000;

/// What a connection that speaks this dialect keeps.
pub(super) struct Kimi {
    machine: Arc<Machine>,
    flow: Arc<Flow>,
}

impl Kimi {
    pub(super) fn new(machine: Arc<Machine>, session: Arc<Session>, outbox: Arc<Outbox>) -> Self {
        Self { machine, flow: Flow::new(session, outbox) }
    }

    /// Whether a process's output is to wait; then it is taken, and given back to the news when that is over.
    pub(super) fn holds(&self, process: &Arc<Process>) -> bool {
        self.flow.holds(process)
    }

    /// Says what a process did.
    pub(super) fn encode(&self, id: &ProcessId, event: LogEvent<'_>, buffer: &mut FrameBuffer) {
        match event {
            LogEvent::Output(chunk) => {
                let expected = chunk.chunk.len().div_ceil(3) * 4 + id.len() + 110;
                buffer.message(expected, |out| kimi::encode_output(id, chunk.stream, &chunk.chunk, out));
            }
            LogEvent::Exited(_, exit) => {
                if self.flow.exit_is_news(id) {
                    buffer.message(128, |out| kimi::encode_exited(id, exit.code, out));
                }
            }
            LogEvent::Closed(_) => {
                self.flow.forget(id);
                buffer.message(128, |out| kimi::encode_closed(id, out));
            }
        }
    }

    /// A notification; whether this dialect has it.
    pub(super) fn notified(&self, method: &str, params: &str) -> bool {
        if method != kimi::FLOW {
            return false;
        }
        // One that can't be read pauses nothing, as from a client that never pauses.
        if let Ok(params) = serde_json::from_str(params) {
            self.flow.set(&self.machine, params);
        }
        true
    }
}

/// Whether an `initialize` is of this dialect: it names the client's version, and comes over lines.
pub(super) fn is_spoken(framing: Framing, params: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        #[serde(rename = "clientVersion")]
        _client_version: String,
        resume_session_id: Option<IgnoredAny>,
    }
    framing == Framing::Lines
        && serde_json::from_str::<Told>(params).is_ok_and(|told| told.resume_session_id.is_none())
}

/// The answer to `initialize`.
pub(super) fn greeting(info: &EnvironmentInfo) -> InitializeResult {
    InitializeResult {
        executor_version: info.executor_version.clone().unwrap_or_default(),
        environment: describe(info),
        capabilities: Capabilities { process_flow: true },
    }
}

fn describe(info: &EnvironmentInfo) -> Environment {
    let bare = |path: &Option<WirePath>, default: &str| {
        let path = path.as_ref().and_then(|path| path.local().ok());
        path.map_or_else(|| default.to_owned(), |path| path.to_string_lossy().into_owned())
    };
    let (shell_name, shell_path) = shell(info);
    Environment {
        os_kind: match info.platform_os.as_deref() {
            Some("macos") => "macOS",
            _ => "Linux",
        }
        .to_owned(),
        os_arch: match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            "x86" => "ia32",
            other => other,
        }
        .to_owned(),
        os_version: kernel_release(),
        shell_name,
        shell_path,
        path_class: "posix".to_owned(),
        home_dir: bare(&info.user_home_dir, "/"),
        cwd: bare(&info.cwd, "/"),
        temp_dir: bare(&info.temp_dir, "/tmp"),
    }
}

/// As `uname -r` has it; clients take no empty text.
fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if release.trim().is_empty() { "unknown".to_owned() } else { release.trim().to_owned() }
}

/// Clients of this dialect write commands for bash, or for sh where there is none.
fn shell(info: &EnvironmentInfo) -> (String, String) {
    if matches!(info.shell.name.as_str(), "bash" | "sh") {
        return (info.shell.name.clone(), info.shell.path.clone());
    }
    let bash = ["/bin/bash", "/usr/bin/bash"].into_iter().find(|path| Path::new(path).exists());
    let (name, path) = bash.map_or(("sh", "/bin/sh"), |path| ("bash", path));
    (name.to_owned(), path.to_owned())
}

/// Begins a request of this dialect; `ready` gives the machine once the handshake is over.
pub(super) fn dispatch(ready: Result<&Arc<Machine>, RpcError>, request: Request<'_>, method: &str) {
    match method {
        environment::Status::NAME => begin::<environment::Status>(ready, request, |_, _, answer| {
            answer.answer(Ok(StatusResult { status: "ready".to_owned() }));
        }),
        kimi::Start::NAME => begin::<kimi::Start>(ready, request, |machine, params, answer| {
            machine.start_known(start(params), Spoken::new(answer, Subject::Program, started));
        }),
        kimi::Write::NAME => begin::<kimi::Write>(ready, request, |machine, params, answer| {
            machine.write(
                write(params),
                Spoken::new(answer, Subject::Other, |written| match written {
                    // What was terminated takes nothing more, which is no failure here.
                    Err(error) if error.code == ErrorCode::INTERNAL => {
                        Ok(process::WriteResult { status: WriteStatus::StdinClosed })
                    }
                    written => written,
                }),
            );
        }),
        kimi::Signal::NAME => begin::<kimi::Signal>(ready, request, |machine, params, answer| {
            machine.signal(params, answer);
        }),
        kimi::Terminate::NAME => {
            begin::<kimi::Terminate>(ready, request, |machine, params, answer| {
                machine.terminate(process::TerminateParams { grace_ms: Some(GRACE_MS), ..params }, answer);
            });
        }
        kimi::Resize::NAME => begin::<kimi::Resize>(ready, request, |machine, params, answer| {
            // A size that crosses the end on its way is no mistake of the client's.
            match machine.known_process(&params.process_id) {
                Some(process) if process.is_ended_terminal() => {
                    answer.answer(Ok(codex_exec_protocol::encode::Empty {}));
                }
                _ => machine.resize(params, answer),
            }
        }),
        _ => file(ready, request, method),
    }
}

fn start(params: kimi::StartParams) -> process::StartParams {
    let mut env = params.env;
    if params.tty {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    }
    process::StartParams {
        process_id: params.process_id,
        argv: params.argv,
        cwd: params.cwd,
        env,
        tty: params.tty,
        arg0: params.arg0,
        pipe_stdin: params.pipe_stdin,
        env_policy: Some(process::EnvPolicy::inherit_all()),
        sandbox: None,
        enforce_managed_network: false,
        managed_network: None,
        network_proxy: None,
        shell_snapshot: None,
        metadata: None,
        rows: None,
        cols: None,
        real_terminal: params.tty,
        timeout_ms: None,
        idle_timeout_ms: None,
        login_environment: None,
        limits: None,
        log: process::LogPlace::default(),
        pull_only: false,
    }
}

fn started(
    result: Result<(process::StartResult, Option<u32>), RpcError>,
) -> Result<kimi::StartResult, RpcError> {
    let (started, pid) = result?;
    let pid = pid.ok_or_else(|| RpcError::internal("the program has no process id"))?;
    Ok(kimi::StartResult { process_id: started.process_id, pid })
}

fn write(params: kimi::WriteParams) -> process::WriteParams {
    process::WriteParams {
        process_id: params.process_id,
        chunk: params.chunk_base64,
        write_id: Some(params.write_id),
        eof: params.eof,
        session_id: None,
        attachment_id: None,
    }
}

/// Begins a method, or answers with what is wrong about the request.
fn begin<M: Method>(
    ready: Result<&Arc<Machine>, RpcError>,
    request: Request<'_>,
    method: impl FnOnce(&Arc<Machine>, M::Params, AnswerSlot),
) {
    match decode::<M>(request.params).and_then(|params| Ok((ready?, params))) {
        Ok((machine, params)) => method(machine, params, request.answer),
        Err(error) => request.answer.fail(error),
    }
}

fn file(ready: Result<&Arc<Machine>, RpcError>, request: Request<'_>, method: &str) {
    match method {
        fs::ReadFile::NAME => {
            begin::<fs::ReadFile>(ready, request, |machine, params, answer| match params.max_bytes {
                Some(_) => machine.read_file(params, Spoken::new(answer, Subject::File, |read| read)),
                None => {
                    let whole = Spoken::new(answer, Subject::File, |read| read.and_then(all_of_it));
                    machine.read_piece(params, LONGEST_WHOLE_FILE, whole);
                }
            })
        }
        fs::WriteFile::NAME => begin::<fs::WriteFile>(ready, request, |machine, params, answer| {
            machine.write_file(params, Spoken::new(answer, Subject::File, |written| written));
        }),
        fs::CreateDirectory::NAME => {
            begin::<fs::CreateDirectory>(ready, request, |machine, mut params, answer| {
                params.recursive.get_or_insert(false);
                machine.create_directory(params, Spoken::new(answer, Subject::File, |made| made));
            });
        }
        kimi::GetMetadata::NAME => {
            begin::<kimi::GetMetadata>(ready, request, |machine, params, answer| {
                let params = fs::GetEntryParams {
                    path: params.path,
                    follow_symlinks: params.follow_symlinks.unwrap_or(true),
                    extents: false,
                    sandbox: None,
                };
                machine.stat(
                    params,
                    Spoken::new(answer, Subject::File, |found| found.map(kimi::Metadata::from)),
                );
            });
        }
        kimi::Canonicalize::NAME => {
            begin::<kimi::Canonicalize>(ready, request, |machine, params, answer| {
                machine.canonicalize(params, Spoken::new(answer, Subject::File, real));
            });
        }
        kimi::ReadDirectory::NAME => {
            begin::<kimi::ReadDirectory>(ready, request, |machine, params, answer| {
                let params = fs::ListParams { path: params.path, sandbox: None };
                machine.list_entries(params, Spoken::new(answer, Subject::File, |list| list.map(names)));
            });
        }
        fs::Remove::NAME => begin::<fs::Remove>(ready, request, |machine, mut params, answer| {
            params.recursive.get_or_insert(false);
            params.force.get_or_insert(false);
            machine.remove(params, Spoken::new(answer, Subject::File, |removed| removed));
        }),
        kimi::Rename::NAME => begin::<kimi::Rename>(ready, request, |machine, params, answer| {
            machine.rename(params, Spoken::new(answer, Subject::File, |renamed| renamed));
        }),
        _ => request.answer.fail(RpcError::method_not_found(method)),
    }
}

fn all_of_it(read: fs::ReadFileResult) -> Result<fs::ReadFileResult, RpcError> {
    match read.eof {
        Some(true) => Ok(read),
        _ => Err(RpcError::invalid_request(format!(
            "fs/readFile without maxBytes reads {LONGEST_WHOLE_FILE} bytes at most; use offset and maxBytes"
        ))),
    }
}

fn real(found: Result<fs::CanonicalizeResult, RpcError>) -> Result<kimi::CanonicalizeResult, RpcError> {
    Ok(kimi::CanonicalizeResult { path: bare(found?.path.local()?)? })
}

/// A path as this dialect has it: text.
fn bare(path: &Path) -> Result<String, RpcError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| RpcError::internal(format!("{} has a name that is no UTF-8 text", path.display())))
}

fn names(list: fs::ListResult) -> kimi::ReadDirectoryResult {
    let truncated = list.entries.len() > MOST_NAMES;
    let entry = |entry: &fs::Entry| {
        let name = entry.path.local().ok()?.file_name()?;
        Some(fs::DirectoryEntry {
            file_name: name.to_string_lossy().into_owned(),
            is_directory: entry.kind == fs::Kind::Directory,
            is_file: entry.kind == fs::Kind::File,
        })
    };
    kimi::ReadDirectoryResult {
        entries: list.entries.iter().take(MOST_NAMES).filter_map(entry).collect(),
        truncated,
    }
}
