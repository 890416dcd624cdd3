//! Which end of a copy is where.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Here(PathBuf),
    /// In the environment of this name, or in the one that the flags mean; the path as it was written behind the colon.
    There(Option<String>, PathBuf),
}

/// What is copied where.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    FromStdin(End),
    ToStdout(End),
    Copy { sources: Vec<End>, destination: End },
}

/// Reads the words of the command line: the last one is the destination.
///
/// # Errors
/// A sentence about what makes no sense.
pub(super) fn way(words: &[OsString]) -> Result<Way, String> {
    let Some((last, sources)) = words.split_last() else { return Err("nothing is named".into()) };
    let is_stream = |word: &OsString| word == "-";
    if sources.iter().chain([last]).filter(|word| is_stream(word)).count() > 0 {
        return match (sources, last) {
            ([source], last) if is_stream(source) && !is_stream(last) => match end(last)? {
                End::Here(_) => Err(nothing_there()),
                there => Ok(Way::FromStdin(there)),
            },
            ([source], last) if is_stream(last) && !is_stream(source) => match end(source)? {
                End::Here(_) => Err(nothing_there()),
                there => Ok(Way::ToStdout(there)),
            },
            _ => Err("`-` goes together with one file there".into()),
        };
    }
    let destination = end(last)?;
    let sources = sources.iter().map(|word| end(word)).collect::<Result<Vec<_>, _>>()?;
    let is_here = |end: &End| matches!(end, End::Here(_));
    if is_here(&destination) && sources.iter().any(is_here) {
        return Err(nothing_there());
    }
    Ok(Way::Copy { sources, destination })
}

fn nothing_there() -> String {
    "both ends are here: write a path of another machine as NAME:PATH, or as :PATH for the environment in use"
        .into()
}

/// A colon before the first slash is the mark of a path there.
fn end(word: &OsStr) -> Result<End, String> {
    let bytes = word.as_bytes();
    match bytes.iter().position(|byte| matches!(byte, b':' | b'/')) {
        _ if bytes.is_empty() => Err("an empty path names nothing".into()),
        Some(at) if bytes.get(at) == Some(&b':') => {
            let (name, path) = (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default());
            let name = match std::str::from_utf8(name) {
                Ok("") => None,
                Ok(name) => Some(name.to_owned()),
                Err(_) => return Err(format!("{:?} begins with no name", word.to_string_lossy())),
            };
            Ok(End::There(name, OsStr::from_bytes(path).into()))
        }
        _ => Ok(End::Here(word.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Way, String> {
        way(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_colon_marks_what_is_there() {
        let here = |path: &str| End::Here(path.into());
        let there = |path: &str| End::There(None, path.into());
        let named = |path: &str| End::There(Some("box".into()), path.into());
        let copy = |sources, destination| Ok(Way::Copy { sources, destination });
        assert_eq!(of(&["a", ":b"]), copy(vec![here("a")], there("b")));
        assert_eq!(of(&[":/a", "./b:c"]), copy(vec![there("/a")], here("./b:c")));
        assert_eq!(of(&[":a", "b", ":"]), copy(vec![there("a"), here("b")], there("")));
        assert_eq!(of(&["box:/a", ":b"]), copy(vec![named("/a")], there("b")));
        assert_eq!(of(&["-", ":x"]), Ok(Way::FromStdin(there("x"))));
        assert_eq!(of(&[":x", "-"]), Ok(Way::ToStdout(there("x"))));
        for wrong in [&["a", "b"][..], &["-", "-"], &["-", "a"], &["a", "-"], &["-", ":a", ":b"], &["", ":b"]]
        {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
