//! The tools for programs: start one, come back to it, write to it, signal it, list them.

use std::collections::BTreeMap;

use codex_exec_protocol::process::{LoginEnvironment, SignalName, StartParams};
use codex_exec_server::interactive::{Ask, Budget, Listed, Shape, State};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::call::{Call, program};
use crate::environments::Connected;
use crate::lent::Lent;
use crate::limits::TERMINATE_GRACE;
use crate::looks::{exit_code, millis, shown, word};
use crate::outcome::{Outcome, Refused, Reply};

/// Variables that keep programs from asking a terminal, and from showing pages that nobody turns.
const PLAIN: [(&str, &str); 5] =
    [("TERM", "dumb"), ("NO_COLOR", "1"), ("PAGER", "cat"), ("GIT_PAGER", "cat"), ("GH_PAGER", "cat")];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecArgs {
    command: Option<String>,
    argv: Option<Vec<String>>,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    tty: bool,
    stdin: Option<String>,
    #[serde(default)]
    interactive: bool,
    yield_ms: Option<u64>,
    max_bytes: Option<u64>,
    timeout_ms: Option<u64>,
    environment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadArgs {
    process: String,
    cursor: Option<u64>,
    yield_ms: Option<u64>,
    max_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteArgs {
    process: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    close: bool,
    yield_ms: Option<u64>,
    max_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalArgs {
    process: String,
    signal: SignalName,
    yield_ms: Option<u64>,
    max_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListArgs {}

pub(crate) async fn exec(call: &Call<'_>, args: ExecArgs) -> Result<Reply, Refused> {
    let there = call.lender.environments.get(args.environment.as_deref()).await?;
    let params = start_params(call, &there, &args).await?;
    let tty = args.tty;
    let limits = &call.lender.limits;
    let asked = Instant::now();
    // It makes no room for others before this call has looked at it.
    let started = call.with_place(there.programs.start_within(limits.longest_wait, params)).await?;
    let id = &started.process;
    if let Some(text) = args.stdin {
        // A program that ended without reading it says so itself.
        let _ = there.programs.write(id, text.into_bytes()).await;
        if !args.interactive && !tty {
            there.programs.close_stdin(id).await?;
        }
    }
    // Somebody who wants to type, or to be answered by a certain time, is not helped by a task.
    let may_be_task = args.yield_ms.is_none() && !tty && !args.interactive && call.has_tasks();
    let wait = if may_be_task { limits.short_wait } else { limits.wait(args.yield_ms, limits.usual_wait) };
    let most = limits.shown(args.max_bytes);
    let ask = Ask {
        cursor: Some(0),
        wait: wait.min(limits.longest_wait.saturating_sub(asked.elapsed())),
        budget: Budget::Bytes(most),
        shape: Shape::HeadAndTail,
    };
    let outcome = look(call, &there, id, ask).await?;
    match there.programs.listed(id) {
        Ok(line) if may_be_task && line.state == State::Running => {
            let Lent { tasks, environments, .. } = call.lender;
            Ok(Reply::Begun(tasks.begin(environments, limits, &line, most)))
        }
        _ => Ok(outcome.into()),
    }
}

async fn start_params(call: &Call<'_>, there: &Connected, args: &ExecArgs) -> Result<StartParams, Refused> {
    let login_shell = there.info.as_ref().map_or("/bin/sh", |info| info.shell.path.as_str());
    let argv = match (&args.command, &args.argv) {
        (Some(command), None) => vec![login_shell.to_owned(), "-lc".to_owned(), command.clone()],
        (None, Some(argv)) if !argv.is_empty() => argv.clone(),
        (None, Some(_)) => return Err(Refused::because("argv must name a program")),
        _ => return Err(Refused::because("give either command, for the login shell, or argv")),
    };
    let bad = args.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0']));
    if let Some(name) = bad {
        return Err(Refused(format!("{name:?} can't be the name of a variable")));
    }
    let confinement = &call.lender.confinement;
    let cwd = match &args.cwd {
        Some(cwd) => confinement.place(there, cwd, false).await?.path,
        None => confinement.base(there)?,
    };
    let mut params = program(argv, cwd, confinement.sandbox(there)?);
    params.login_environment = args.command.is_some().then_some(LoginEnvironment::Remembered);
    params.env = PLAIN.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    params.env.extend(args.env.clone());
    params.tty = args.tty;
    params.pipe_stdin = !args.tty && (args.interactive || args.stdin.is_some());
    params.timeout_ms = args.timeout_ms;
    Ok(params)
}

pub(crate) async fn exec_read(call: &Call<'_>, args: ReadArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.with_program(&args.process).await?;
    let limits = &call.lender.limits;
    let shape = if args.cursor.is_some() { Shape::Page } else { Shape::HeadAndTail };
    let ask = Ask {
        cursor: args.cursor,
        wait: limits.wait(args.yield_ms, limits.usual_wait),
        budget: Budget::Bytes(limits.shown(args.max_bytes)),
        shape,
    };
    look(call, &there, &args.process, ask).await
}

pub(crate) async fn exec_write(call: &Call<'_>, args: WriteArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.with_program(&args.process).await?;
    if args.text.is_empty() && !args.close {
        return Err(Refused::because(
            "give text to write, or close: true to end the input; exec_read only looks",
        ));
    }
    if !args.text.is_empty() {
        there.programs.write(&args.process, args.text.into_bytes()).await?;
    }
    if args.close {
        there.programs.close_stdin(&args.process).await?;
    }
    rest(call, &there, &args.process, args.yield_ms, args.max_bytes).await
}

pub(crate) async fn exec_signal(call: &Call<'_>, args: SignalArgs) -> Result<Outcome, Refused> {
    let there = call.lender.environments.with_program(&args.process).await?;
    match args.signal {
        // These two are for all that it has started, too.
        SignalName::Kill => drop(there.programs.terminate(&args.process, None).await?),
        SignalName::Terminate => drop(there.programs.terminate(&args.process, Some(TERMINATE_GRACE)).await?),
        other => there.programs.signal(&args.process, other).await?,
    }
    rest(call, &there, &args.process, args.yield_ms, args.max_bytes).await
}

/// What has come since the last look, after a short wait.
async fn rest(
    call: &Call<'_>,
    there: &Connected,
    id: &str,
    yield_ms: Option<u64>,
    max_bytes: Option<u64>,
) -> Result<Outcome, Refused> {
    let limits = &call.lender.limits;
    let ask = Ask {
        cursor: None,
        wait: limits.wait(yield_ms, limits.short_wait),
        budget: Budget::Bytes(limits.shown(max_bytes)),
        shape: Shape::HeadAndTail,
    };
    look(call, there, id, ask).await
}

pub(crate) async fn exec_list(call: &Call<'_>, _: ListArgs) -> Result<Outcome, Refused> {
    let (mut text, mut lines) = (String::new(), Vec::new());
    for (name, _, there) in call.lender.environments.known() {
        for line in there.iter().flat_map(|there| there.programs.list()) {
            text.push_str(&listed(name, &line));
            lines.push(json!({
                "process": line.process, "environment": name, "argv": line.argv, "tty": line.tty,
                "state": word(&line.state), "exit_code": exit_code(&line.state),
                "age_ms": millis(line.age), "total_bytes": line.total_bytes, "unread_bytes": line.unread_bytes,
            }));
        }
    }
    if lines.is_empty() {
        text.push_str("No programs.");
    }
    Ok(Outcome { text, data: json!({"processes": lines}) })
}

fn listed(environment: &str, line: &Listed) -> String {
    /// Characters of a command that a list shows.
    const SHOWN: usize = 200;
    let command: String = line.argv.join(" ").chars().take(SHOWN).collect();
    let state = match &line.state {
        State::Exited { code, .. } => format!("exited with {code}"),
        other => word(other).to_owned(),
    };
    let (age, unread, total) = (line.age.as_secs(), line.unread_bytes, line.total_bytes);
    format!(
        "{} on {environment}: {state}, {age} s old, {unread} of {total} bytes unread: {command}\n",
        line.process
    )
}

/// Waits and looks, and tells of progress meanwhile. A call that is given up leaves the program as it is.
async fn look(call: &Call<'_>, there: &Connected, id: &str, ask: Ask) -> Result<Outcome, Refused> {
    let printed = || there.programs.listed(id).map_or(0, |line| line.total_bytes);
    let reading = call.with_progress(there.programs.read(id, &ask), printed).await?;
    Ok(shown(&there.name, &reading))
}
