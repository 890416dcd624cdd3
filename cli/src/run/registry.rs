//! The flags of `codex exec-server run` that lead to an environment through its registry.

use std::path::PathBuf;

use anyhow::Context as _;
use codex_exec_server::client::{Endpoint, RegistryEnvironment};
use codex_outgoing::file;
use codex_secret::Secret;

/// Holds the registry's access token, as released clients have it.
pub(super) const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN";
/// Holds the account that is sent along, if any.
const ACCOUNT_VARIABLE: &str = "CODEX_EXEC_SERVER_NOISE_CHATGPT_ACCOUNT_ID";

/// An environment that a registry knows.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// The registry through which to reach an environment, as https:// address, or http:// on this machine.
    #[arg(
        long = "registry",
        id = "registry",
        value_name = "URL",
        requires = "environment_id",
        conflicts_with = "url"
    )]
    pub(crate) url: Option<String>,
    /// The environment to use, by the id under which its exec-server registered.
    #[arg(long, value_name = "ID", requires = "registry")]
    pub(crate) environment_id: Option<String>,
    /// A file that holds the registry's access token; without it, CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN holds it.
    #[arg(
        long = "registry-token-file",
        id = "registry_token_file",
        value_name = "PATH",
        requires = "registry"
    )]
    token_file: Option<PathBuf>,
}

impl RegistryArgs {
    /// The endpoint that the flags name, if they name one.
    ///
    /// # Errors
    /// There is no token.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Option<Endpoint>> {
        let (Some(url), Some(environment_id)) = (&self.url, &self.environment_id) else { return Ok(None) };
        let account_id = std::env::var(ACCOUNT_VARIABLE).ok().filter(|id| !id.trim().is_empty());
        Ok(Some(Endpoint::Registry(RegistryEnvironment {
            url: url.clone(),
            environment_id: environment_id.clone(),
            token: self.token()?,
            account_id,
        })))
    }

    fn token(&self) -> anyhow::Result<Secret> {
        let token = match &self.token_file {
            Some(path) => file::read_secret(path)
                .with_context(|| format!("can't read the registry's token from {}", path.display()))?,
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default().into(),
        };
        let place = self.token_file.as_ref().map_or(TOKEN_VARIABLE.into(), |path| path.display().to_string());
        anyhow::ensure!(
            !token.is_blank(),
            "{place} holds no token for the registry; set {TOKEN_VARIABLE} or give --registry-token-file"
        );
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::RunArgs;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(flags: &str) -> Result<RunArgs, clap::Error> {
        let words = ["run"].into_iter().chain(flags.split_whitespace()).chain(["--", "true"]);
        Command::try_parse_from(words).map(|command| command.run)
    }

    #[test]
    fn the_registry_and_the_environment_go_together_and_exclude_an_address() {
        let wrong = [
            "--registry https://h",
            "--environment-id e",
            "--registry-token-file f",
            "--registry https://h --environment-id e --url ws://127.0.0.1:1",
        ];
        for flags in wrong {
            assert!(parse(flags).is_err(), "{flags}");
        }
        assert!(parse("--registry https://h --environment-id e").unwrap().is_remote());
        assert!(!parse("").unwrap().is_remote());
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
        assert!(args.registry.endpoint().unwrap_err().to_string().contains("no token"));
        std::fs::write(&directory, "x".repeat(70_000)).unwrap();
        assert!(format!("{:#}", args.registry.endpoint().unwrap_err()).contains("65536 bytes"));
        std::fs::remove_file(&directory).unwrap();
        assert!(args.registry.endpoint().is_err());
    }
}
