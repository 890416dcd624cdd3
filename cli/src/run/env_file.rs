//! Files with variables for a program: `NAME=VALUE` on each line, as docker has them.

use std::path::Path;

use codex_outgoing::file;

/// Largest file that is read. A safeguard, far from any real use.
const LARGEST_BYTES: u64 = 1 << 20;

/// The variables in a file. Lines that are empty or begin with `#` say nothing; a name alone takes its value from our own
/// environment, and is left out where there is none.
///
/// # Errors
/// A sentence about a file that can't be read, or the first line that is no variable, without its value.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let bytes = file::read(path, LARGEST_BYTES)
        .map_err(|error| format!("can't read the variables in {}: {error}", path.display()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if is_name(name) => all.push((name.to_owned(), value.to_owned())),
            None if is_name(line.trim_end()) => {
                let name = line.trim_end();
                all.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
            }
            _ => return Err(format!("{}:{}: expected NAME=VALUE", path.display(), number + 1)),
        }
    }
    Ok(all)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_or_refused_without_their_value() {
        let path = std::env::temp_dir().join(format!("codex-env-file-{}", std::process::id()));
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let home = std::env::var("HOME").unwrap_or_default();
        let read = of("# note\n\nA=1\nB=x = y \nHOME\nNO_SUCH_VARIABLE_AT_ALL\n").unwrap();
        assert_eq!(read, [pair("A", "1"), pair("B", "x = y "), pair("HOME", &home)]);
        let error = of("A=1\nA B=sesame\n").unwrap_err();
        assert!(error.ends_with(":2: expected NAME=VALUE") && !error.contains("sesame"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(super::read(&path).unwrap_err().contains("can't read"));
    }
}
