//! `rendezvous status`: which nodes there are, which environments, where each is, and who uses them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use codex_outgoing::{Outgoing, is_loopback, sentence};
use codex_rendezvous::cluster::Health;
use codex_rendezvous::status::{Environment, Node, PATH, Status};
use codex_secret::Secret;
use url::Url;

use super::usage::wrong_usage;
use crate::codes::NO_CREDENTIAL;
use crate::output;
use crate::table::{Table, printed};
use crate::target::read_token;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Holds the rendezvous' URL, as the lines to paste have it.
const URL_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_REGISTRY_URL";
/// Holds the access token, as the lines to paste have it.
const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server rendezvous token --role observer --environment '*' --name operator >> tokens
  codex exec-server rendezvous status --url https://rendezvous.example --token-file observer
  codex exec-server rendezvous status --json | jq '.environments[] | select(.attached | not).environment'")]
pub(super) struct StatusArgs {
    /// The rendezvous, or any node of it, as https:// address, or http:// on this machine; without it,
    /// CODEX_EXEC_SERVER_NOISE_REGISTRY_URL is used.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// File that holds a token with the role observer; without it, CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN holds it. Environments
    /// that the token is not for are not listed.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// Print a JSON object, with everything that is known.
    #[arg(long)]
    json: bool,
}

/// Asks a node, and prints what it knows.
pub(super) async fn status(args: &StatusArgs) -> anyhow::Result<u8> {
    let url = match url(args) {
        Ok(url) => url,
        Err(error) => return wrong_usage(&error),
    };
    let token = match token(args)? {
        Some(token) => token,
        None => {
            output::error(&format!(
                "there is no token; set {TOKEN_VARIABLE}, or give --token-file with one of the role observer"
            ));
            return Ok(NO_CREDENTIAL);
        }
    };
    let status = match ask(&url, &token).await? {
        Some(status) => status,
        None => {
            output::error(&format!(
                "{url} refuses the token: it has to be one with the role observer, as `codex exec-server rendezvous token \
                 --role observer --environment '*'` makes it"
            ));
            return Ok(NO_CREDENTIAL);
        }
    };
    let shown = match args.json {
        true => output::line(&serde_json::to_string_pretty(&status)?),
        false => tables(&status),
    };
    Ok(printed(shown))
}

fn url(args: &StatusArgs) -> anyhow::Result<Url> {
    let variable = || std::env::var(URL_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let url = match (&args.url, variable()) {
        (Some(url), _) => url.clone(),
        (None, Some(text)) => text.trim().parse().with_context(|| format!("{URL_VARIABLE} is no URL"))?,
        (None, None) => bail!("say which rendezvous: --url URL, or {URL_VARIABLE}"),
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.scheme() {
        "https" if plain => Ok(url),
        "http" if plain && is_loopback(&url) => Ok(url),
        "http" if plain => bail!(
            "http://{} has no TLS, and whoever listens on the way would read the token; give an https:// address",
            url.host_str().unwrap_or_default()
        ),
        _ => bail!(
            "the rendezvous' address is https://HOST, or http:// on this machine, without user, password and query"
        ),
    }
}

fn token(args: &StatusArgs) -> anyhow::Result<Option<Secret>> {
    let token = match &args.token_file {
        Some(path) => read_token(path)?,
        None => Secret::new(std::env::var(TOKEN_VARIABLE).unwrap_or_default()),
    };
    Ok(token.trimmed())
}

/// All pages as one; `None` if the token is not taken.
async fn ask(url: &Url, token: &Secret) -> anyhow::Result<Option<Status>> {
    let builder = match url.scheme() {
        "http" => Outgoing::local_http(),
        _ => Outgoing::from_lookup(|name| std::env::var(name).ok()).http(),
    };
    let client = builder?.timeout(PATIENCE).build().map_err(|error| anyhow::anyhow!(sentence(&error)))?;
    let mut all: Option<Status> = None;
    loop {
        let mut page = url.clone();
        page.set_path(&format!("{}{PATH}", url.path().trim_end_matches('/')));
        if let Some(next) = all.as_ref().and_then(|status| status.next.as_ref()) {
            page.query_pairs_mut().append_pair("after", next);
        }
        let asked = client.get(page).bearer_auth(token.expose()).send().await;
        let answer =
            asked.map_err(|error| anyhow::anyhow!("can't ask {url}: {}", sentence(&error.without_url())))?;
        let code = answer.status().as_u16();
        match code {
            200 => {}
            401 | 403 => return Ok(None),
            404 => bail!(
                "{url} answers 404: it is no rendezvous, or one of an earlier release, which has no status"
            ),
            code => bail!("{url} answers {code}"),
        }
        let body = answer
            .bytes()
            .await
            .map_err(|error| anyhow::anyhow!("{url}: {}", sentence(&error.without_url())))?;
        let page: Status = serde_json::from_slice(&body)
            .with_context(|| format!("{url} answers with what is no status of a rendezvous"))?;
        let more = page.next.is_some();
        match &mut all {
            None => all = Some(page),
            Some(all) => {
                // A list that does not go on would never end.
                if page.next.is_some() && page.next <= all.next {
                    bail!("{url} answers with the same page again");
                }
                all.environments.extend(page.environments);
                all.next = page.next;
            }
        }
        if !more {
            return Ok(all);
        }
    }
}

fn tables(status: &Status) -> std::io::Result<()> {
    let mut nodes =
        Table::new(["NODE", "STATE", "ENVIRONMENTS", "EXECUTORS", "HARNESSES", "STREAMS", "QUEUED"]);
    for (at, node) in status.nodes.iter().enumerate() {
        let levels = node.levels;
        let [environments, executors, harnesses, streams, queued] =
            [levels.environments, levels.executors, levels.harnesses, levels.streams, levels.queued]
                .map(|count| count.to_string());
        let state = state(node, if at == 0 { status.broker } else { Health::Alone });
        nodes.row([name(node), state, &environments, &executors, &harnesses, &streams, &queued]);
    }
    nodes.print()?;
    output::line("")?;
    let names: HashMap<_, _> = status.nodes.iter().map(|node| (node.node, name(node))).collect();
    let mut table = Table::new(["ENVIRONMENT", "STATE", "NODE", "HARNESSES", "STREAMS"]);
    for environment in &status.environments {
        let Environment { environment, node, attached, harnesses, streams } = environment;
        let [harnesses, streams] =
            [harnesses, streams].map(|count| count.map_or_else(|| "?".to_owned(), |count| count.to_string()));
        let state = if *attached { "attached" } else { "away" };
        // An environment that is away may have been with a node that has ended.
        let at = names.get(node).copied().filter(|_| *attached).unwrap_or("-");
        table.row([environment, state, at, &harnesses, &streams]);
    }
    table.print()
}

/// A node as people call it.
fn name(node: &Node) -> &str {
    if node.url.is_empty() { "?" } else { node.url.trim_end_matches('/') }
}

/// `health` is that of the node which answers.
fn state(node: &Node, health: Health) -> &'static str {
    match (node.leaving, health) {
        (true, _) => "leaving",
        (false, Health::Degraded) => "degraded",
        (false, Health::Alone | Health::Connected) => "ready",
    }
}
