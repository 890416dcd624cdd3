//! Cuts the layers of configuration down to the keys that somebody asks for, each layer apart (protocol.md 12.1).

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::ConfigError;
use crate::layer::{self, Layer};
use crate::merge::merge;
use crate::project;

/// A key as its parts, from the outermost table.
pub type KeyPath = [String];

/// What to read, from where.
#[derive(Debug, Clone, Copy)]
pub struct Selector<'a> {
    /// The home directory; see [`crate::home::find`].
    pub home: &'a Path,
    /// The system's directory; `/etc/codex` except in tests.
    pub system: &'a Path,
    /// Trusted projects around this directory count. It need not exist.
    pub cwd: &'a Path,
    /// The keys of `config.toml` that are wanted.
    pub config: &'a [Vec<String>],
    /// The keys of `requirements.toml` that are wanted.
    pub requirements: &'a [Vec<String>],
}

/// The layers that have something of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Of `config.toml`: system, home, trusted projects, the old managed file.
    pub config: SelectedLayers,
    /// Of the system's `requirements.toml`.
    pub requirements: SelectedLayers,
}

/// Layers, lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectedLayers {
    /// The layers; one without any of the keys is left out.
    pub layers: Vec<SelectedLayer>,
    /// Before which of them the layers of a workspace's service belong: behind the system's own.
    pub cloud_insertion_index: usize,
}

/// One layer, with nothing but what was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct SelectedLayer {
    /// Where it comes from, in the words of released programs.
    pub source: String,
    /// Where its relative paths begin.
    pub base_dir: PathBuf,
    /// TOML.
    pub text: String,
}

impl std::fmt::Debug for SelectedLayer {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelectedLayer").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Reads the files anew, and gives what they say under the keys, as it stands there: no path is resolved, no value
/// checked. The command line's layer is none of them. Does blocking reads.
///
/// # Errors
/// A file that is there and can't be read, or is no TOML. That of an untrusted project is not even opened.
pub fn select(asked: &Selector<'_>) -> Result<Selection, ConfigError> {
    Ok(Selection { config: config(asked)?, requirements: requirements(asked)? })
}

fn config(asked: &Selector<'_>) -> Result<SelectedLayers, ConfigError> {
    if asked.config.is_empty() {
        return Ok(SelectedLayers::default());
    }
    let read = |dir: &Path, name| layer::read_as::<Table>(&dir.join(name)).map(Option::unwrap_or_default);
    let (system, user) = (read(asked.system, "config.toml")?, read(asked.home, "config.toml")?);
    let managed = read(asked.system, "managed_config.toml")?;
    let projects = project::trusted_files(asked.cwd, asked.home, &merged([&system, &user, &managed]));

    let mut kept = Kept { paths: asked.config, layers: SelectedLayers::default() };
    kept.add("system", &asked.system.join("config.toml"), &system)?;
    kept.layers.cloud_insertion_index = kept.layers.layers.len();
    kept.add("user", &asked.home.join("config.toml"), &user)?;
    for path in projects {
        let project = Layer::read_project(&path)?;
        kept.add("project", &path, &project.map(|layer| layer.table).unwrap_or_default())?;
    }
    kept.add("legacy managed_config.toml", &asked.system.join("managed_config.toml"), &managed)?;
    Ok(kept.layers)
}

fn requirements(asked: &Selector<'_>) -> Result<SelectedLayers, ConfigError> {
    if asked.requirements.is_empty() {
        return Ok(SelectedLayers::default());
    }
    let path = asked.system.join("requirements.toml");
    let mut kept = Kept { paths: asked.requirements, layers: SelectedLayers::default() };
    kept.add("system", &path, &layer::read_as(&path)?.unwrap_or_default())?;
    kept.layers.cloud_insertion_index = kept.layers.layers.len();
    Ok(kept.layers)
}

fn merged(layers: [&Table; 3]) -> Table {
    layers.into_iter().fold(Table::new(), |mut merged, layer| {
        // Nothing else is looked at to find projects, and a large file has much else.
        let keys = ["projects", "project_root_markers"];
        let those = keys.iter().filter_map(|key| Some(((*key).to_owned(), layer.get(*key)?.clone())));
        merge(&mut merged, those.collect());
        merged
    })
}

/// The layers that were kept so far.
struct Kept<'a> {
    paths: &'a [Vec<String>],
    layers: SelectedLayers,
}

impl Kept<'_> {
    fn add(&mut self, kind: &str, path: &Path, table: &Table) -> Result<(), ConfigError> {
        let cut = cut(table, self.paths);
        if cut.is_empty() {
            return Ok(());
        }
        let text = toml::to_string(&cut).map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            cause: std::io::Error::other(error),
        })?;
        self.layers.layers.push(SelectedLayer {
            source: format!("{kind} ({})", path.display()),
            base_dir: path.parent().unwrap_or(Path::new("/")).to_owned(),
            text,
        });
        Ok(())
    }
}

/// What a layer has below the keys.
fn cut(table: &Table, paths: &[Vec<String>]) -> Table {
    paths.iter().filter_map(|path| piece(table, path)).fold(Table::new(), |mut all, piece| {
        merge(&mut all, piece);
        all
    })
}

/// The value under one key, with the tables around it and nothing else of them.
fn piece(table: &Table, path: &KeyPath) -> Option<Table> {
    let (first, rest) = path.split_first()?;
    let value = match (table.get(first)?, rest) {
        (Value::Table(inner), [_, ..]) => Value::Table(piece(inner, rest)?),
        // Something else than a table in the way is told: it replaces the whole table of a lower layer.
        (value, _) => value.clone(),
    };
    Some(Table::from_iter([(first.clone(), value)]))
}

#[cfg(test)]
mod tests;
