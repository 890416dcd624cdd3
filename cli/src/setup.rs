//! What every command stands on: the home directory, its `.env`, and the configuration.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use codex_config::features::UnknownFeature;
use codex_config::home::{self, HomeError};
use codex_config::{
    Config, ConfigError, ExecServerConfig, OverrideError, Overrides, Sources, UnclearOverride, access,
    features,
};

use crate::output;

/// The flags that change the configuration; every command level takes them.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Set a key of the configuration for this run: a dotted key, `=`, and a TOML value or else plain text. May be given
    /// several times and at every command level; the last one wins.
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Turn a feature on, like -c features.NAME=true. May be given several times.
    #[arg(long, value_name = "NAME")]
    enable: Vec<String>,
    /// Turn a feature off, like -c features.NAME=false; beats --enable. May be given several times.
    #[arg(long, value_name = "NAME")]
    disable: Vec<String>,
}

impl ConfigArgs {
    /// Adds those of a deeper command level.
    pub(crate) fn extend(&mut self, deeper: Self) {
        self.config.extend(deeper.config);
        self.enable.extend(deeper.enable);
        self.disable.extend(deeper.disable);
    }

    /// Checks the names of features; done before any command runs.
    ///
    /// # Errors
    /// The first unknown name.
    pub(crate) fn check_features(&self) -> Result<(), UnknownFeature> {
        features::check(self.enable.iter().chain(&self.disable))
    }

    /// The same flags for another `codex`.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let flags = [("-c", &self.config), ("--enable", &self.enable), ("--disable", &self.disable)];
        flags
            .into_iter()
            .flat_map(|(flag, values)| values.iter().flat_map(move |v| [flag.to_owned(), v.clone()]))
            .collect()
    }

    fn overrides(&self) -> Result<Overrides, OverrideError> {
        Overrides::parse(&self.config, &self.enable, &self.disable)
    }

    /// What is wrong with the first `-c` that can't be understood and may say who is allowed to connect.
    fn hiding_access(&self) -> Option<OverrideError> {
        self.config.iter().filter(|text| access::may_be_hidden_in(text)).find_map(|text| alone(text).err())
    }

    /// Only what can be understood.
    fn understood(&self) -> Overrides {
        let config: Vec<String> = self.config.iter().filter(|text| alone(text).is_ok()).cloned().collect();
        Overrides::parse(&config, &self.enable, &self.disable).unwrap_or_default()
    }
}

fn alone(dash_c: &String) -> Result<Overrides, OverrideError> {
    Overrides::parse(std::slice::from_ref(dash_c), &[], &[])
}

/// Why a command has no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// There is no home directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A `-c` is no assignment.
    #[error(transparent)]
    Overrides(#[from] OverrideError),
    /// A file or a value is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration can't be read, and may say who is allowed to connect.
    #[error("{}; this may hide ws_auth or listen, so the server does not start: mend it, or give --ws-auth", .0.one_line())]
    AccessUnclear(ConfigError),
    /// There is a key that nobody knows, and that may say who is allowed to connect.
    #[error(
        "{0}; this may be meant as ws_auth or listen of [exec_server], so the server does not start: mend it, or give --ws-auth"
    )]
    KeyUnclear(String),
    /// A `-c` is not understood, and may say who is allowed to connect. A wrong use of the program.
    #[error(transparent)]
    OverrideUnclear(#[from] UnclearOverride),
    /// The home directory can't be looked at, and its configuration may say who is allowed to connect.
    #[error(
        "{0}; its config.toml may hold ws_auth or listen, so the server does not start: mend it, or give --ws-auth"
    )]
    HomeUnclear(HomeError),
    /// The working directory can't be told.
    #[error("can't tell the working directory: {0}")]
    WorkingDirectory(std::io::Error),
}

impl SetupError {
    /// The line that `login`, `login status` and `logout` print for it (login.md 1, 12.3, 12.5); exit code 1.
    pub(crate) fn login_line(&self) -> String {
        match self {
            Self::Overrides(error) => format!("Error parsing -c overrides: {error}"),
            other => format!("Error loading configuration: {other}"),
        }
    }
}

/// Stands for a home directory that there is not: nothing is ever found below it.
const NO_HOME: &str = "/dev/null";

/// What the process's environment says.
#[derive(Debug)]
pub(crate) struct Surroundings {
    home: Result<PathBuf, HomeError>,
}

impl Surroundings {
    /// Finds the home directory and puts the assignments of its `.env` in the process's environment. To be called first
    /// of all, while there is one thread.
    pub(crate) fn enter() -> Self {
        let codex_home = std::env::var_os("CODEX_HOME");
        let home = home::find(codex_home.as_deref(), dirs::home_dir().as_deref());
        if let Ok(home) = &home {
            set_variables(home::dot_env(home));
        }
        Self { home }
    }
}

#[allow(unsafe_code)]
fn set_variables(variables: Vec<(String, String)>) {
    for (name, value) in variables {
        // SAFETY: `main` calls this before it starts any thread, and names and values are fit for the environment.
        unsafe { std::env::set_var(name, value) };
    }
}

/// What a command needs to find its configuration.
#[derive(Debug)]
pub(crate) struct Setup {
    surroundings: Surroundings,
    flags: ConfigArgs,
    strict: bool,
}

impl Setup {
    /// With the flags of all command levels.
    pub(crate) fn new(surroundings: Surroundings, flags: ConfigArgs, strict: bool) -> Self {
        Self { surroundings, flags, strict }
    }

    /// The flags that make another `codex` see the same configuration.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let mut arguments = self.flags.to_arguments();
        if self.strict {
            arguments.push("--strict-config".to_owned());
        }
        arguments
    }

    /// The home directory and the configuration, for a command that can't do without.
    ///
    /// # Errors
    /// Any problem of the home directory, the overrides or the configuration.
    pub(crate) fn load(&self) -> Result<(PathBuf, Config), SetupError> {
        let home = self.home()?.to_owned();
        let overrides = self.flags.overrides()?;
        let config = codex_config::load(&self.sources(home.clone(), working_directory()?, overrides))?;
        Ok((home, config))
    }

    /// The settings of a listening server. Unless strict, a problem of the configuration is told on stderr and the
    /// server does with what can be read (login.md 1, 12.7).
    ///
    /// `access_is_known` says that the flags alone decide who is allowed to connect.
    ///
    /// # Errors
    /// When strict, any problem; else only one that may hide who is allowed to connect.
    pub(crate) fn exec_server(&self, access_is_known: bool) -> Result<ExecServerConfig, SetupError> {
        if self.strict {
            return Ok(tell_warnings(self.load()?.1));
        }
        let overrides = match self.flags.overrides() {
            Ok(overrides) => overrides,
            Err(error) => {
                if !access_is_known && let Some(hiding) = self.flags.hiding_access() {
                    return Err(hiding.into());
                }
                warn(&error.to_string());
                self.flags.understood()
            }
        };
        if !access_is_known && let Some(unclear) = overrides.unclear_access() {
            return Err(unclear.into());
        }
        let home = match self.home() {
            Ok(home) if is_anothers(home) => {
                let here = "it is in another user's home directory, which HOME names";
                output::note(&format!("warning: {} is not read: {here}", home.display()));
                NO_HOME.into()
            }
            Ok(home) => home.to_owned(),
            Err(error) if error.hides_configuration() && !access_is_known => {
                return Err(SetupError::HomeUnclear(error));
            }
            Err(error) => {
                output::note(&format!("WARNING: proceeding, even though {error}"));
                NO_HOME.into()
            }
        };
        let cwd = working_directory().unwrap_or_else(|error| {
            warn(&error.to_string());
            "/".into()
        });
        let sources = self.sources(home, cwd, overrides);
        match codex_config::load(&sources) {
            Ok(Config { access_unclear: Some(unclear), .. }) if !access_is_known => {
                Err(SetupError::KeyUnclear(unclear))
            }
            Ok(config) => Ok(tell_warnings(config)),
            Err(problem) => {
                let settings = match codex_config::load_exec_server(&sources) {
                    Some(settings) => settings,
                    None if access_is_known => ExecServerConfig::default(),
                    None => return Err(SetupError::AccessUnclear(problem)),
                };
                warn(&problem.one_line());
                Ok(settings)
            }
        }
    }

    /// The home directory, unless there is none or it is another user's.
    pub(crate) fn own_home(&self) -> Option<PathBuf> {
        self.home().ok().filter(|home| !is_anothers(home)).map(Path::to_owned)
    }

    fn home(&self) -> Result<&Path, HomeError> {
        match &self.surroundings.home {
            Ok(home) => Ok(home),
            Err(error) => Err(error.clone()),
        }
    }

    fn sources(&self, home: PathBuf, cwd: PathBuf, overrides: Overrides) -> Sources {
        Sources { home, system: codex_config::SYSTEM.into(), cwd, overrides, strict: self.strict }
    }
}

/// Whether the home directory lies in one that belongs to another user and is closed to this one: `HOME` as it was before
/// a change of user. What is configured there is the other's. One that `CODEX_HOME` names was found, and is never that.
fn is_anothers(home: &Path) -> bool {
    let is_closed =
        home.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let owner = home.parent().and_then(|user_home| user_home.metadata().ok()).map(|found| found.uid());
    is_closed && owner.is_some_and(|owner| owner != rustix::process::geteuid().as_raw())
}

/// Where this program works. One that was removed has no files of a project; the root has as few.
fn working_directory() -> Result<PathBuf, SetupError> {
    or_root(std::env::current_dir()).map_err(SetupError::WorkingDirectory)
}

/// What outlives servers is kept there: where the configuration says, else in the user's directory for such things.
pub(crate) fn state_directory(named: Option<&Path>) -> Option<PathBuf> {
    let usual = || Some(dirs::state_dir()?.join("codex-exec-server"));
    named.map(Path::to_owned).or_else(usual).filter(|path| path.is_absolute())
}

/// A working directory, or the root in the place of one that was removed.
pub(crate) fn or_root(here: std::io::Result<PathBuf>) -> std::io::Result<PathBuf> {
    match here {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok("/".into()),
        here => here,
    }
}

fn tell_warnings(config: Config) -> ExecServerConfig {
    for warning in &config.warnings {
        warn(warning);
    }
    config.exec_server
}

fn warn(problem: &str) {
    output::note(&format!("warning: {problem} (going on; --strict-config makes this an error)"));
}
