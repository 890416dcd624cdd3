//! Signs in with ChatGPT, by browser or by device code (login.md 8.3, 8.5).

use codex_config::LoginMethod;
use codex_login::signin::{self, Browser, Issuer, Notice, SignIn, SignInError, SignedIn, Waits};
use codex_login::{ClientError, LoadError};

use super::context::Context;
use super::refusal::{CHATGPT_DISABLED, Refusal};
use super::save::check_writable;
use super::{browser, prompt};
use crate::codes::INTERRUPTED;
use crate::output;
use crate::setup::Setup;

/// How one signs in with ChatGPT.
pub(super) enum Way {
    Browser,
    Device(Issuer),
}

/// Signs in and gives the exit code.
pub(super) async fn sign_in(setup: &Setup, way: Way) -> Result<u8, Refusal> {
    let context = Context::load(
        setup,
        match way {
            Way::Browser => "login by browser",
            Way::Device(_) => "login by device code",
        },
    )?;
    if !context.settings.restrictions.allow_method(LoginMethod::Chatgpt) {
        return Err(Refusal::new(CHATGPT_DISABLED));
    }
    let outcome = tokio::select! {
        outcome = replace_sign_in(&context, way) => outcome,
        () = interrupt() => {
            tracing::info!("interrupted");
            return Ok(INTERRUPTED);
        }
    };
    if let Err(error) = outcome {
        tracing::warn!(kind = error.kind(), "sign-in failed");
        let mut lines: Vec<String> = error.first_line().into_iter().collect();
        lines.push(format!("Error logging in: {error}"));
        return Err(Refusal(lines));
    }
    output::note("Successfully logged in");
    Ok(0)
}

/// Waits for Ctrl-C; where it can't be listened for, it ends the program by itself.
async fn interrupt() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "can't listen for Ctrl-C");
        std::future::pending().await
    }
}

/// Signs in, then signs out who was signed in before; who gives up half-way stays signed in (login.md 8.3).
async fn replace_sign_in(context: &Context, way: Way) -> Result<(), FlowError> {
    let settings = &context.settings;
    settings.client.prepare().await?;
    let http = settings.client.plain()?.clone();
    // Nobody signs in for nothing.
    check_writable(settings.store.clone()).await?;
    let issuer = match &way {
        Way::Browser => Issuer::default(),
        Way::Device(issuer) => issuer.clone(),
    };
    let sign_in = SignIn {
        issuer,
        http,
        workspaces: settings.restrictions.workspaces.clone(),
        waits: Waits::default(),
    };
    let mut replaced = None;
    let keep = async |signed_in: SignedIn| -> Result<(), KeepError> {
        let credentials = signed_in.into_credentials(&sign_in.issuer)?;
        replaced = signin::replace_sign_in(settings, credentials).await?;
        Ok(())
    };
    match way {
        Way::Browser => {
            let browser = Browser {
                ports: signin::PORTS.to_vec(),
                originator: settings.client.originator().to_owned(),
            };
            signin::sign_in_by_browser(&sign_in, &browser, show, keep).await?;
        }
        Way::Device(_) => signin::sign_in_by_device(&sign_in, show, keep).await?,
    }
    if let Some(old) = replaced {
        signin::revoke_replaced(settings, &old).await;
    }
    Ok(())
}

/// Shows the user what a sign-in waits for.
fn show(notice: Notice<'_>) {
    match notice {
        Notice::Visit { port, url } => {
            prompt::visit(port, url);
            browser::open(url);
        }
        Notice::EnterCode { page, code } => prompt::enter_code(page, code),
        Notice::NoAuthClaims => prompt::no_auth_claims(),
    }
}

/// Why what a sign-in brought is not kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Claims(#[from] codex_login::claims::ClaimsError),
    #[error(transparent)]
    Store(#[from] LoadError),
}

/// Why a sign-in with ChatGPT failed.
#[derive(Debug, thiserror::Error)]
enum FlowError {
    #[error(transparent)]
    SignIn(#[from] SignInError),
    #[error(transparent)]
    Store(#[from] LoadError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl FlowError {
    fn first_line(&self) -> Option<String> {
        match self {
            Self::SignIn(error) => error.first_line(),
            Self::Store(_) | Self::Client(_) => None,
        }
    }

    /// A word for the log. The message itself may hold foreign text, which is for the user only.
    fn kind(&self) -> &str {
        match self {
            Self::SignIn(SignInError::Failed(failure) | SignInError::DeviceRefused(failure)) => {
                failure.code()
            }
            Self::SignIn(_) => "sign_in",
            Self::Store(_) => "store",
            Self::Client(_) => "client",
        }
    }
}
