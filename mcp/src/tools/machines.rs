//! The tool that tells which environments there are.

use codex_exec_protocol::path::WirePath;
use codex_exec_server::client::State;
use serde::Deserialize;
use serde_json::json;

use super::call::Call;
use crate::outcome::{Outcome, Refused};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentsArgs {}

/// Which environments there are, and what confines the tools there. Connects to none.
pub(crate) async fn environments(call: &Call<'_>, _: EnvironmentsArgs) -> Result<Outcome, Refused> {
    let confinement = &call.lender.confinement;
    let (mut text, mut all) = (String::new(), Vec::new());
    for (index, (name, status, there)) in call.lender.environments.known().into_iter().enumerate() {
        let default = index == 0;
        let info = there.as_ref().and_then(|there| there.info.as_ref());
        let cwd = there.as_ref().and_then(|there| confinement.base(there).ok());
        let path = |path: &Option<WirePath>| match path {
            Some(WirePath::Local(path)) => Some(path.clone()),
            _ => None,
        };
        text.push_str(name);
        text.push_str(if default { " (default)" } else { "" });
        let ready = status.state == State::Ready;
        text.push_str(match (status.paused && !ready, status.state) {
            (true, _) => ": paused by whoever runs it; it can't be used until it is resumed",
            (_, State::Ready) => ": connected",
            (_, State::Pending) => ": being connected to",
            (_, State::Disconnected) => ": not connected; the next call tries again",
            (_, State::Unknown) => ": not connected yet",
        });
        if let Some(reason) = &status.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(cwd) = &cwd {
            text.push_str(&format!(", paths begin at {}", cwd.display()));
        }
        text.push('\n');
        all.push(json!({
            "name": name, "default": default, "state": status.state.word(), "paused": status.paused, "connected": ready, "cwd": cwd,
            "os": info.and_then(|info| info.platform_os.clone()), "shell": info.map(|info| info.shell.path.clone()),
            "home": info.and_then(|info| path(&info.user_home_dir)),
        }));
    }
    if !confinement.roots.is_empty() {
        let roots: Vec<_> = confinement.roots.iter().map(|root| root.display().to_string()).collect();
        text.push_str(&format!("Files are confined to {}\n", roots.join(", ")));
    }
    if confinement.permissions.is_some() {
        text.push_str("Programs and files are under a sandbox.\n");
    }
    let data = json!({
        "environments": all, "roots": confinement.roots, "sandbox": confinement.permissions.is_some(),
    });
    Ok(Outcome { text, data })
}
