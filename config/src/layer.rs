//! One file of configuration: read, parsed, and checked with the places of its faults.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::error::ConfigError;
use crate::exec_server::ExecServerConfig;
use crate::keys::NOT_FOR_PROJECTS;
use crate::shape::ConfigToml;
use crate::unknown::{self, Unknown};

/// Largest file that is read.
const FILE_BYTES: u64 = 8 << 20;

/// One file of configuration.
pub(crate) struct Layer {
    path: PathBuf,
    text: String,
    project: bool,
    /// What it says, with relative paths made absolute and without what it can't set.
    pub(crate) table: Table,
}

impl Layer {
    /// Reads a file; a missing one is `None`.
    ///
    /// # Errors
    /// It can't be read, or is no TOML.
    pub(crate) fn read(path: PathBuf, project: bool) -> Result<Option<Self>, ConfigError> {
        let Some(text) = read(&path)? else { return Ok(None) };
        let mut table: Table = toml::from_str(&text).map_err(|error| {
            let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
            let (path, message) = (path.clone(), error.message().to_owned());
            if project {
                let excerpt = error.to_string().trim_end().to_owned();
                ConfigError::Project { path, line, column, message, excerpt }
            } else {
                ConfigError::File { path, line, column, message }
            }
        })?;
        if project {
            NOT_FOR_PROJECTS.iter().for_each(|key| remove(&mut table, key));
        }
        resolve_paths(&mut table, path.parent().unwrap_or(Path::new("/")));
        Ok(Some(Self { path, text, project, table }))
    }

    /// Checks the types of all values.
    ///
    /// # Errors
    /// The first bad value, with its place.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.decode::<ConfigToml>().map(|_| ())
    }

    /// Decodes the file by itself.
    ///
    /// # Errors
    /// The first bad value, with its place.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(toml::Deserializer::from(self.spanned()?)).map_err(|error| self.at(&error))
    }

    /// The keys that nobody knows, in the order of the file, each with the error that it is in strict mode.
    ///
    /// # Errors
    /// A bad value.
    pub(crate) fn unknown(&self) -> Result<Vec<(Unknown, ConfigError)>, ConfigError> {
        let table = self.spanned()?;
        let found =
            unknown::find(toml::Deserializer::from(table.clone())).map_err(|error| self.at(&error))?;
        let mut found: Vec<_> =
            found.into_iter().map(|unknown| (offset(table.get_ref(), unknown.parts()), unknown)).collect();
        found.sort_by_key(|(offset, _)| *offset);
        Ok(found
            .into_iter()
            .map(|(offset, unknown)| {
                let error = self.error(offset, format!("unknown configuration field `{unknown}`"));
                (unknown, error)
            })
            .collect())
    }

    fn spanned(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let mut table = DeTable::parse(&self.text).map_err(|error| self.at(&error))?;
        if self.project {
            NOT_FOR_PROJECTS.iter().for_each(|key| remove_spanned(table.get_mut(), key));
        }
        Ok(table)
    }

    fn at(&self, error: &toml::de::Error) -> ConfigError {
        self.error(error.span().map_or(0, |span| span.start), error.message().to_owned())
    }

    fn error(&self, offset: usize, message: String) -> ConfigError {
        let (line, column) = place(&self.text, offset);
        ConfigError::File { path: self.path.clone(), line, column, message }
    }
}

/// Reads a file without its byte-order mark; a missing one is `None`.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |cause| ConfigError::Read { path: path.to_owned(), cause };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(failed(io::Error::other(format!("it is larger than {FILE_BYTES} bytes"))));
    }
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(Some(text))
}

pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Line and column of a byte, from 1; the column counts characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

/// Where the key begins that the parts lead to, or its deepest part that is found.
fn offset(table: &DeTable<'_>, parts: &[String]) -> usize {
    let (mut table, mut offset) = (table, 0);
    for part in parts {
        let Some((key, value)) = table.get_key_value(part.as_str()) else { break };
        offset = key.span().start;
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    offset
}

fn remove(table: &mut Table, key: &[&str]) {
    match key {
        [name] => {
            table.remove(*name);
        }
        [name, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(*name) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

fn remove_spanned(table: &mut DeTable<'_>, key: &[&str]) {
    match key {
        [name] => {
            table.remove(*name);
        }
        [name, rest @ ..] => {
            if let Some(DeValue::Table(inner)) = table.get_mut(*name).map(Spanned::get_mut) {
                remove_spanned(inner, rest);
            }
        }
        [] => {}
    }
}

/// Makes the relative paths of a file start at its directory.
fn resolve_paths(table: &mut Table, base: &Path) {
    let Some(Value::Table(settings)) = table.get_mut("exec_server") else { return };
    for key in ExecServerConfig::PATHS {
        if let Some(Value::String(path)) = settings.get_mut(key)
            && let Some(absolute) = base.join(&path).to_str()
        {
            *path = absolute.to_owned();
        }
    }
}
