//! Reads what clients before 0.144 send: the profile without `type`, and their own wrapper around a command (15.3).

use std::path::{Path, PathBuf};

use codex_exec_protocol::path::LocalPath;
use codex_exec_protocol::sandbox::{
    Access, Entry, EntryPath, FileSystem, Network, Permissions, Profile, Sandbox,
};
use serde_json::{Map, Value};

use super::error::PolicyError;

/// The file name of the wrapper on the client's machine.
const WRAPPER: &str = "codex-linux-sandbox";

/// A command taken out of a wrapper.
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrapped {
    /// What the wrapper would have enforced.
    pub sandbox: Sandbox,
    /// The command itself.
    pub argv: Vec<String>,
    /// Where it starts, if the wrapper says so.
    pub cwd: Option<PathBuf>,
}

/// Takes the command out of an older client's wrapper; none when `argv` has no wrapper.
///
/// # Errors
/// A wrapper with flags that can't be understood.
pub fn unwrap(argv: &[String]) -> Result<Option<Unwrapped>, PolicyError> {
    let Some((program, rest)) = argv.split_first() else { return Ok(None) };
    let program = Path::new(program);
    if !program.is_absolute() || program.file_name() != Some(WRAPPER.as_ref()) {
        return Ok(None);
    }
    let mut flags = Flags::default();
    let mut rest = rest.iter();
    loop {
        let flag = rest.next().ok_or_else(|| old("the wrapper has no `--` before its command"))?;
        let mut value = || rest.next().ok_or_else(|| old(&format!("{flag} has no value")));
        match flag.as_str() {
            "--" => break,
            "--sandbox-policy-cwd" => flags.policy_cwd = Some(value()?.into()),
            "--command-cwd" => flags.command_cwd = Some(value()?.into()),
            "--permission-profile" => flags.profile = Some(json(flag, value()?)?),
            "--file-system-sandbox-policy" => flags.files = Some(json(flag, value()?)?),
            "--network-sandbox-policy" => flags.network = Some(json(flag, value()?)?),
            // Says the same as the two above, in words of its own.
            "--sandbox-policy" => drop(value()?),
            // Names another mechanism, not another effect.
            "--use-legacy-landlock" => {}
            other => return Err(old(&format!("unknown flag {other:?}"))),
        }
    }
    let argv: Vec<String> = rest.cloned().collect();
    if argv.is_empty() {
        return Err(old("the wrapper has no command behind `--`"));
    }
    Ok(Some(Unwrapped { sandbox: flags.sandbox()?, argv, cwd: flags.command_cwd }))
}

#[derive(Default)]
struct Flags {
    policy_cwd: Option<PathBuf>,
    command_cwd: Option<PathBuf>,
    profile: Option<Value>,
    files: Option<Value>,
    network: Option<Value>,
}

impl Flags {
    fn sandbox(&self) -> Result<Sandbox, PolicyError> {
        let permissions = match (&self.profile, &self.files, &self.network) {
            (Some(profile), None, None) => {
                serde_json::from_value(profile.clone()).map_err(|error| old(&error.to_string()))?
            }
            (None, Some(files), Some(network)) => Permissions::Tagged(from_policies(files, network)?),
            _ => {
                return Err(old(
                    "the wrapper needs a profile, or a policy for files and one for the network",
                ));
            }
        };
        let cwd = self.policy_cwd.clone().ok_or_else(|| old("the wrapper has no --sandbox-policy-cwd"))?;
        if !cwd.is_absolute() {
            return Err(PolicyError::Relative { path: cwd });
        }
        Ok(Sandbox::new(permissions, LocalPath(cwd)))
    }
}

/// 0.125: one policy for files, by `kind`, and a word for the network.
fn from_policies(files: &Value, network: &Value) -> Result<Profile, PolicyError> {
    let network: Network = decode(network)?;
    let files = files.as_object().ok_or_else(|| old("the policy for files is no object"))?;
    let kind = files.get("kind").or_else(|| files.get("type")).and_then(Value::as_str);
    Ok(match kind {
        Some("unrestricted") => Profile::Managed { network, file_system: FileSystem::Unrestricted },
        Some("external-sandbox" | "external_sandbox") => Profile::External { network },
        Some("restricted") => {
            Profile::Managed { network, file_system: restricted(files, &["kind", "type"])? }
        }
        _ => return Err(old("the policy for files has an unknown kind")),
    })
}

/// The profile without `type`: what it does not mention is not allowed.
pub(super) fn profile(members: &Map<String, Value>) -> Result<Profile, PolicyError> {
    let mut network = Network::Restricted;
    let mut file_system = FileSystem::Restricted { entries: Vec::new(), glob_scan_max_depth: None };
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        match (name.as_str(), value) {
            ("network", Value::String(_)) => network = decode(value)?,
            ("network", Value::Object(rule)) => {
                only(rule, &["enabled"])?;
                match rule.get("enabled") {
                    None | Some(Value::Null | Value::Bool(false)) => {}
                    Some(Value::Bool(true)) => network = Network::Enabled,
                    Some(_) => return Err(old("`network.enabled` is no boolean")),
                }
            }
            ("file_system", Value::Object(rules)) => file_system = files(rules)?,
            (other, _) => return Err(old(&format!("unknown member {other:?}"))),
        }
    }
    Ok(Profile::Managed { network, file_system })
}

fn files(rules: &Map<String, Value>) -> Result<FileSystem, PolicyError> {
    if rules.contains_key("entries") {
        return restricted(rules, &[]);
    }
    only(rules, &["read", "write"])?;
    let mut entries = Vec::new();
    for (name, access) in [("read", Access::Read), ("write", Access::Write)] {
        let Some(paths) = rules.get(name).filter(|paths| !paths.is_null()) else { continue };
        let paths: Vec<LocalPath> = decode(paths)?;
        entries.extend(paths.into_iter().map(|path| Entry {
            path: EntryPath::Path { path: path.0.into() },
            access,
            missing_path_behavior: None,
        }));
    }
    Ok(FileSystem::Restricted { entries, glob_scan_max_depth: None })
}

fn restricted(rules: &Map<String, Value>, more: &[&str]) -> Result<FileSystem, PolicyError> {
    let known: Vec<&str> = ["entries", "glob_scan_max_depth"].iter().chain(more).copied().collect();
    only(rules, &known)?;
    let entries = rules.get("entries").cloned().unwrap_or(Value::Array(Vec::new()));
    let glob_scan_max_depth = match rules.get("glob_scan_max_depth") {
        None | Some(Value::Null) => None,
        Some(depth) => Some(decode(depth)?),
    };
    Ok(FileSystem::Restricted { entries: decode(&entries)?, glob_scan_max_depth })
}

/// What is not known may be a prohibition.
fn only(members: &Map<String, Value>, known: &[&str]) -> Result<(), PolicyError> {
    match members.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        None => Ok(()),
        Some((name, _)) => Err(old(&format!("unknown member {name:?}"))),
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, PolicyError> {
    serde_json::from_value(value.clone()).map_err(|error| old(&error.to_string()))
}

fn json(flag: &str, text: &str) -> Result<Value, PolicyError> {
    serde_json::from_str(text).map_err(|error| old(&format!("{flag}: {error}")))
}

fn old(reason: &str) -> PolicyError {
    PolicyError::OldForm { reason: reason.to_owned() }
}
