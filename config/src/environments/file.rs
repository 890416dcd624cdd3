//! What the two files hold, read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_secret::Secret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::list::{
    Environments, EnvironmentsError, InUse, LOCAL, NONE, Named, OWN_FILE, Place, REMOTE, SHARED_FILE,
    check_id,
};
use crate::layer::{parse_as, read_text};

/// Says whether a server's URL can be used, with a token or without one.
pub type CheckUrl<'a> = &'a dyn Fn(&str, bool) -> Result<(), String>;

/// Reads both files in the home directory; the shared one, if it exists, before `variable`, the value of
/// `CODEX_EXEC_SERVER_URL` (protocol.md 15.1).
///
/// # Errors
/// A file or the variable can't be used. Nothing secret is in them.
pub fn load(
    home: Option<&Path>,
    variable: Option<&str>,
    check_url: CheckUrl<'_>,
) -> Result<Environments, EnvironmentsError> {
    let Some(home) = home else { return from_variable(variable, check_url) };
    let shared = read_text(&home.join(SHARED_FILE))?;
    let own = read_text(&home.join(OWN_FILE))?;
    from_texts(home, shared, own, variable, check_url)
}

/// Whether somebody lets the environment of this id rest, as our own file says now; no where that can't be read.
pub fn is_paused(home: &Path, id: &str) -> bool {
    let path = home.join(OWN_FILE);
    let text = read_text(&path).ok().flatten();
    text.and_then(|text| parse_as::<Own>(&path, text).ok()).is_some_and(|own| own.paused.contains(id))
}

/// What the texts of both files, where there are any, come to.
pub(super) fn from_texts(
    home: &Path,
    shared: Option<String>,
    own: Option<String>,
    variable: Option<&str>,
    check_url: CheckUrl<'_>,
) -> Result<Environments, EnvironmentsError> {
    let mut found = match shared {
        Some(text) => from_shared(home, text, check_url)?,
        None => from_variable(variable, check_url)?,
    };
    if let Some(text) = own {
        add_own(home, text, &mut found)?;
    }
    Ok(found)
}

fn from_variable(variable: Option<&str>, check_url: CheckUrl<'_>) -> Result<Environments, EnvironmentsError> {
    match variable.map(str::trim).filter(|url| !url.is_empty()) {
        None => Ok(Environments { include_local: true, in_use: InUse::Local, list: Vec::new() }),
        Some(url) if url.eq_ignore_ascii_case(NONE) => Ok(Environments {
            include_local: false,
            in_use: InUse::None("CODEX_EXEC_SERVER_URL is \"none\"".into()),
            list: Vec::new(),
        }),
        Some(url) => {
            check_url(url, false).map_err(EnvironmentsError::Variable)?;
            let place = Place::Url { url: url.to_owned(), bearer: None, connect_time: None };
            let remote = Named { id: REMOTE.into(), place, initialize_time: None, paused: false };
            Ok(Environments { include_local: false, in_use: InUse::Named(REMOTE.into()), list: vec![remote] })
        }
    }
}

/// `environments.toml`, with every key of protocol.md 15.1 and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    default: Option<String>,
    #[serde(default = "yes")]
    include_local: bool,
    #[serde(default)]
    environments: Vec<SharedEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedEntry {
    id: String,
    url: Option<String>,
    program: Option<PathBuf>,
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    cwd: Option<PathBuf>,
    connect_timeout_sec: Option<f64>,
    initialize_timeout_sec: Option<f64>,
    #[serde(default, deserialize_with = "token")]
    auth_bearer_token: Option<Secret>,
    /// For agents, which load the skills of an environment.
    #[serde(rename = "skills")]
    _skills: Option<Skills>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skills {
    #[serde(rename = "required")]
    _required: Option<toml::Value>,
}

/// Our own file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    default: Option<String>,
    #[serde(default)]
    paused: BTreeSet<String>,
    #[serde(default)]
    environments: Vec<OwnEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnEntry {
    id: String,
    unix: Option<PathBuf>,
    registry: Option<String>,
    environment_id: Option<String>,
    token_file: Option<PathBuf>,
}

const fn yes() -> bool {
    true
}

/// A token of another type must not be told in the error.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(token) => Ok(Some(token.into())),
        other => Err(D::Error::custom(format!("auth_bearer_token takes a string, no {}", other.type_str()))),
    }
}

/// What the text of `environments.toml` says.
fn from_shared(
    home: &Path,
    text: String,
    check_url: CheckUrl<'_>,
) -> Result<Environments, EnvironmentsError> {
    let path = home.join(SHARED_FILE);
    let read: Shared = parse_as(&path, text)?;
    let wrong = |message: String| EnvironmentsError::Meaning { path: path.clone(), message };
    let mut list: Vec<Named> = Vec::new();
    for entry in read.environments {
        let named = check(entry, home, check_url).map_err(&wrong)?;
        refuse_second(&list, &named.id).map_err(&wrong)?;
        list.push(named);
    }
    let in_use = match read.default.as_deref() {
        Some(NONE) => InUse::None(format!("{} says default = \"none\"", path.display())),
        None if !read.include_local => {
            InUse::None(format!("{} names no default, and include_local is false", path.display()))
        }
        None => InUse::Local,
        Some(LOCAL) if read.include_local => InUse::Local,
        Some(id) if list.iter().any(|named| named.id == id) => InUse::Named(id.to_owned()),
        Some(id) => {
            let known: Vec<&str> = list.iter().map(|named| named.id.as_str()).collect();
            return Err(wrong(format!(
                "default is {id:?}, which is not configured; configured are: {}",
                known.join(", ")
            )));
        }
    };
    Ok(Environments { include_local: read.include_local, in_use, list })
}

fn refuse_second(list: &[Named], id: &str) -> Result<(), String> {
    match list.iter().any(|named| named.id == id) {
        true => Err(format!("there are two environments {id:?}; give one of them another id")),
        false => Ok(()),
    }
}

/// One entry; an error names it.
fn check(entry: SharedEntry, home: &Path, check_url: CheckUrl<'_>) -> Result<Named, String> {
    check_id(&entry.id)?;
    let id = entry.id.clone();
    let named = |message: String| format!("environment {id:?}: {message}");
    let connect_time = seconds("connect_timeout_sec", entry.connect_timeout_sec).map_err(named)?;
    let initialize_time = seconds("initialize_timeout_sec", entry.initialize_timeout_sec).map_err(named)?;
    let place = match (entry.url, entry.program) {
        (Some(url), None) => {
            let without =
                [("args", entry.args.is_some()), ("env", entry.env.is_some()), ("cwd", entry.cwd.is_some())];
            refuse(&without, "program").map_err(named)?;
            if url.trim().is_empty() {
                return Err(named("url is empty; it takes a ws:// or wss:// URL".into()));
            }
            if entry.auth_bearer_token.as_ref().is_some_and(Secret::is_blank) {
                return Err(named(
                    "auth_bearer_token is empty; leave it out for a server that asks for none".into(),
                ));
            }
            check_url(&url, entry.auth_bearer_token.is_some())
                .map_err(|why| named(format!("url can't be used: {why}")))?;
            Place::Url { url, bearer: entry.auth_bearer_token, connect_time }
        }
        (None, Some(program)) => {
            let without = [
                ("connect_timeout_sec", connect_time.is_some()),
                ("auth_bearer_token", entry.auth_bearer_token.is_some()),
            ];
            refuse(&without, "url").map_err(named)?;
            if program.as_os_str().is_empty() {
                return Err(named(
                    "program is empty; it takes the file of a program that serves on stdin".into(),
                ));
            }
            Place::Program {
                program,
                args: entry.args.unwrap_or_default(),
                env: entry.env.unwrap_or_default(),
                cwd: entry.cwd.map(|cwd| home.join(cwd)),
            }
        }
        (Some(_), Some(_)) => return Err(named("it has both url and program; one of them goes".into())),
        (None, None) => {
            return Err(named("it has neither url nor program; it takes exactly one of them".into()));
        }
    };
    Ok(Named { id: entry.id, place, initialize_time, paused: false })
}

fn refuse(keys: &[(&str, bool)], needed: &str) -> Result<(), String> {
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(format!("{key} goes only with {needed}")),
        None => Ok(()),
    }
}

fn seconds(key: &str, value: Option<f64>) -> Result<Option<Duration>, String> {
    let time = |seconds: f64| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("{key} is {seconds}; it takes a number of seconds, 0 or more"))
    };
    value.map(time).transpose()
}

/// Adds what the text of our own file says.
fn add_own(home: &Path, text: String, found: &mut Environments) -> Result<(), EnvironmentsError> {
    let path = home.join(OWN_FILE);
    let own: Own = parse_as(&path, text)?;
    let wrong = |message: String| EnvironmentsError::Meaning { path: path.clone(), message };
    for entry in own.environments {
        let named = check_own(entry, home).map_err(&wrong)?;
        refuse_second(&found.list, &named.id).map_err(&wrong)?;
        found.list.push(named);
    }
    for named in &mut found.list {
        named.paused = own.paused.contains(&named.id);
    }
    if let Some(id) = own.default {
        if !found.list.iter().any(|named| named.id == id) {
            return Err(wrong(format!("default is {id:?}, which neither file configures")));
        }
        found.in_use = InUse::Named(id);
    }
    Ok(())
}

fn check_own(entry: OwnEntry, home: &Path) -> Result<Named, String> {
    check_id(&entry.id)?;
    let token_file = entry.token_file.map(|file| home.join(file));
    let place = match (entry.unix, entry.registry, entry.environment_id) {
        (Some(path), None, None) => Place::Unix { path: home.join(path), token_file },
        (None, Some(url), Some(environment_id)) => Place::Registry { url, environment_id, token_file },
        _ => {
            return Err(format!(
                "environment {:?}: it takes either unix, or registry and environment_id",
                entry.id
            ));
        }
    };
    Ok(Named { id: entry.id, place, initialize_time: None, paused: false })
}
