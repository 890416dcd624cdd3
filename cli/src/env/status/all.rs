//! `env status --all`: how each environment stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_server::client::{EnvironmentError, Environments, State};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::codes::FAILURE;
use crate::output;
use crate::setup::Setup;
use crate::table::{Table, printed};
use crate::target::{self, every};

/// How one stands.
struct Standing<'a> {
    name: &'a str,
    state: State,
    paused: bool,
    reason: Option<String>,
    took: Duration,
}

/// Connects to each that does not rest, and says how each stands.
pub(super) async fn all(json: bool, setup: Setup) -> anyhow::Result<u8> {
    let setup = Arc::new(setup);
    let (environments, names) = match every(&setup, |_| {}) {
        Ok(found) => found,
        Err(error) => return Ok(target::tell(&error)),
    };
    let standings = join_all(names.iter().map(|name| standing(&environments, name))).await;
    environments.close().await;
    let code = match standings.iter().all(|one| one.paused || one.state == State::Ready) {
        true => 0,
        false => FAILURE,
    };
    Ok(printed(print(json, &standings)).max(code))
}

async fn standing<'a>(environments: &Environments, name: &'a str) -> Standing<'a> {
    let began = Instant::now();
    let got = environments.get(name).await;
    let took = began.elapsed();
    // Nobody is left to try again once this command has ended.
    let (state, paused, reason) = match got {
        Ok(_) => (State::Ready, false, None),
        Err(EnvironmentError::Paused(_)) => (State::Unknown, true, None),
        Err(error) => (State::Disconnected, false, Some(error.to_string())),
    };
    Standing { name, state, paused, reason, took }
}

fn print(json: bool, standings: &[Standing<'_>]) -> std::io::Result<()> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if json {
        let all = standings.iter().map(|one| {
            json!({
                "name": one.name, "state": one.state.word(), "paused": one.paused, "reason": one.reason,
                "tookMs": milliseconds(one.took),
            })
        });
        return output::line(&all.collect::<Value>().to_string());
    }
    let mut table = Table::new(["NAME", "STATE", "AFTER", "REASON"]);
    for one in standings {
        let state = if one.paused { "paused" } else { one.state.word() };
        let took = if one.paused { String::new() } else { format!("{} ms", milliseconds(one.took)) };
        table.row([one.name, state, &took, one.reason.as_deref().unwrap_or_default()]);
    }
    table.print()
}
