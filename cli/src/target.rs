//! How any command finds its environment: by name, by address, or the one in use.

mod every;
mod far;
mod registry;
mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use codex_config::environments::{self, Environments, InUse, LOCAL, NONE, Named, Place};
use codex_exec_server::client::{
    CarryEnd, Client, ClientError, ClientOptions, Command, Endpoint, RegistryEnvironment, Rest, Stderr, carry,
};
use codex_outgoing::Outgoing;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::codes::{FAILURE, NO_CREDENTIAL, UNREACHABLE, WRONG_USAGE};
use crate::output;
use crate::setup::Setup;
pub(crate) use every::{every, one};
pub(crate) use far::{FIRST_ANSWER, Far, FarArgs, Staying};
use registry::RegistryArgs;
use token::TOKEN_VARIABLE;
pub(crate) use token::read as read_token;

/// The flags that say which environment a command works on. Without any it is the one in use, and without that a server
/// that is started for the command on this machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TargetArgs {
    /// The environment to use, by its name (`codex exec-server env ls` lists them); `local` is this machine.
    #[arg(short = 'E', long, value_name = "NAME", conflicts_with_all = ["url", "registry"])]
    environment: Option<String>,
    /// The exec-server to use, by its ws://, wss:// or unix:// address; or a machine with a shell, to which this program is
    /// brought: ssh://USER@HOST:PORT, docker://CONTAINER, kubectl://NAMESPACE/POD, or several with | between.
    #[arg(long, value_name = "URL", value_parser = url)]
    url: Option<String>,
    /// File that holds the token for a server with --ws-auth; without it, CODEX_EXEC_SERVER_TOKEN is used if it is set.
    #[arg(long, value_name = "PATH", requires = "url", conflicts_with = "environment")]
    token_file: Option<PathBuf>,
    /// An id to send as X-Request-ID when a websocket is opened, by which this command is found in the logs of proxies.
    #[arg(long, value_name = "ID", value_parser = request_id)]
    request_id: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    far: FarArgs,
}

/// Why there is no connection to an environment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The command line can't be meant so.
    #[error("{0}")]
    Usage(String),
    /// This side can't go on: a file can't be read, there is no such environment.
    #[error("{0}")]
    Here(String),
    /// Somebody lets the environment of this name rest.
    #[error("the environment {0:?} is paused; `codex exec-server env resume {0}` ends that")]
    Paused(String),
    /// A token is missing, or was refused.
    #[error("{0}")]
    Credential(String),
    /// The server can't be reached, or does not want us.
    #[error("{0}")]
    Unreachable(String),
    /// A server that was started as a child has told why it ended.
    #[error("the exec-server that was started here ended with {0}")]
    ChildEnded(u8),
}

impl TargetError {
    /// The exit code of a command that stands for a program of the environment, as ssh has it: 255 for whatever keeps
    /// it from the environment.
    pub(crate) const fn code_of_program(&self) -> u8 {
        match self {
            Self::Usage(_) => WRONG_USAGE,
            Self::Here(_) | Self::Paused(_) => FAILURE,
            Self::Credential(_) | Self::Unreachable(_) => UNREACHABLE,
            Self::ChildEnded(code) => *code,
        }
    }

    /// The exit code of any other command.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Credential(_) => NO_CREDENTIAL,
            Self::Unreachable(_) => FAILURE,
            other => other.code_of_program(),
        }
    }

    /// Whether another attempt may end otherwise.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Paused(_))
    }

    /// What is left to say, unless it has been said.
    pub(crate) fn unsaid(&self) -> Option<String> {
        match self {
            Self::ChildEnded(_) => None,
            other => Some(other.to_string()),
        }
    }
}

/// An environment that was found, and not connected to.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name, for messages; none for an address of the command line.
    name: Option<String>,
    endpoint: Endpoint,
    options: ClientOptions,
    remote: bool,
    /// Whether the server there goes on without the connection.
    outlives: bool,
    /// The way to it, if this program is brought there.
    far: Option<Far>,
}

impl TargetArgs {
    /// As `-E NAME` says it.
    pub(crate) fn named(name: &str) -> Self {
        Self { environment: Some(name.to_owned()), ..Self::default() }
    }

    /// Finds the environment that the flags name, or the one in use.
    ///
    /// # Errors
    /// Flags that can't be meant, a token that can't be had, an environment that is not known or rests.
    pub(crate) fn find(&self, setup: &Setup) -> Result<Target, TargetError> {
        if let Some(problem) = self.problem() {
            return Err(TargetError::Usage(problem));
        }
        let mut target = self.find_any(setup)?;
        target.options.request_id.clone_from(&self.request_id);
        Ok(target)
    }

    fn find_any(&self, setup: &Setup) -> Result<Target, TargetError> {
        if let Some(endpoint) = self.registry.endpoint()? {
            return Ok(Target::at(endpoint));
        }
        if let Some(url) = self.url.as_ref().filter(|url| codex_bring::Target::is_meant_by(url)) {
            return Ok(Target::far(Far::new(url, &self.far)?));
        }
        if let Some(url) = &self.url {
            return Ok(Target::at(endpoint_of_url(url, token::of_flag(self.token_file.as_deref())?)));
        }
        named_or_in_use(self.environment.as_deref(), setup)
    }

    /// The name after -E.
    pub(crate) fn name(&self) -> Option<&str> {
        self.environment.as_deref()
    }

    /// Whether any flag names an environment.
    pub(crate) fn names_one(&self) -> bool {
        self.environment.is_some() || self.url.is_some() || self.registry.both().is_some()
    }

    /// What can't go together, or can't be used whatever the world is like.
    fn problem(&self) -> Option<String> {
        if let Some((url, id)) = self.registry.both() {
            return RegistryEnvironment::check_address(url, id).err();
        }
        let is_far = self.url.as_ref().is_some_and(|url| codex_bring::Target::is_meant_by(url));
        if let Some(flag) = self.far.given().filter(|_| !is_far) {
            return Some(format!("{flag} goes with --url and an ssh://, docker:// or kubectl:// address"));
        }
        if is_far {
            let token = self.token_file.as_ref();
            return token.map(|_| {
                "--token-file goes with a server's own address; the way there asks for none".into()
            });
        }
        let url = self.url.as_ref()?;
        if url.starts_with("unix://") {
            return None;
        }
        let checked = Endpoint::check_url(url, self.token_file.is_some());
        checked.err().map(|problem| format!("--url can't be used: {problem}"))
    }
}

impl Target {
    fn at(endpoint: Endpoint) -> Self {
        Self { name: None, endpoint, options: options(), remote: true, outlives: true, far: None }
    }

    fn far(far: Far) -> Self {
        Self { outlives: far.outlives_connection(), far: Some(far.clone()), ..Self::at(far.endpoint()) }
    }

    /// Where it is.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The way to it, if this program is brought there.
    pub(crate) const fn way(&self) -> Option<&Far> {
        self.far.as_ref()
    }

    /// Whether it is another machine, as far as we can tell; else a server for this command alone.
    pub(crate) const fn is_remote(&self) -> bool {
        self.remote
    }

    /// Whether the server there goes on without the connection, and with it what runs there; as far as we can tell.
    pub(crate) const fn outlives_connection(&self) -> bool {
        self.outlives
    }

    /// The name that it is written down under, if it was found by name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it is and how to connect to it, for who makes connections of another kind.
    pub(crate) fn into_parts(self) -> (Endpoint, ClientOptions) {
        (self.endpoint, self.options)
    }

    /// Changes what the client is told of waits and bounds.
    pub(crate) fn options_mut(&mut self) -> &mut ClientOptions {
        &mut self.options
    }

    /// Connects, and opens a session.
    ///
    /// # Errors
    /// It can't be reached, or refuses us.
    pub(crate) async fn connect(self) -> Result<Client, TargetError> {
        let Self { name, endpoint, options, .. } = self;
        Client::connect(endpoint, options).await.map_err(|error| not_connected(error, name.as_deref()))
    }

    /// Connects, and carries its messages from and to lines until either side ends.
    ///
    /// # Errors
    /// It can't be reached.
    pub(crate) async fn carry(
        self,
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<CarryEnd, TargetError> {
        let Self { name, endpoint, options, .. } = self;
        let carried = carry(endpoint, &options, input, output).await;
        carried.map_err(|error| not_connected(error, name.as_deref()))
    }
}

/// Why there is no connection to the environment of this name, or of an address.
fn not_connected(error: ClientError, name: Option<&str>) -> TargetError {
    let of = name.map(|name| format!(" (environment {name:?})")).unwrap_or_default();
    match error {
        // Its own sentence is on our stderr, and its code says the rest.
        ClientError::ChildEnded { code, .. } if of.is_empty() => {
            TargetError::ChildEnded(u8::try_from(code).unwrap_or(FAILURE))
        }
        ClientError::TokenWanted { .. } => TargetError::Credential(format!(
            "{error}{of}: give its token with --token-file or in {TOKEN_VARIABLE}"
        )),
        ClientError::TokenRefused { .. } => TargetError::Credential(format!(
            "{error}{of}; give a good one with --token-file or in {TOKEN_VARIABLE}"
        )),
        other if other.is_about_credentials() => TargetError::Credential(format!("{other}{of}")),
        other => TargetError::Unreachable(format!("{other}{of}")),
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        client_name: "codex-run".into(),
        outgoing: Outgoing::from_lookup(|name| std::env::var(name).ok()),
        ..ClientOptions::default()
    }
}

/// The environments that are written down.
///
/// # Errors
/// A file, or CODEX_EXEC_SERVER_URL, can't be used.
pub(crate) fn written_down(home: Option<&Path>) -> Result<Environments, TargetError> {
    let variable = std::env::var("CODEX_EXEC_SERVER_URL").ok();
    environments::load(home, variable.as_deref(), &|url, token| Endpoint::check_url(url, token))
        .map_err(|error| TargetError::Here(error.to_string()))
}

fn named_or_in_use(name: Option<&str>, setup: &Setup) -> Result<Target, TargetError> {
    // Whoever asks for this machine needs nothing that is written down.
    if name == Some(LOCAL) {
        return local(setup);
    }
    let found = written_down(setup.own_home().as_deref())?;
    let name = match (name, &found.in_use) {
        (Some(NONE), _) => {
            return Err(TargetError::Usage("`none` stands for no environment; give the name of one".into()));
        }
        (Some(name), _) => name,
        (None, InUse::Named(name)) => name,
        (None, InUse::Local) => return local(setup),
        (None, InUse::None(why)) => {
            return Err(TargetError::Here(format!(
                "no environment is in use: {why}; name one with -E, or `-E local` for this machine"
            )));
        }
    };
    let named = found.get(name).ok_or_else(|| TargetError::Here(found.unknown(name)))?;
    let mut target = of_named(named)?;
    target.options.rest = rest_of(setup, name);
    Ok(target)
}

/// Tells at any time whether somebody lets the environment of this name rest, in whatever program they said so.
pub(crate) fn rest_of(setup: &Setup, name: &str) -> Rest {
    let (home, name) = (setup.own_home(), name.to_owned());
    Rest::new(move || home.as_deref().is_some_and(|home| environments::is_paused(home, &name)))
}

/// The way to an environment that is written down.
///
/// # Errors
/// It rests, or its token can't be had.
pub(crate) fn of_named(named: &Named) -> Result<Target, TargetError> {
    let id = &named.id;
    if named.paused {
        return Err(TargetError::Paused(id.clone()));
    }
    let mut options = options();
    let endpoint = match &named.place {
        Place::Url { url, bearer, connect_time } => {
            options.connect_time = connect_time.unwrap_or(options.connect_time);
            let bearer = match bearer {
                Some(bearer) => Some(bearer.clone()),
                // A token of the environment is for whoever takes one, and never goes in the clear.
                None => token::of_variable().filter(|_| Endpoint::check_url(url, true).is_ok()),
            };
            Endpoint::WebSocket { url: url.clone(), bearer }
        }
        Place::Program { program, args, .. } if let Some(far) = Far::of_words(program, args) => {
            return Ok(Target { name: Some(id.clone()), ..Target::far(far) });
        }
        Place::Program { program, args, env, cwd } => Endpoint::Command(Command {
            program: program.clone(),
            args: args.clone(),
            env: env.clone(),
            cwd: cwd.clone(),
            stderr: Stderr::Inherit,
        }),
        Place::Unix { path, token_file } => {
            Endpoint::Unix { path: path.clone(), bearer: token::of_flag(token_file.as_deref())? }
        }
        Place::Registry { url, environment_id, token_file } => {
            RegistryEnvironment::check_address(url, environment_id)
                .map_err(|problem| TargetError::Here(format!("environment {id:?}: {problem}")))?;
            registry::endpoint(url, environment_id, token_file.as_deref())?
        }
    };
    options.initialize_time = named.initialize_time.unwrap_or(options.initialize_time);
    let outlives = !matches!(endpoint, Endpoint::Command(_));
    Ok(Target { name: Some(id.clone()), endpoint, options, remote: true, outlives, far: None })
}

/// A server that is started for this command alone.
fn local(setup: &Setup) -> Result<Target, TargetError> {
    let program = std::env::current_exe().map_err(|error| {
        TargetError::Here(format!("can't tell where this program's own file is: {error}"))
    })?;
    let endpoint = Endpoint::Command(Command {
        program,
        // The server reads the same configuration, so its bounds hold here too.
        args: ["exec-server", "--listen", "stdio"]
            .map(String::from)
            .into_iter()
            .chain(setup.to_arguments())
            .collect(),
        env: BTreeMap::new(),
        cwd: None,
        stderr: Stderr::Inherit,
    });
    Ok(Target { name: None, endpoint, options: options(), remote: false, outlives: false, far: None })
}

fn endpoint_of_url(url: &str, bearer: Option<codex_secret::Secret>) -> Endpoint {
    match url.strip_prefix("unix://") {
        Some(path) => Endpoint::Unix { path: path.into(), bearer },
        None => Endpoint::WebSocket { url: url.to_owned(), bearer },
    }
}

/// Tells why there is no connection, unless that was told; the exit code of a command that is no program's.
pub(crate) fn tell(error: &TargetError) -> u8 {
    if let Some(sentence) = error.unsaid() {
        output::error(&sentence);
    }
    error.code()
}

fn request_id(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) && (1..=128).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 128 characters of printable ASCII without spaces".into()),
    }
}

fn url(text: &str) -> Result<String, String> {
    if codex_bring::Target::is_meant_by(text) {
        return text
            .parse::<codex_bring::Target>()
            .map(|_| text.to_owned())
            .map_err(|error| error.to_string());
    }
    if ["ws://", "wss://", "unix:///"].iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(text.to_owned());
    }
    Err("expected ws://HOST:PORT, wss://HOST, unix:///PATH, ssh://HOST, docker://CONTAINER or kubectl://NAMESPACE/POD".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_three_kinds() {
        assert!(url("http://x").is_err() && url("unix://relative").is_err());
        assert!(url("unix:///run/x.sock").is_ok() && url("ws://127.0.0.1:1").is_ok());
    }

    #[test]
    fn a_missing_credential_has_a_code_of_its_own_but_for_commands_that_stand_for_programs() {
        for (error, program, other) in [
            (TargetError::Usage(String::new()), 2, 2),
            (TargetError::Here(String::new()), 1, 1),
            (TargetError::Paused(String::new()), 1, 1),
            (TargetError::Credential(String::new()), 255, 4),
            (TargetError::Unreachable(String::new()), 255, 1),
            (TargetError::ChildEnded(3), 3, 3),
        ] {
            assert_eq!((error.code_of_program(), error.code()), (program, other), "{error:?}");
        }
    }
}
