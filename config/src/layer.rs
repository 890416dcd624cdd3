//! One file of configuration: read, parsed, and checked with the places of its faults.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::error::ConfigError;
use crate::exec_server::{ExecServerConfig, RendezvousConfig};
use crate::keys::NOT_FOR_PROJECTS;
use crate::unknown::{self, Unknown};

/// Largest file that is read. A safeguard, far from any real use.
const FILE_BYTES: u64 = 8 << 20;

/// One file of configuration.
pub(crate) struct Layer {
    /// What it says, with relative paths made absolute and without what it can't set.
    pub(crate) table: Table,
    /// The first bad value; or the keys that nobody knows, in the order of the file, each with the error that it is in
    /// strict mode.
    pub(crate) checked: Result<Vec<(Unknown, ConfigError)>, ConfigError>,
}

impl Layer {
    /// Reads a file; a missing one is `None`.
    ///
    /// # Errors
    /// It can't be read, or is no TOML.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        read_text(path)?.map(|text| Self::parse(path, text)).transpose()
    }

    /// Takes a file's text.
    ///
    /// # Errors
    /// It is no TOML.
    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let file = File { path: path.to_owned(), text };
        let parsed = DeTable::parse(&file.text).map_err(|error| file.fault(&error))?;
        file.layer(parsed)
    }

    /// Reads the file of a trusted project, without what it can't set; a missing one is `None`.
    ///
    /// # Errors
    /// It can't be read, or is no TOML.
    pub(crate) fn read_project(path: &Path) -> Result<Option<Self>, ConfigError> {
        let Some(file) = File::read(path)? else { return Ok(None) };
        let mut parsed = DeTable::parse(&file.text).map_err(|error| file.project_fault(&error))?;
        NOT_FOR_PROJECTS.iter().for_each(|key| remove(parsed.get_mut(), key));
        file.layer(parsed).map(Some)
    }
}

/// Reads and decodes a file that is no layer; a missing one is `None`.
///
/// # Errors
/// It can't be read, is no TOML, or has a bad value.
pub(crate) fn read_as<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConfigError> {
    read_text(path)?.map(|text| parse_as(path, text)).transpose()
}

/// Decodes a text that stands, or is to stand, in a file that is no layer.
///
/// # Errors
/// It is no TOML, or has a bad value.
pub(crate) fn parse_as<T: DeserializeOwned>(path: &Path, text: String) -> Result<T, ConfigError> {
    let file = File { path: path.to_owned(), text };
    toml::from_str(&file.text).map_err(|error| file.fault(&error))
}

/// A file's text, to tell the places of faults by.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        Ok(read_text(path)?.map(|text| Self { path: path.to_owned(), text }))
    }

    fn layer(&self, parsed: Spanned<DeTable<'_>>) -> Result<Layer, ConfigError> {
        let plain = toml::Deserializer::from(parsed.clone());
        let mut table = Table::deserialize(plain).map_err(|error| self.fault(&error))?;
        resolve_paths(&mut table, self.path.parent().unwrap_or(Path::new("/")));
        let checked = unknown::find(toml::Deserializer::from(parsed.clone()))
            .map(|found| self.unknown(parsed.get_ref(), found))
            .map_err(|error| self.fault(&error));
        Ok(Layer { table, checked })
    }

    fn unknown(&self, table: &DeTable<'_>, found: Vec<Unknown>) -> Vec<(Unknown, ConfigError)> {
        let mut found: Vec<_> = found.into_iter().map(|key| (offset(table, key.parts()), key)).collect();
        found.sort_by_key(|(offset, _)| *offset);
        let error = |(offset, key): (usize, Unknown)| {
            let error = self.error(offset, format!("unknown configuration field `{key}`"));
            (key, error)
        };
        found.into_iter().map(error).collect()
    }

    fn fault(&self, error: &toml::de::Error) -> ConfigError {
        self.error(start(error), error.message().to_owned())
    }

    fn project_fault(&self, error: &toml::de::Error) -> ConfigError {
        let (line, column) = place(&self.text, start(error));
        let (path, message) = (self.path.clone(), error.message().to_owned());
        ConfigError::Project { path, line, column, message, excerpt: error.to_string().trim_end().to_owned() }
    }

    fn error(&self, offset: usize, message: String) -> ConfigError {
        let (line, column) = place(&self.text, offset);
        ConfigError::File { path: self.path.clone(), line, column, message }
    }
}

fn start(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Reads a file without its byte-order mark; a missing one is `None`.
///
/// # Errors
/// It can't be opened or read, is too large, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |cause| ConfigError::Read { path: path.to_owned(), cause };
    let file = match crate::file::open(path) {
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

fn is_missing(error: &io::Error) -> bool {
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

fn remove(table: &mut DeTable<'_>, key: &[&str]) {
    match key {
        [name] => {
            table.remove(*name);
        }
        [name, rest @ ..] => {
            if let Some(DeValue::Table(inner)) = table.get_mut(*name).map(Spanned::get_mut) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

/// Makes the relative paths of a file start at its directory.
fn resolve_paths(table: &mut Table, base: &Path) {
    let Some(Value::Table(settings)) = table.get_mut("exec_server") else { return };
    resolve(settings, &ExecServerConfig::PATHS, base);
    if let Some(Value::Table(rendezvous)) = settings.get_mut("rendezvous") {
        resolve(rendezvous, &RendezvousConfig::PATHS, base);
    }
}

fn resolve(settings: &mut Table, keys: &[&str], base: &Path) {
    for key in keys {
        if let Some(Value::String(path)) = settings.get_mut(*key)
            && let Some(absolute) = base.join(&path).to_str()
        {
            *path = absolute.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<(), TestCaseError> {
        let file = File { path: "/x".into(), text: text.to_owned() };
        let parsed = DeTable::parse(text);
        let error = match parsed {
            Err(error) => Some(file.fault(&error)),
            Ok(parsed) => file.layer(parsed).and_then(|layer| layer.checked).err(),
        };
        if let Some(ConfigError::File { line, column, .. }) = error {
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!((1..=lines.len()).contains(&line), "line {line} of {text:?}");
            let width = lines[line - 1].chars().count();
            prop_assert!((1..=width + 1).contains(&column), "column {column} of {text:?}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_fault_of_any_text_has_a_place_in_it(text in "\\PC{0,40}(\n\\PC{0,20}){0,3}") {
            check(&text)?;
        }

        #[test]
        fn a_fault_of_nearly_good_toml_has_a_place_in_it(
            text in "((model|otel|features|exec_server|\\[projects\\.é\\]|profile) ?(=|\\.x =|\n)? ?(1|'ü'|\\{|\\[|true|\"\"\")\n){0,4}"
        ) {
            check(&text)?;
        }
    }
}
