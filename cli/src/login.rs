//! `codex login`: signs in by browser, device code, API key or access token, and tells who is signed in (spec 8).
//!
//! All lines go to stderr, as released programs have it; only the device code's prompt goes to stdout.

mod browser;
mod context;
mod log;
mod prompt;
mod secret_input;
mod status;

use std::fmt::Display;

use codex_config::{LoginMethod, StoreMode};
use codex_login::signin::{self, Browser, Issuer, Notice, SignIn, SignInError, SignedIn, Waits};
use codex_login::{Credentials, LoadError, SecretString, Store, StoreError, personal_token};

pub(crate) use context::Context;
pub(crate) use log::start_logging;

use crate::output;
use crate::setup::{ConfigArgs, Setup};
use secret_input::SecretInput;

/// The exit code after Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

const CHATGPT_DISABLED: &str = "ChatGPT login is disabled. Use API key login instead.";
const API_KEY_DISABLED: &str = "API key login is disabled. Use ChatGPT login instead.";

/// Flags of `codex login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    #[command(subcommand)]
    command: Option<LoginCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Read an API key from standard input, for example: printenv OPENAI_API_KEY | codex login --with-api-key
    #[arg(long)]
    with_api_key: bool,
    /// Read an access token from standard input, for example: printenv CODEX_ACCESS_TOKEN | codex login --with-access-token
    #[arg(long)]
    with_access_token: bool,
    /// Sign in by a code that you enter on another device, for a machine without a browser.
    #[arg(long)]
    device_auth: bool,
    /// No longer supported: on the command line, every user of the machine could read it.
    #[arg(long, hide = true, value_name = "KEY", value_parser = secret)]
    api_key: Option<SecretString>,
    /// Another issuer; only with --device-auth.
    #[arg(long = "experimental_issuer", hide = true, value_name = "URL")]
    issuer: Option<String>,
    /// Another client id; only with --device-auth.
    #[arg(long = "experimental_client-id", hide = true, value_name = "ID")]
    client_id: Option<String>,
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

#[derive(Debug, clap::Subcommand)]
enum LoginCommand {
    /// Tell who is signed in; exit code 1 if nobody is.
    Status(StatusArgs),
}

#[derive(Debug, clap::Args)]
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

/// Why a login command ends without doing its work: the lines to print. The exit code is 1.
pub(crate) struct Refusal(Vec<String>);

impl Refusal {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

/// Prints how a login command ended and gives its exit code.
pub(crate) fn finish(outcome: Result<u8, Refusal>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(Refusal(lines)) => {
            lines.iter().for_each(|line| output::note(line));
            1
        }
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
        return by_chatgpt(setup, Way::Device(issuer)).await;
    }
    if args.with_api_key {
        return with_api_key(setup).await;
    }
    if args.with_access_token {
        return with_access_token(setup).await;
    }
    by_chatgpt(setup, Way::Browser).await
}

async fn with_api_key(setup: &Setup) -> Result<u8, Refusal> {
    let key = secret_input::read(&SecretInput {
        what: "API key",
        flag: "--with-api-key",
        variable: "OPENAI_API_KEY",
    })?;
    let context = Context::load(setup, "login with an API key")?;
    if !context.config.permits(LoginMethod::Api) {
        return Err(Refusal::new(API_KEY_DISABLED));
    }
    let failed = |error: LoadError| Refusal::new(format!("Error logging in: {error}"));
    save(context.settings.store, Credentials::from_api_key(key)).await.map_err(failed)?;
    output::note("API key saved. Authentication is checked when you send a request.");
    Ok(0)
}

async fn with_access_token(setup: &Setup) -> Result<u8, Refusal> {
    let token = secret_input::read(&SecretInput {
        what: "access token",
        flag: "--with-access-token",
        variable: "CODEX_ACCESS_TOKEN",
    })?;
    let context = Context::load(setup, "login with an access token")?;
    if !context.config.permits(LoginMethod::Chatgpt) {
        return Err(Refusal::new(CHATGPT_DISABLED));
    }
    let failed = |error: &dyn Display| Refusal::new(format!("Error logging in with access token: {error}"));
    let credentials = personal_token(&context, token).await.map_err(|error| failed(&error))?;
    save(context.settings.store, credentials).await.map_err(|error| failed(&error))?;
    output::note("Successfully logged in");
    Ok(0)
}

/// The credentials of a personal access token, once the service has said whose it is and its account may be used.
async fn personal_token(context: &Context, token: SecretString) -> Result<Credentials, TokenError> {
    use codex_login::ExposeSecret as _;
    if !token.expose_secret().starts_with(personal_token::PREFIX) {
        return Err(LoadError::AgentIdentity.into());
    }
    let settings = &context.settings;
    let owner = personal_token::look_up(&settings.client, &settings.variables, &token)
        .await
        .map_err(LoadError::from)?;
    match &settings.restrictions.workspaces {
        Some(allowed) if !settings.restrictions.allow_workspace(Some(&owner.account_id)) => {
            Err(signin::Failure::Workspace(allowed.clone()).into())
        }
        _ => Ok(Credentials::from_personal_access_token(token)),
    }
}

/// Why a personal access token can't be used.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Restricted(#[from] signin::Failure),
}

/// How one signs in with ChatGPT.
enum Way {
    Browser,
    Device(Issuer),
}

async fn by_chatgpt(setup: &Setup, way: Way) -> Result<u8, Refusal> {
    let context = Context::load(
        setup,
        match way {
            Way::Browser => "login by browser",
            Way::Device(_) => "login by device code",
        },
    )?;
    if !context.config.permits(LoginMethod::Chatgpt) {
        return Err(Refusal::new(CHATGPT_DISABLED));
    }
    let outcome = tokio::select! {
        outcome = replace_sign_in(&context, way) => outcome,
        _ = tokio::signal::ctrl_c() => {
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

/// Signs out whoever is signed in, then signs in; who gives up half-way is signed out (spec 8.3).
async fn replace_sign_in(context: &Context, way: Way) -> Result<(), FlowError> {
    let settings = &context.settings;
    match signin::sign_out(settings).await {
        // The sign-in that follows goes to the file, then, and hides nothing.
        Err(LoadError::Store(StoreError::RemoveKeyring(_))) if settings.store.mode() == StoreMode::Auto => {}
        outcome => drop(outcome?),
    }
    let issuer = match &way {
        Way::Browser => Issuer::default(),
        Way::Device(issuer) => issuer.clone(),
    };
    let http = settings.client.plain().map_err(|error| FlowError::Client(error.to_string()))?.clone();
    let sign_in = SignIn {
        issuer,
        http,
        workspaces: settings.restrictions.workspaces.clone(),
        waits: Waits::default(),
    };
    let keep = async |signed_in: SignedIn| -> Result<(), KeepError> {
        let credentials = signed_in.into_credentials(&sign_in.issuer)?;
        Ok(save(settings.store.clone(), credentials).await?)
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

/// Saves on a thread where waiting for the locks blocks nothing else.
async fn save(store: Store, credentials: Credentials) -> Result<(), LoadError> {
    match tokio::task::spawn_blocking(move || store.save(&credentials)).await {
        Ok(saved) => Ok(saved?),
        Err(_) => Err(LoadError::Stopped),
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
    SignOut(#[from] LoadError),
    #[error("{0}")]
    Client(String),
}

impl FlowError {
    fn first_line(&self) -> Option<String> {
        match self {
            Self::SignIn(error) => error.first_line(),
            Self::SignOut(_) | Self::Client(_) => None,
        }
    }

    /// A word for the log. The message itself may hold foreign text, which is for the user only.
    fn kind(&self) -> &str {
        match self {
            Self::SignIn(SignInError::Failed(failure) | SignInError::DeviceRefused(failure)) => {
                failure.code()
            }
            Self::SignIn(_) => "sign_in",
            Self::SignOut(_) => "sign_out",
            Self::Client(_) => "client",
        }
    }
}
