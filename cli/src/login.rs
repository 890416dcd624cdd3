//! `codex login`: signs in by browser, device code, API key or access token, and tells who is signed in (login.md 8).
//!
//! All lines go to stderr, as released programs have it; only the device code's prompt goes to stdout.

mod browser;
mod chatgpt;
mod context;
mod log;
mod piped;
mod prompt;
mod refusal;
mod save;
mod secret_input;
mod status;

use codex_login::Secret;
use codex_login::signin::Issuer;

pub(crate) use context::Context;
pub(crate) use refusal::{Refusal, finish};

use crate::setup::{ConfigArgs, Setup};
use chatgpt::Way;

/// Flags of `codex login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex login
  codex login --device-auth
  printenv OPENAI_API_KEY | codex login --with-api-key
  printenv CODEX_ACCESS_TOKEN | codex login --with-access-token")]
pub(crate) struct LoginArgs {
    #[command(subcommand)]
    command: Option<LoginCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Read an API key from standard input.
    #[arg(long)]
    with_api_key: bool,
    /// Read an access token from standard input.
    #[arg(long, conflicts_with = "device_auth")]
    with_access_token: bool,
    /// Sign in by a code that you enter on another device, for a machine without a browser. Beats --with-api-key.
    #[arg(long)]
    device_auth: bool,
    /// No longer supported: on the command line, every user of the machine could read it.
    #[arg(long, hide = true, value_name = "KEY", value_parser = secret)]
    api_key: Option<Secret>,
    /// Another issuer; only with --device-auth.
    #[arg(long = "experimental_issuer", hide = true, value_name = "URL")]
    issuer: Option<String>,
    /// Another client id; only with --device-auth.
    #[arg(long = "experimental_client-id", hide = true, value_name = "ID")]
    client_id: Option<String>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(text.into())
}

#[derive(Debug, clap::Subcommand)]
enum LoginCommand {
    /// Tell who is signed in; exit code 1 if nobody is.
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex login status || codex login")]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl LoginArgs {
    /// Takes the configuration flags of this level and the one below.
    pub(crate) fn take_config(&mut self) -> ConfigArgs {
        let mut config = std::mem::take(&mut self.config);
        if let Some(LoginCommand::Status(status)) = &mut self.command {
            config.extend(std::mem::take(&mut status.config));
        }
        config
    }
}

/// Runs `codex login` and gives its exit code.
pub(crate) async fn login(args: LoginArgs, setup: Setup) -> anyhow::Result<u8> {
    let work = async {
        match &args.command {
            Some(LoginCommand::Status(_)) => status::status(&setup).await,
            None => sign_in(&args, &setup).await,
        }
    };
    Ok(finish(work.await))
}

async fn sign_in(args: &LoginArgs, setup: &Setup) -> Result<u8, Refusal> {
    if args.with_api_key && args.with_access_token {
        return Err(Refusal::new(
            "Choose one login credential source: --with-api-key or --with-access-token.",
        ));
    }
    if args.api_key.is_some() {
        return Err(Refusal::new(
            "The --api-key flag is no longer supported. Pipe the key instead, e.g. \
             `printenv OPENAI_API_KEY | codex login --with-api-key`.",
        ));
    }
    if args.device_auth {
        let issuer = Issuer::default();
        let issuer = Issuer {
            url: args.issuer.clone().unwrap_or(issuer.url),
            client_id: args.client_id.clone().unwrap_or(issuer.client_id),
        };
        return chatgpt::sign_in(setup, Way::Device(issuer)).await;
    }
    if args.with_api_key {
        return piped::with_api_key(setup).await;
    }
    if args.with_access_token {
        return piped::with_access_token(setup).await;
    }
    chatgpt::sign_in(setup, Way::Browser).await
}
