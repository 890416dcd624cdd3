//! `rendezvous token add`, `rm` and `ls`: the tokens that the nodes of a rendezvous share.

use anyhow::{Context, bail};
use codex_rendezvous::cluster::{SharedTokens, SharedTokensError};
use codex_rendezvous::tokens::Grant;
use serde_json::json;

use super::{AddArgs, BrokerArgs, LsArgs, RmArgs, is_file, mint, nowhere_to_show};
use crate::codes::FAILURE;
use crate::output::{self, note};
use crate::rendezvous::token_file::read_tokens;
use crate::rendezvous::usage::wrong_usage;
use crate::setup::Setup;
use crate::table::{Table, printed};

/// Shortest beginning of a hash that names a token. Our own pace: nothing outside depends on it.
const SHORTEST_HASH: usize = 8;

/// Why the list stays as it is.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    Shared(#[from] SharedTokensError),
    #[error("no shared token is called {0:?}; `codex exec-server rendezvous token ls` lists them")]
    Unknown(String),
    #[error("{0:?} may be several of the shared tokens; give more of the hash")]
    Ambiguous(String),
}

/// Adds a new token, or those of a file.
pub(super) async fn add(args: AddArgs, setup: &Setup) -> anyhow::Result<u8> {
    if let Some(problem) = nowhere_to_show().filter(|_| args.from.is_none()) {
        return wrong_usage(&problem);
    }
    let broker = match flags(args.broker, setup)? {
        Ok(broker) => broker,
        Err(problem) => return wrong_usage(&problem),
    };
    let (token, grants) = match &args.from {
        Some(path) => (None, read_tokens(path)?),
        None => {
            let (token, grant) = mint(&args.role, &args.environment, &args.name);
            (Some(token), vec![grant])
        }
    };
    let shared = open(&broker).await?;
    shared
        .change::<ChangeError>(|known| {
            known.retain(|known| grants.iter().all(|grant| grant.hash != known.hash));
            known.extend(grants.iter().cloned());
            Ok(())
        })
        .await?;
    match token {
        None => note(&format!("{} tokens are shared now.", grants.len())),
        Some(token) if is_file(std::io::stdout()) => {
            note("The token, shown this once:");
            note(token.expose());
        }
        Some(token) => {
            output::line(token.expose()).context("can't print the token")?;
            note("That is the token, shown this once. It is good at all nodes.");
        }
    }
    Ok(0)
}

/// Takes tokens away.
pub(super) async fn rm(args: RmArgs, setup: &Setup) -> anyhow::Result<u8> {
    let broker = match flags(args.broker, setup)? {
        Ok(broker) => broker,
        Err(problem) => return wrong_usage(&problem),
    };
    let shared = open(&broker).await?;
    let changed = shared.change(|known| {
        for name in &args.tokens {
            let at = find(known, name)?;
            known.remove(at);
        }
        Ok::<_, ChangeError>(())
    });
    match changed.await {
        Ok(()) => Ok(0),
        Err(error @ (ChangeError::Unknown(_) | ChangeError::Ambiguous(_))) => {
            output::error(&error.to_string());
            Ok(FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where the token of this hash or name is.
fn find(grants: &[Grant], name: &str) -> Result<usize, ChangeError> {
    let is_hash = name.len() >= SHORTEST_HASH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = name.to_ascii_lowercase();
    let meant = |grant: &Grant| grant.name == name || (is_hash && grant.hash.to_string().starts_with(&hash));
    let mut found = grants.iter().enumerate().filter(|(_, grant)| meant(grant)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => Err(ChangeError::Unknown(name.to_owned())),
        (Some(_), Some(_)) => Err(ChangeError::Ambiguous(name.to_owned())),
    }
}

/// Lists what is shared.
pub(super) async fn ls(args: LsArgs, setup: &Setup) -> anyhow::Result<u8> {
    let broker = match flags(args.broker, setup)? {
        Ok(broker) => broker,
        Err(problem) => return wrong_usage(&problem),
    };
    let grants = open(&broker).await?.grants().await?;
    let roles = |grant: &Grant| grant.roles.iter().map(|role| role.word()).collect::<Vec<_>>();
    if args.json {
        let all: Vec<_> = grants
            .iter()
            .map(|grant| {
                json!({"token": grant.hash.short(), "roles": roles(grant), "environments": grant.scope.to_string(),
                       "name": grant.name})
            })
            .collect();
        return Ok(printed(output::line(&serde_json::to_string_pretty(&all)?)));
    }
    let mut table = Table::new(["TOKEN", "ROLES", "ENVIRONMENTS", "NAME"]);
    for grant in &grants {
        table.row([&grant.hash.short(), &roles(grant).join(","), &grant.scope.to_string(), &grant.name]);
    }
    Ok(printed(table.print()))
}

/// The flags with what the configuration adds, or what is missing.
fn flags(args: BrokerArgs, setup: &Setup) -> anyhow::Result<Result<BrokerArgs, anyhow::Error>> {
    let settings = setup.exec_server(true)?.rendezvous;
    Ok(args.or(&settings).and_then(|args| {
        if args.is_empty() {
            bail!("say where the shared tokens are: --cluster nats://HOST:PORT, as the nodes have it");
        }
        if args.secret_file().is_none() {
            bail!("the shared tokens are sealed with the cluster's secret; add --cluster-secret-file");
        }
        Ok(args)
    }))
}

async fn open(broker: &BrokerArgs) -> anyhow::Result<SharedTokens> {
    let config = broker.cluster(None, true)?.context("the broker or the secret is missing")?;
    Ok(SharedTokens::connect(&config).await?)
}

#[cfg(test)]
mod tests {
    use codex_rendezvous::tokens::parse_file;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_name_or_the_beginning_of_its_hash() {
        let line =
            |digit: &str, rest: &str| format!("executor * {}{} {rest}\n", digit.repeat(8), "0".repeat(56));
        let text = line("a", "one") + &line("b", "two words") + &line("c", "twin") + &line("d", "twin");
        let grants = parse_file(&text).unwrap();
        for (name, found) in [
            ("one", Some(0)),
            ("two words", Some(1)),
            ("aaaaaaaa", Some(0)),
            ("BBBBBBBB0", Some(1)),
            ("aaaaaaa", None),
            ("twin", None),
            ("", None),
            ("eeeeeeee", None),
        ] {
            assert_eq!(find(&grants, name).ok(), found, "{name}");
        }
        assert!(find(&grants, "twin").unwrap_err().to_string().contains("several"));
    }
}
