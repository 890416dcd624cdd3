//! `codex logout`: revokes and removes the stored credentials (login.md 8.7).

use codex_login::signin;

use crate::login::{Context, Refusal, finish};
use crate::output;
use crate::setup::{ConfigArgs, Setup};

/// Flags of `codex logout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex logout")]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Runs `codex logout` and gives its exit code.
pub(crate) async fn logout(setup: Setup) -> anyhow::Result<u8> {
    Ok(finish(sign_out(&setup).await))
}

async fn sign_out(setup: &Setup) -> Result<u8, Refusal> {
    let context = Context::load(setup, "logout")?;
    let removed = signin::sign_out(&context.settings)
        .await
        .map_err(|error| Refusal::new(format!("Error logging out: {error}")))?;
    output::note(if removed { "Successfully logged out" } else { "Not logged in" });
    Ok(0)
}
