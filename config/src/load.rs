//! Puts the layers of configuration together, and gives one typed result.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::access::{self, SERVER};
use crate::error::ConfigError;
use crate::exec_server::ExecServerConfig;
use crate::features::Features;
use crate::layer::{self, Layer};
use crate::merge::merge;
use crate::overrides::Overrides;
use crate::project;
use crate::requirements::Requirements;
use crate::shape::{ConfigToml, FeatureValue, LoginMethod, StoreMode};
use crate::unknown::{self, Unknown};

/// The service when `chatgpt_base_url` is not set.
const CHATGPT_BASE_URL: &str = "https://chatgpt.com/backend-api/";

/// Where configuration comes from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The home directory; see [`crate::home::find`].
    pub home: PathBuf,
    /// The system's directory; `/etc/codex` except in tests.
    pub system: PathBuf,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// What the command line says.
    pub overrides: Overrides,
    /// Whether unknown keys are errors.
    pub strict: bool,
}

/// The merged configuration, as far as this program reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where credentials are kept; requirements of the system win over everything (login.md 3.4).
    pub cli_auth_credentials_store: StoreMode,
    /// The only way to sign in that is allowed.
    pub forced_login_method: Option<LoginMethod>,
    /// The only workspaces (account ids) that may be used.
    pub forced_chatgpt_workspace_id: Option<Vec<String>>,
    /// The ways to sign in that the system's requirements allow.
    pub allowed_login_methods: Option<Vec<LoginMethod>>,
    /// The workspaces (account ids) that the system's requirements allow.
    pub allowed_chatgpt_workspaces: Option<Vec<String>>,
    /// Base of the ChatGPT service.
    pub chatgpt_base_url: String,
    /// Which features are switched on or off.
    pub features: Features,
    /// Settings of the exec-server.
    pub exec_server: ExecServerConfig,
    /// Keys below `exec_server` that are not known: one sentence each, to be shown. A typo there may leave a door open.
    pub warnings: Vec<String>,
    /// The first unknown key of a file that may be meant to say where the server listens or who is allowed to connect: a
    /// sentence. A listening server does not start on it.
    pub access_unclear: Option<String>,
}

impl Config {
    /// The workspaces that may be used, by the configuration and by the requirements; `None` means all.
    pub fn workspaces(&self) -> Option<Vec<String>> {
        match (&self.forced_chatgpt_workspace_id, &self.allowed_chatgpt_workspaces) {
            (Some(forced), Some(allowed)) => {
                Some(forced.iter().filter(|id| allowed.contains(id)).cloned().collect())
            }
            (one, other) => one.clone().or_else(|| other.clone()),
        }
    }
}

/// Loads the configuration (login.md 12). Does blocking reads of a few files.
///
/// # Errors
/// A file that can't be read or parsed, a bad value in any layer (the lowest is named, even when a higher one covers
/// it), a key that is no longer supported, and with `strict` a key that nobody knows.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let requirements = Requirements::read(&sources.system)?;
    let layers = Layers::read(sources)?;
    let merged = layers.merged(&sources.overrides);
    let Checked { warnings, access_unclear } = layers.check(sources)?;
    let config = decode(merged)?;
    if let Some(name) = config.profile {
        return Err(ConfigError::LegacyProfile(name));
    }
    Ok(Config {
        cli_auth_credentials_store: requirements
            .cli_auth_credentials_store
            .or(config.cli_auth_credentials_store)
            .unwrap_or_default(),
        forced_login_method: config.forced_login_method,
        forced_chatgpt_workspace_id: config.forced_chatgpt_workspace_id.map(|ids| ids.0),
        allowed_login_methods: requirements.allowed_login_methods,
        allowed_chatgpt_workspaces: requirements.allowed_chatgpt_workspaces.map(|ids| ids.0),
        chatgpt_base_url: config.chatgpt_base_url.unwrap_or_else(|| CHATGPT_BASE_URL.to_owned()),
        features: features(config.features),
        exec_server: config.exec_server,
        warnings,
        access_unclear,
    })
}

/// The settings of the exec-server as far as they can be read, for a server that is to start although [`load`] failed
/// (login.md 12.7). `None` when what can't be read may say who is allowed to connect: going on without it could open a door
/// that somebody has closed.
pub fn load_exec_server(sources: &Sources) -> Option<ExecServerConfig> {
    let mut merged = readable(&sources.system.join("config.toml"))?;
    merge(&mut merged, readable(&sources.home.join("config.toml"))?);
    merge(&mut merged, guarding(sources.overrides.table().clone())?);
    merge(&mut merged, readable(&sources.system.join("managed_config.toml"))?);
    let Some(Value::Table(settings)) = merged.remove(SERVER) else {
        return Some(ExecServerConfig::default());
    };
    let mut good = Table::new();
    for (key, value) in settings {
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        match ExecServerConfig::deserialize(alone) {
            Ok(_) => _ = good.insert(key, value),
            Err(_) if key == "listen" || key.starts_with("ws_") => return None,
            Err(_) => {}
        }
    }
    ExecServerConfig::deserialize(good).ok()
}

/// What a file says, nothing if it can't be parsed, or `None` if it then may say who is allowed to connect, and where: a
/// file that is there but gives no text may say anything.
fn readable(path: &Path) -> Option<Table> {
    let Some(text) = layer::read_text(path).ok()? else { return Some(Table::new()) };
    let may_guard = access::may_be_hidden_in(&text);
    match Layer::parse(path, text) {
        Ok(layer) => guarding(layer.table),
        Err(_) => (!may_guard).then(Table::new),
    }
}

/// A layer, unless it would replace the settings of the server by something that is no table.
fn guarding(layer: Table) -> Option<Table> {
    (!access::is_replaced_by(&layer)).then_some(layer)
}

fn features(given: std::collections::BTreeMap<String, FeatureValue>) -> Features {
    let flag = |value| match value {
        FeatureValue::Flag(on) => Some(on),
        FeatureValue::Settings { enabled } => enabled,
    };
    Features(given.into_iter().filter_map(|(name, value)| Some((name, flag(value)?))).collect())
}

/// The files, lowest first; the command line's layer goes between the last project and the managed file.
struct Layers {
    below: Vec<Layer>,
    managed: Option<Layer>,
}

impl Layers {
    fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let managed = Layer::read(&sources.system.join("managed_config.toml"))?;
        let mut below = Vec::new();
        for dir in [&sources.system, &sources.home] {
            below.extend(Layer::read(&dir.join("config.toml"))?);
        }
        let mut layers = Self { below, managed };
        let without_projects = layers.merged(&sources.overrides);
        for path in project::trusted_files(&sources.cwd, &sources.home, &without_projects) {
            layers.below.extend(Layer::read_project(&path)?);
        }
        Ok(layers)
    }

    fn merged(&self, overrides: &Overrides) -> Table {
        let mut merged = Table::new();
        for layer in &self.below {
            merge(&mut merged, layer.table.clone());
        }
        merge(&mut merged, overrides.table().clone());
        if let Some(managed) = &self.managed {
            merge(&mut merged, managed.table.clone());
        }
        merged
    }

    /// Reports the first bad value, files before the command line; then, in strict mode, the first unknown key. The
    /// unknown keys of our own table give warnings.
    fn check(self, sources: &Sources) -> Result<Checked, ConfigError> {
        let files = self.below.into_iter().chain(self.managed).map(|layer| layer.checked);
        let mut unknown: VecDeque<_> = files.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let unclear = unknown.iter().find(|(key, _)| access::may_be_meant_by(&key.to_string()));
        let access_unclear = unclear.map(|(_, error)| error.to_string());
        unknown.extend(unknown_overrides(&sources.overrides)?);
        if sources.strict
            && let Some((_, error)) = unknown.pop_front()
        {
            return Err(error);
        }
        unknown.retain(|(key, _)| key.parts().first().is_some_and(|table| table == SERVER));
        let warnings = unknown.into_iter().map(|(_, error)| error.to_string()).collect();
        Ok(Checked { warnings, access_unclear })
    }
}

/// What there is to say of unknown keys.
struct Checked {
    warnings: Vec<String>,
    access_unclear: Option<String>,
}

/// The keys of the command line that nobody knows, in its order and not in that of the alphabet.
fn unknown_overrides(overrides: &Overrides) -> Result<Vec<(Unknown, ConfigError)>, ConfigError> {
    let mut found = unknown::find(Value::Table(overrides.table().clone())).map_err(command_line)?;
    found.sort_by_key(|key| overrides.keys().iter().position(|given| key.is_on_the_way_of(given)));
    Ok(found.into_iter().map(|key| (key.clone(), ConfigError::UnknownOverride(key.to_string()))).collect())
}

fn decode(table: Table) -> Result<ConfigToml, ConfigError> {
    ConfigToml::deserialize(Value::Table(table)).map_err(command_line)
}

fn command_line(error: toml::de::Error) -> ConfigError {
    ConfigError::CommandLine(error.to_string().trim_end().to_owned())
}

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;
