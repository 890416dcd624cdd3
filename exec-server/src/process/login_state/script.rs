//! Pieces of scripts that every shell reads alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::variables::{Variables, is_passing};

/// What a login left behind.
pub(super) struct Script {
    /// Restores it in a shell that has not logged in.
    pub(super) bytes: Vec<u8>,
    /// The variables of programs that the shell would start, and others that say where start-up files are.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whether there are aliases that a text needs which is read as a whole.
    pub(super) has_aliases: bool,
}

/// Adds lines.
pub(super) fn lines<'l>(script: &mut Vec<u8>, lines: impl IntoIterator<Item = &'l [u8]>) {
    for line in lines {
        script.extend_from_slice(line);
        script.push(b'\n');
    }
}

/// The variables of a block of `NAME=VALUE`, each with a zero byte behind it.
pub(super) fn variables_of(block: &[u8]) -> Vec<(OsString, OsString)> {
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
    };
    block.split(|byte| *byte == 0).filter_map(pair).collect()
}

/// Writes what the login has changed of the environment; gives the lines that export functions, for behind them.
pub(super) fn exports(environment: &Variables, before: &Variables, script: &mut Vec<u8>) -> Vec<u8> {
    let mut functions = Vec::new();
    let value_before = |name: &OsStr| before.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    for (name, value) in environment {
        let text = name.as_bytes();
        if let Some(function) = text.strip_prefix(b"BASH_FUNC_").and_then(|name| name.strip_suffix(b"%%")) {
            functions.extend([b"export -f -- ", function, b"\n"].concat());
        } else if is_name(text) && !is_passing(name) && value_before(name) != Some(value) {
            script.extend([b"export ", text, b"=", &quoted(value.as_bytes())[..], b"\n"].concat());
        }
    }
    for (name, _) in before {
        let is_gone = !environment.iter().any(|(known, _)| known == name);
        if is_gone && is_name(name.as_bytes()) && !is_passing(name) {
            script.extend([b"unset -v ", name.as_bytes(), b"\n"].concat());
        }
    }
    functions
}

/// Whether it names a variable.
pub(super) fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(|first| !first.is_ascii_digit())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// A word that stands for these bytes.
pub(super) fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for byte in bytes {
        match byte {
            b'\'' => word.extend(b"'\\''"),
            byte => word.push(*byte),
        }
    }
    word.push(b'\'');
    word
}
