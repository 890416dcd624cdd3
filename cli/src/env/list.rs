//! `env ls`: what is written down.

use codex_config::environments::{InUse, LOCAL, Named, Place};
use serde_json::{Value, json};

use crate::output;
use crate::setup::Setup;
use crate::table::{Table, printed};
use crate::target::{self, Far, written_down};

/// Lists the environments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env ls
  codex exec-server env ls --json | jq '.[] | select(.inUse)'")]
pub(super) struct ListArgs {
    /// Print the names alone.
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Lists them; connects to none.
pub(super) fn list(args: &ListArgs, setup: &Setup) -> anyhow::Result<u8> {
    let found = match written_down(setup.own_home().as_deref()) {
        Ok(found) => found,
        Err(error) => return Ok(target::tell(&error)),
    };
    let in_use = match &found.in_use {
        InUse::Local => Some(LOCAL),
        InUse::Named(id) => Some(id.as_str()),
        InUse::None(_) => None,
    };
    if args.quiet {
        let names: String = found.ids().map(|id| format!("{id}\n")).collect();
        return Ok(printed(output::bytes(names.as_bytes())));
    }
    let local = found.include_local.then_some((LOCAL, "local", String::new(), false));
    let others = found.list.iter().map(|named| {
        let (kind, target) = shown(named);
        (named.id.as_str(), kind, target, named.paused)
    });
    let rows = local.into_iter().chain(others);
    if args.json {
        let all: Vec<Value> = rows
            .map(|(id, kind, target, paused)| {
                json!({"name": id, "inUse": in_use == Some(id), "kind": kind, "target": target, "paused": paused})
            })
            .collect();
        return Ok(printed(output::line(&Value::from(all).to_string())));
    }
    let mut table = Table::new(["", "NAME", "KIND", "TARGET", "STATE"]);
    for (id, kind, target, paused) in rows {
        let star = if in_use == Some(id) { "*" } else { "" };
        table.row([star, id, kind, &target, if paused { "paused" } else { "" }]);
    }
    Ok(printed(table.print()))
}

/// Its kind, and where it is, without secrets.
fn shown(named: &Named) -> (&'static str, String) {
    match &named.place {
        Place::Url { url, .. } => ("websocket", codex_exec_server::client::Endpoint::public_url(url)),
        Place::Program { program, args, .. } if let Some(far) = Far::of_words(program, args) => {
            (far.kind(), far.target.to_string())
        }
        Place::Program { program, args, .. } => {
            let words = std::iter::once(program.display().to_string()).chain(args.iter().cloned());
            ("program", words.collect::<Vec<_>>().join(" "))
        }
        Place::Unix { path, .. } => ("socket", format!("unix://{}", path.display())),
        Place::Registry { url, environment_id, .. } => ("registry", format!("{url} {environment_id}")),
    }
}
