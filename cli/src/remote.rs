//! `codex exec-server --remote`: which registry, as what, with which credential.

mod aws;
mod sign_in;
mod stdin;

use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::anyhow;
use clap::ValueEnum;
use clap::error::ErrorKind;
use codex_config::Config;
use codex_exec_server::remote::{
    BEARER_VARIABLE, Contract, CredentialOrigin, DEFAULT_NAME, Fixed, Lent, Proof, Remote, RemoteConfig,
    Status, Target,
};
use codex_login::{HttpClient, Variables};
use codex_outgoing::Outgoing;
use codex_secret::Secret;

use crate::{output, resident_memory};
use aws::{AwsChoice, DEFAULT_SERVICE};
use sign_in::SignIn;
use stdin::{First, Stdin};

/// Where an agent identity is.
const ACCESS_TOKEN_VARIABLE: &str = "CODEX_ACCESS_TOKEN";
/// Does what `--exit-on-stdin-close` does.
const EXIT_VARIABLE: &str = "CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE";

/// The flags of an executor that dials out.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RemoteArgs {
    /// Register with this registry and serve what its rendezvous sends, instead of listening.
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    // Released programs ignore ids and name without --remote (`remote.md` 1.1), and listen.
    /// The environment to offer at --remote; ignored without it.
    #[arg(long, value_name = "ID")]
    environment_id: Option<String>,
    /// The executor to register as, at a registry of the first kind; instead of --environment-id; ignored without --remote.
    #[arg(long, value_name = "ID")]
    executor_id: Option<String>,
    /// What people see of this executor, where the registry shows it [default: codex-exec-server].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How registry and executor deal with each other. auto takes executor with --executor-id, noise with
    /// --environment-id, else cloud [default: auto].
    #[arg(long, value_name = "CONTRACT", requires = "remote")]
    remote_contract: Option<ContractArg>,
    /// How sessions come in: through a rendezvous, which with noise can't read them, or over a connection that carries them as
    /// they are (direct, which takes --aws-sigv4).
    #[arg(long, value_name = "TRANSPORT", requires = "remote")]
    remote_transport: Option<Transport>,
    /// Read the credential from stdin: one line. Any https registry may get it.
    #[arg(long, requires = "remote")]
    registration_bearer_stdin: bool,
    /// Read a ChatGPT access token from stdin: one line. Only an https registry gets it, and nobody refreshes it.
    #[arg(long, requires = "remote", conflicts_with = "registration_bearer_stdin")]
    chatgpt_token_stdin: bool,
    /// The account of the token that --chatgpt-token-stdin reads.
    #[arg(long, value_name = "ID", requires = "chatgpt_token_stdin")]
    chatgpt_account_id: Option<String>,
    /// Take credentials in frames on stdin. Their form is not known here: scripts learn so in the words of other programs.
    #[arg(long, requires = "remote", hide = true, conflicts_with_all = ["registration_bearer_stdin", "chatgpt_token_stdin"])]
    executor_credential_stdin: bool,
    /// Sign requests with keys of AWS (Signature Version 4), for --remote-transport direct. They are in AWS_ACCESS_KEY_ID and
    /// its kin, or in the files of the AWS tools.
    #[arg(
        long,
        requires = "remote",
        conflicts_with_all = ["registration_bearer_stdin", "chatgpt_token_stdin", "executor_credential_stdin"]
    )]
    aws_sigv4: bool,
    /// The profile of the AWS tools' files to take keys and region from; before the variables.
    #[arg(long, value_name = "NAME", requires = "aws_sigv4")]
    aws_profile: Option<String>,
    /// The region to sign for [default: AWS_REGION, AWS_DEFAULT_REGION, or that of the profile].
    #[arg(long, value_name = "REGION", requires = "aws_sigv4")]
    aws_region: Option<String>,
    /// The service to sign for [default: execute-api].
    #[arg(long, value_name = "SERVICE", requires = "aws_sigv4")]
    aws_service: Option<String>,
    /// End when stdin is closed, as CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE=true does.
    #[arg(long, requires = "remote")]
    exit_on_stdin_close: bool,
    /// Wait for a registry that is not there yet, instead of ending at once.
    #[arg(long, requires = "remote")]
    wait_for_registry: bool,
    /// Show the agent identity of CODEX_ACCESS_TOKEN. Not supported: known for the sake of scripts, which learn so.
    #[arg(long, requires = "remote", hide = true)]
    use_agent_identity_auth: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ContractArg {
    /// As the ids say.
    Auto,
    /// ChatGPT sign-in, the id may be left out.
    Cloud,
    /// By executor id; what passes is open to the rendezvous.
    Executor,
    /// By environment id; what passes is open to the rendezvous.
    Environment,
    /// By environment id; what passes is encrypted end to end.
    Noise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Through a rendezvous.
    Relay,
    /// Through a rendezvous, which can't read what passes: the word of newer programs for the default.
    Noise,
    /// JSON-RPC itself, over a connection whose requests are signed.
    Direct,
}

/// What the flags ask for, checked as far as no I/O is needed.
#[derive(Debug)]
pub(crate) struct Plan {
    base: String,
    contract: Contract,
    id: Option<String>,
    name: String,
    stdin_secret: Option<StdinSecret>,
    aws: Option<AwsChoice>,
    exit_on_stdin_close: bool,
    wait_for_registry: bool,
    agent_identity: bool,
}

impl Plan {
    /// Whether the credential comes from stdin, which can be read once.
    pub(crate) fn takes_a_secret_from_stdin(&self) -> bool {
        self.stdin_secret.is_some()
    }

    /// The id under which this machine is lent, if it was given one.
    pub(crate) fn environment(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// What the first line of stdin is.
#[derive(Debug)]
enum StdinSecret {
    /// A bearer of the registry's own.
    Bearer,
    /// The access token of a ChatGPT sign-in.
    ChatgptToken {
        /// The account that requests name.
        account_id: Option<String>,
    },
    /// Frames with credentials, which are refused.
    Frames,
}

impl StdinSecret {
    fn first(&self) -> First {
        match self {
            Self::Bearer | Self::ChatgptToken { .. } => First::Bearer,
            Self::Frames => First::Frames,
        }
    }
}

impl RemoteArgs {
    /// What to do; nothing without `--remote`. `listens`: there is a `--listen`; `variable` looks up the environment.
    ///
    /// # Errors
    /// Flags that do not go together.
    pub(crate) fn plan(
        self,
        listens: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Plan>, WrongUsage> {
        let Some(base) = self.remote else { return Ok(None) };
        if listens {
            return Err(usage(
                ErrorKind::ArgumentConflict,
                "the argument '--remote <URL>' cannot be used with '--listen <URL>'",
            ));
        }
        let (environment, executor) = (self.environment_id, self.executor_id);
        if environment.is_some() && executor.is_some() {
            return Err(usage(
                ErrorKind::ArgumentConflict,
                "the argument '--environment-id <ID>' cannot be used with '--executor-id <ID>'",
            ));
        }
        let direct = self.remote_transport == Some(Transport::Direct);
        let contract = match self.remote_contract {
            _ if direct => Contract::Direct,
            None | Some(ContractArg::Auto) => Contract::implied(environment.is_some(), executor.is_some()),
            Some(ContractArg::Cloud) => Contract::Cloud,
            Some(ContractArg::Executor) => Contract::Executor,
            Some(ContractArg::Environment) => Contract::Environment,
            Some(ContractArg::Noise) => Contract::Noise,
        };
        let id = the_id(contract, environment, executor)?;
        if self.remote_transport == Some(Transport::Noise) && contract != Contract::Noise {
            return Err(usage(
                ErrorKind::ArgumentConflict,
                "--remote-transport noise needs --environment-id <ID> and no other --remote-contract than noise: with the \
                 others the rendezvous can read what passes",
            ));
        }
        if direct != self.aws_sigv4
            || (direct && !matches!(self.remote_contract, None | Some(ContractArg::Auto)))
        {
            return Err(usage(
                ErrorKind::ArgumentConflict,
                "--remote-transport direct and --aws-sigv4 (signatures of AWS) need each other, and no --remote-contract",
            ));
        }
        if self.registration_bearer_stdin && contract == Contract::Cloud {
            return Err(usage(
                ErrorKind::ArgumentConflict,
                "--registration-bearer-stdin needs --environment-id <ID>: without it, or with --remote-contract cloud, \
                 the registry takes a ChatGPT sign-in only",
            ));
        }
        let exit_on_stdin_close = self.exit_on_stdin_close
            || match variable(EXIT_VARIABLE).as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => {
                    return Err(usage(
                        ErrorKind::InvalidValue,
                        &format!("invalid value '{other}' for {EXIT_VARIABLE}: it is true or false"),
                    ));
                }
            };
        let stdin_secret = match (self.registration_bearer_stdin, self.chatgpt_token_stdin) {
            (true, _) => Some(StdinSecret::Bearer),
            (_, true) => Some(StdinSecret::ChatgptToken { account_id: self.chatgpt_account_id }),
            _ => self.executor_credential_stdin.then_some(StdinSecret::Frames),
        };
        Ok(Some(Plan {
            base,
            contract,
            id,
            name: self.name.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            stdin_secret,
            aws: direct.then_some(AwsChoice {
                profile: self.aws_profile,
                region: self.aws_region,
                service: self.aws_service.unwrap_or_else(|| DEFAULT_SERVICE.to_owned()),
            }),
            exit_on_stdin_close,
            wait_for_registry: self.wait_for_registry,
            agent_identity: self.use_agent_identity_auth,
        }))
    }
}

/// The id that the contract goes by.
fn the_id(
    contract: Contract,
    environment: Option<String>,
    executor: Option<String>,
) -> Result<Option<String>, WrongUsage> {
    let (wanted, right, wrong) = match contract {
        Contract::Executor => ("--executor-id <ID>", executor, environment.map(|_| "--environment-id <ID>")),
        _ => ("--environment-id <ID>", environment, executor.map(|_| "--executor-id <ID>")),
    };
    match (right, wrong) {
        (_, Some(wrong)) => Err(usage(
            ErrorKind::ArgumentConflict,
            &format!(
                "the argument '--remote-contract {contract}' cannot be used with '{wrong}'; it takes {wanted}"
            ),
        )),
        (None, None) if contract != Contract::Cloud => Err(usage(
            ErrorKind::MissingRequiredArgument,
            &format!("the following required arguments were not provided:\n  {wanted}"),
        )),
        (right, None) => Ok(right),
    }
}

/// Flags that do not go together, in the parser's words.
#[derive(Debug)]
pub(crate) struct WrongUsage {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

fn usage(kind: ErrorKind, text: &str) -> WrongUsage {
    WrongUsage { kind, text: text.to_owned() }
}

/// Stays attached until `stop`, stdin's end where that counts, or a failure for good; the exit code.
pub(crate) async fn attach(
    plan: Plan,
    home: &Path,
    config: &Config,
    lent: Lent,
    stop: impl Future<Output = ()>,
) -> u8 {
    let mut stdin = Stdin::open(plan.stdin_secret.as_ref().map(StdinSecret::first), plan.exit_on_stdin_close);
    let mut stop = std::pin::pin!(stop);
    let prepared = async {
        if plan.agent_identity {
            return Err(no_agent_identity(std::env::var_os(ACCESS_TOKEN_VARIABLE).is_some()));
        }
        if matches!(plan.stdin_secret, Some(StdinSecret::ChatgptToken { .. }))
            && !may_get_chatgpt_token(&plan.base)
        {
            return Err(anyhow!("ChatGPT token registry URLs must use HTTPS without userinfo or fragments"));
        }
        let target = Target::new(plan.contract, &plan.base, plan.id.as_deref())?;
        let bearer = match plan.stdin_secret {
            Some(_) => Some(stdin.bearer().await?),
            None => None,
        };
        tokio::select! {
            remote = prepare(plan, target, bearer, home, config, lent) => remote.map(Some),
            () = stdin.closed() => Ok(None),
        }
    };
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        () = &mut stop => Ok(None),
    };
    let ended: anyhow::Result<()> = match prepared {
        Ok(Some(remote)) => {
            let stop = async {
                tokio::select! {
                    () = stdin.closed() => {}
                    () = stop => {}
                }
            };
            remote.run_until(stop).await.map_or(Ok(()), |error| Err(error.into()))
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => 0,
        Err(error) => {
            output::error_with_causes(&error);
            1
        }
    }
}

fn no_agent_identity(has_token: bool) -> anyhow::Error {
    match has_token {
        false => anyhow!("{ACCESS_TOKEN_VARIABLE} is required when --use-agent-identity-auth is set"),
        true => anyhow!(
            "Agent Identity authentication is unavailable: this version can't sign in with it; leave \
             --use-agent-identity-auth out, and sign in with `codex login` or set {BEARER_VARIABLE}"
        ),
    }
}

/// Whether a registry's URL is one that a ChatGPT token from stdin goes to: https, even on this machine.
fn may_get_chatgpt_token(base: &str) -> bool {
    url::Url::parse(base.trim()).is_ok_and(|url| {
        let user = !url.username().is_empty() || url.password().is_some();
        url.scheme() == "https" && !user && url.fragment().is_none()
    })
}

/// An executor that is ready to be attached.
async fn prepare(
    plan: Plan,
    target: Target,
    bearer: Option<Secret>,
    home: &Path,
    config: &Config,
    lent: Lent,
) -> anyhow::Result<Remote> {
    let variables = Variables::from_lookup(|name| std::env::var(name).ok());
    let outgoing = Outgoing::new(variables.ca_certificates.clone(), variables.proxies.clone());
    let client = HttpClient::new(env!("CARGO_PKG_VERSION"), &variables);
    let bearer = match (bearer, plan.stdin_secret) {
        (Some(token), Some(StdinSecret::ChatgptToken { account_id })) => {
            Some(Fixed::chatgpt(&token, account_id))
        }
        (Some(bearer), _) => Some(Fixed::new(CredentialOrigin::Stdin, &bearer)),
        (None, _) => {
            bearer_variable(plan.contract).map(|bearer| Fixed::new(CredentialOrigin::Variable, &bearer))
        }
    };
    let proof = match (plan.aws, bearer) {
        (Some(choice), _) => Proof::Aws(choice.signer(|name| std::env::var(name).ok())?),
        (None, Some(bearer)) => Proof::Bearer(Arc::new(bearer)),
        (None, None) => {
            Proof::Bearer(Arc::new(SignIn::load(plan.contract, home, config, variables, client).await))
        }
    };
    let config = RemoteConfig {
        target,
        proof,
        name: plan.name,
        outgoing,
        wait_for_registry: plan.wait_for_registry,
        jitter: Box::new(rand::random::<f64>),
        tell: Box::new(tell),
    };
    Ok(Remote::new(lent, config)?)
}

/// Prints what happens. Once attached, what led there is not needed any more.
fn tell(status: Status) {
    static ATTACHED: Once = Once::new();
    output::note(&status.to_string());
    if matches!(status, Status::Attached { .. }) {
        ATTACHED.call_once(resident_memory::forget_start);
    }
}

/// The bearer of the variable. Contract A does not know it; elsewhere than in C a blank one counts as unset.
fn bearer_variable(contract: Contract) -> Option<Secret> {
    let value = Secret::new(std::env::var(BEARER_VARIABLE).ok()?);
    match contract {
        Contract::Cloud | Contract::Direct => None,
        Contract::Executor => Some(value),
        Contract::Environment | Contract::Noise => (!value.is_blank()).then_some(value),
    }
}
