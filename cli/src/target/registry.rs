//! The flags that lead to an environment through its registry.

use std::path::{Path, PathBuf};

use codex_exec_server::client::{Endpoint, RegistryEnvironment};
use codex_outgoing::file;
use codex_secret::Secret;

use super::TargetError;

/// Holds the registry's access token, as released clients have it.
const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN";
/// Holds the account that is sent along, if any.
const ACCOUNT_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_CHATGPT_ACCOUNT_ID";

/// An environment that a registry knows.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RegistryArgs {
    /// The registry through which to reach an environment: its https:// address, or http:// on this machine.
    #[arg(
        long = "registry",
        id = "registry",
        value_name = "URL",
        requires = "environment_id",
        conflicts_with = "url"
    )]
    url: Option<String>,
    /// The environment to use, by the id under which its exec-server registered.
    #[arg(long, value_name = "ID", requires = "registry")]
    environment_id: Option<String>,
    /// File that holds the registry's access token; without it, CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN holds it.
    #[arg(
        long = "registry-token-file",
        id = "registry_token_file",
        value_name = "PATH",
        requires = "registry"
    )]
    token_file: Option<PathBuf>,
}

impl RegistryArgs {
    /// The address and the id, where they were given.
    pub(super) fn both(&self) -> Option<(&str, &str)> {
        Some((self.url.as_deref()?, self.environment_id.as_deref()?))
    }

    /// The endpoint that the flags name, if they name one.
    ///
    /// # Errors
    /// There is no token.
    pub(super) fn endpoint(&self) -> Result<Option<Endpoint>, TargetError> {
        let Some((url, id)) = self.both() else { return Ok(None) };
        endpoint(url, id, self.token_file.as_deref()).map(Some)
    }
}

/// An environment that a registry knows, with the token in the file or else in the variable.
///
/// # Errors
/// There is no token.
pub(super) fn endpoint(url: &str, id: &str, token_file: Option<&Path>) -> Result<Endpoint, TargetError> {
    let account_id = std::env::var(ACCOUNT_VARIABLE).ok().filter(|id| !id.trim().is_empty());
    Ok(Endpoint::Registry(RegistryEnvironment {
        url: url.to_owned(),
        environment_id: id.to_owned(),
        token: token(token_file)?,
        account_id,
    }))
}

fn token(path: Option<&Path>) -> Result<Secret, TargetError> {
    let token = match path {
        Some(path) => file::read_secret(path).map_err(|error| {
            TargetError::Here(format!("can't read the registry's token from {}: {error}", path.display()))
        })?,
        None => std::env::var(TOKEN_VARIABLE).unwrap_or_default().into(),
    };
    if token.is_blank() {
        let place = path.map_or(TOKEN_VARIABLE.into(), |path| path.display().to_string());
        return Err(TargetError::Credential(format!(
            "{place} holds no token for the registry; set {TOKEN_VARIABLE} or give --registry-token-file"
        )));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::TargetArgs;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn parse(flags: &str) -> Result<TargetArgs, clap::Error> {
        let words = ["run"].into_iter().chain(flags.split_whitespace());
        Command::try_parse_from(words).map(|command| command.target)
    }

    #[test]
    fn the_registry_and_the_environment_go_together_and_exclude_an_address() {
        let wrong = [
            "--registry https://h",
            "--environment-id e",
            "--registry-token-file f",
            "--registry https://h --environment-id e --url ws://127.0.0.1:1",
            "--registry https://h --environment-id e -E box",
            "-E box --url ws://127.0.0.1:1",
            "-E box --token-file f",
        ];
        for flags in wrong {
            assert!(parse(flags).is_err(), "{flags}");
        }
        assert!(parse("--registry https://h --environment-id e").unwrap().registry.both().is_some());
        assert_eq!(parse("-E box").unwrap().environment.as_deref(), Some("box"));
    }

    #[test]
    fn a_token_comes_from_the_file_and_an_empty_one_is_refused() {
        let directory = std::env::temp_dir().join(format!("codex-run-registry-{}", std::process::id()));
        std::fs::write(&directory, "sesame\n").unwrap();
        let flags =
            format!("--registry https://h --environment-id e --registry-token-file {}", directory.display());
        let args = parse(&flags).unwrap();
        let endpoint = format!("{:?}", args.registry.endpoint().unwrap().unwrap());
        assert!(endpoint.contains("https://h") && !endpoint.contains("sesame"), "{endpoint}");
        std::fs::write(&directory, " \n").unwrap();
        let missing = args.registry.endpoint().unwrap_err();
        assert!(missing.to_string().contains("no token") && missing.code() == 4, "{missing}");
        std::fs::write(&directory, "x".repeat(70_000)).unwrap();
        assert!(args.registry.endpoint().unwrap_err().to_string().contains("65536 bytes"));
        std::fs::remove_file(&directory).unwrap();
        assert!(args.registry.endpoint().is_err());
    }
}
