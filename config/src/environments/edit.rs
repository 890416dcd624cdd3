//! Changes the two files, and keeps what people wrote around the changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use super::file::{CheckUrl, from_texts};
use super::list::{Environments, EnvironmentsError, LOCAL, NONE, OWN_FILE, Place, SHARED_FILE, check_id};
use crate::layer::read_text;

/// Held while the files are changed.
const LOCK_FILE: &str = ".exec-server-environments.lock";

/// Why the environments were not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What stands there can't be used as it is.
    #[error(transparent)]
    Environments(#[from] EnvironmentsError),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Asked(String),
    /// A file can't be written.
    #[error("can't write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Both files while they are changed.
pub struct Edited {
    shared: DocumentMut,
    own: DocumentMut,
    found: Environments,
}

/// Changes the environments in the home directory; all of it or nothing. Others who do the same wait.
///
/// # Errors
/// The files can't be used as they are or would be, can't be written, or `change` refuses.
pub fn edit<R>(
    home: &Path,
    check_url: CheckUrl<'_>,
    change: impl FnOnce(&mut Edited) -> Result<R, EditError>,
) -> Result<R, EditError> {
    let _lock = lock(home)?;
    let (shared_path, own_path) = (home.join(SHARED_FILE), home.join(OWN_FILE));
    let read = |path: &Path| read_text(path).map_err(EnvironmentsError::File);
    let (shared, own) = (read(&shared_path)?, read(&own_path)?);
    let found = from_texts(home, shared.clone(), own.clone(), None, check_url)?;
    let parse = |path: &Path, text: &Option<String>| {
        text.as_deref().unwrap_or_default().parse::<DocumentMut>().map_err(|error| {
            EnvironmentsError::Meaning { path: path.to_owned(), message: error.message().to_owned() }
        })
    };
    let mut edited = Edited { shared: parse(&shared_path, &shared)?, own: parse(&own_path, &own)?, found };
    let result = change(&mut edited)?;
    let after = |before: &Option<String>, document: &DocumentMut| {
        let text = document.to_string();
        (text != before.as_deref().unwrap_or_default()).then_some(text)
    };
    let (new_shared, new_own) = (after(&shared, &edited.shared), after(&own, &edited.own));
    from_texts(home, new_shared.clone().or(shared), new_own.clone().or(own), None, check_url)?;
    for (path, text) in [(shared_path, new_shared), (own_path, new_own)] {
        if let Some(text) = text {
            write(&path, &text).map_err(|cause| EditError::Write { path, cause })?;
        }
    }
    Ok(result)
}

fn lock(home: &Path) -> Result<File, EditError> {
    let path = home.join(LOCK_FILE);
    let locked = || {
        std::fs::create_dir_all(home)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    locked().map_err(|cause| EditError::Write { path: path.clone(), cause })
}

/// Replaces a file whole. It may hold a token, so it belongs to its user alone, unless it was opened to others before.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // A link that somebody made stays one.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = path.metadata().map_or(0o600, |found| found.permissions().mode() & 0o777);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    // Left behind by one that was killed and had this number.
    let _ = std::fs::remove_file(&new);
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    };
    let written = written();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

impl Edited {
    /// What the files said before.
    pub fn found(&self) -> &Environments {
        &self.found
    }

    /// Adds an environment, in the shared file where released clients know its kind.
    ///
    /// # Errors
    /// An id that can't be or is taken.
    pub fn add(&mut self, id: &str, place: &Place) -> Result<(), EditError> {
        check_id(id).map_err(EditError::Asked)?;
        if self.found.get(id).is_some() {
            return Err(EditError::Asked(format!(
                "there is an environment {id:?} already; remove it first, or take another name"
            )));
        }
        let mut entry = Table::new();
        entry["id"] = value(id);
        let document = match place {
            Place::Url { url, bearer, connect_time } => {
                entry["url"] = value(url);
                if let Some(token) = bearer {
                    entry["auth_bearer_token"] = value(token.expose().trim());
                }
                if let Some(time) = connect_time {
                    entry["connect_timeout_sec"] = value(time.as_secs_f64());
                }
                &mut self.shared
            }
            Place::Program { program, args, env, cwd } => {
                entry["program"] = value(text(program)?);
                if !args.is_empty() {
                    entry["args"] = value(args.iter().collect::<Array>());
                }
                if !env.is_empty() {
                    entry["env"] = value(env.iter().collect::<InlineTable>());
                }
                if let Some(cwd) = cwd {
                    entry["cwd"] = value(text(cwd)?);
                }
                &mut self.shared
            }
            Place::Unix { path, token_file } => {
                entry["unix"] = value(text(path)?);
                if let Some(file) = token_file {
                    entry["token_file"] = value(text(file)?);
                }
                &mut self.own
            }
            Place::Registry { url, environment_id, token_file } => {
                entry["registry"] = value(url);
                entry["environment_id"] = value(environment_id);
                if let Some(file) = token_file {
                    entry["token_file"] = value(text(file)?);
                }
                &mut self.own
            }
        };
        match document.entry("environments").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new())) {
            Item::ArrayOfTables(tables) => tables.push(entry),
            Item::Value(Value::Array(array)) => array.push(entry.into_inline_table()),
            _ => return Err(EditError::Asked("environments is no list of tables".into())),
        }
        Ok(())
    }

    /// Removes an environment, and what points to it.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn remove(&mut self, id: &str) -> Result<(), EditError> {
        self.known(id)?;
        for document in [&mut self.shared, &mut self.own] {
            if document.get("default").and_then(Item::as_str) == Some(id) {
                document.remove("default");
            }
            let emptied = match document.get_mut("environments") {
                Some(Item::ArrayOfTables(tables)) => {
                    tables.retain(|table| table.get("id").and_then(Item::as_str) != Some(id));
                    tables.is_empty()
                }
                Some(Item::Value(Value::Array(array))) => {
                    let is_it = |entry: &Value| {
                        entry.as_inline_table().and_then(|table| table.get("id")).and_then(Value::as_str)
                            == Some(id)
                    };
                    array.retain(|entry| !is_it(entry));
                    false
                }
                _ => false,
            };
            if emptied {
                document.remove("environments");
            }
        }
        self.set_paused(id, false);
        Ok(())
    }

    /// Makes an environment the one in use; [`LOCAL`] for this machine and [`NONE`] for none.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn set_in_use(&mut self, id: &str) -> Result<(), EditError> {
        if ![LOCAL, NONE].contains(&id) {
            self.known(id)?;
        }
        if id == LOCAL && !self.found.include_local {
            return Err(EditError::Asked(format!(
                "{SHARED_FILE} says include_local = false, so this machine is no environment"
            )));
        }
        self.write_in_use(id);
        Ok(())
    }

    fn write_in_use(&mut self, id: &str) {
        let is_own = entries(&self.own).any(|known| known == id);
        let (document, other) =
            if is_own { (&mut self.own, None) } else { (&mut self.shared, Some(&mut self.own)) };
        document["default"] = value(id);
        if let Some(other) = other {
            other.remove("default");
        }
    }

    /// Makes an environment that was just added the one in use.
    ///
    /// # Errors
    /// It was not added.
    pub fn use_added(&mut self, id: &str) -> Result<(), EditError> {
        if ![&self.shared, &self.own].into_iter().any(|document| entries(document).any(|known| known == id)) {
            return Err(EditError::Asked(self.found.unknown(id)));
        }
        self.write_in_use(id);
        Ok(())
    }

    /// Says how long clients wait for the first answer of an environment of the shared file that was just added.
    ///
    /// # Errors
    /// It was not added there.
    pub fn set_initialize_time(&mut self, id: &str, time: Duration) -> Result<(), EditError> {
        let seconds = value(time.as_secs_f64());
        match self.shared.get_mut("environments") {
            Some(Item::ArrayOfTables(tables)) => {
                let mut tables = tables.iter_mut();
                if let Some(table) = tables.find(|table| table.get("id").and_then(Item::as_str) == Some(id)) {
                    table["initialize_timeout_sec"] = seconds;
                    return Ok(());
                }
            }
            Some(Item::Value(Value::Array(array))) => {
                let mut tables = array.iter_mut().filter_map(Value::as_inline_table_mut);
                let found = tables.find(|table| table.get("id").and_then(Value::as_str) == Some(id));
                if let (Some(table), Item::Value(seconds)) = (found, seconds) {
                    table.insert("initialize_timeout_sec", seconds);
                    return Ok(());
                }
            }
            _ => {}
        }
        Err(EditError::Asked(self.found.unknown(id)))
    }

    /// Lets an environment rest, or ends that.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn pause(&mut self, id: &str, paused: bool) -> Result<(), EditError> {
        self.known(id)?;
        self.set_paused(id, paused);
        Ok(())
    }

    fn set_paused(&mut self, id: &str, paused: bool) {
        let is_it = |entry: &Value| entry.as_str() == Some(id);
        match self.own.get_mut("paused").and_then(Item::as_array_mut) {
            Some(array) => {
                array.retain(|entry| !is_it(entry));
                if paused {
                    array.push(id);
                }
                if array.is_empty() {
                    self.own.remove("paused");
                }
            }
            None if paused => self.own["paused"] = value([id].into_iter().collect::<Array>()),
            None => {}
        }
    }

    fn known(&self, id: &str) -> Result<(), EditError> {
        match self.found.get(id) {
            Some(_) => Ok(()),
            None => Err(EditError::Asked(self.found.unknown(id))),
        }
    }
}

/// The ids in one file.
fn entries(document: &DocumentMut) -> impl Iterator<Item = &str> {
    let tables = document.get("environments").and_then(Item::as_array_of_tables);
    let array = document.get("environments").and_then(Item::as_array);
    let from_tables = tables.into_iter().flatten().filter_map(|table| table.get("id")?.as_str());
    let from_array =
        array.into_iter().flatten().filter_map(|entry| entry.as_inline_table()?.get("id")?.as_str());
    from_tables.chain(from_array)
}

/// Both files are text.
fn text(path: &Path) -> Result<&str, EditError> {
    path.to_str()
        .ok_or_else(|| EditError::Asked(format!("{} is not UTF-8 and can't be written down", path.display())))
}
