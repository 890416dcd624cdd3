//! Turns `-c key=value`, `--enable` and `--disable` of a command line into one table of configuration.

use toml::{Table, Value};

use crate::access;
use crate::features::{self, UnknownFeature};
use crate::unknown;

/// Parts of a dotted key; a deeper one would only cost stack.
const KEY_PARTS: usize = 64;

/// Why the command line's configuration can't be used (login.md 12.5, 12.6).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OverrideError {
    /// A `-c` without `=`.
    #[error("Invalid override (missing '='): {0}")]
    MissingEquals(String),
    /// A `-c` with nothing before the `=`.
    #[error("Empty key in override: {0}")]
    EmptyKey(String),
    /// A `-c` whose key has more than 64 parts.
    #[error("Key of more than {KEY_PARTS} parts in override: {0}")]
    DeepKey(String),
    /// `--enable` or `--disable` of an unknown feature.
    #[error(transparent)]
    UnknownFeature(#[from] UnknownFeature),
}

/// A `-c` that is not understood, and may be meant to say who is allowed to connect, or where the server listens.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the override {text:?} is not understood ({problem}) and may be meant to say who is allowed to connect, so the server \
     does not start: write -c exec_server.ws_auth=MODE or -c exec_server.listen=URL, or give --ws-auth"
)]
pub struct UnclearOverride {
    text: String,
    problem: String,
}

/// What the command line says about the configuration: one table, the layer above all files but the managed one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    table: Table,
    /// The keys in the order they were given, for naming the first that is unknown.
    keys: Vec<String>,
    /// Every `-c` as it was given.
    given: Vec<String>,
}

impl Overrides {
    /// Takes the values of all command levels, shallow to deep: a later `-c` beats an earlier one; then every `--enable`,
    /// then every `--disable`.
    ///
    /// # Errors
    /// An unknown feature, before anything else; then the first `-c` that is no assignment.
    pub fn parse(dash_c: &[String], enable: &[String], disable: &[String]) -> Result<Self, OverrideError> {
        features::check(enable.iter().chain(disable))?;
        let mut overrides = Self::default();
        for text in dash_c {
            let (key, value) = split(text)?;
            overrides.set(key, value);
            overrides.given.push(text.clone());
        }
        for (names, on) in [(enable, true), (disable, false)] {
            for name in names {
                overrides.set(&format!("features.{name}"), Value::Boolean(on));
            }
        }
        Ok(overrides)
    }

    /// The overrides as one table, to be merged like a file.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The first `-c` that is not understood and may be meant to say who is allowed to connect; a server that listens
    /// should not start on it.
    pub fn unclear_access(&self) -> Option<UnclearOverride> {
        self.given.iter().find_map(|text| {
            let (key, value) = split(text).ok()?;
            let mut alone = Table::new();
            set_at(&mut alone, key, value);
            let is_unclear = access::is_replaced_by(&alone) || access::may_be_hidden_in(text);
            let problem = match unknown::find(Value::Table(alone)) {
                Err(error) => error.to_string().lines().collect::<Vec<_>>().join(" "),
                Ok(found) => format!("unknown configuration field `{}`", found.first()?),
            };
            is_unclear.then(|| UnclearOverride { text: text.clone(), problem })
        })
    }

    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }

    fn set(&mut self, key: &str, value: Value) {
        self.keys.push(key.to_owned());
        set_at(&mut self.table, key, value);
    }
}

/// Sets a dotted key; missing tables on the way are made, and anything else there is replaced by one.
fn set_at(table: &mut Table, key: &str, value: Value) {
    let Some((part, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let mut inner = match table.remove(part) {
        Some(Value::Table(inner)) => inner,
        _ => Table::new(),
    };
    set_at(&mut inner, rest, value);
    table.insert(part.to_owned(), Value::Table(inner));
}

fn split(text: &str) -> Result<(&str, Value), OverrideError> {
    let (key, value) = text.split_once('=').ok_or_else(|| OverrideError::MissingEquals(text.to_owned()))?;
    let key = match key.trim() {
        "" => return Err(OverrideError::EmptyKey(text.to_owned())),
        "use_legacy_landlock" => "features.use_legacy_landlock",
        key => key,
    };
    if key.split('.').count() > KEY_PARTS {
        return Err(OverrideError::DeepKey(text.to_owned()));
    }
    Ok((key, value_of(value.trim())))
}

/// The value as TOML would read it behind an `=`; what TOML does not read is a string, without its outer quotes.
fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    match parsed {
        // More than one key would come from a line break in the text.
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.trim_matches(['"', '\'']).to_owned()))
}

#[cfg(test)]
mod tests;
