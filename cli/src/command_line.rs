//! The words that this program was started with.

use std::ffi::OsString;
use std::path::Path;

/// The name under which this program is its subcommand `exec-server`, so that it can stand beside a released `codex`.
const ALIAS: &str = "codex-exec-server";

/// The words of the command line, with the subcommand that the program's name stands for.
pub(crate) fn words(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.collect();
    let is_alias = words.first().and_then(|own| Path::new(own).file_name()).is_some_and(|name| name == ALIAS);
    // A server that is started as a child has the word already; the version is the program's.
    let is_told =
        words.get(1).is_some_and(|word| ["exec-server", "--version", "-V"].iter().any(|own| word == own));
    if is_alias && !is_told {
        words.insert(1, "exec-server".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_program_stands_for_its_subcommand() {
        let of = |line: &str| words(line.split(' ').map(OsString::from)).join(&OsString::from(" "));
        for (line, meant) in [
            ("codex exec-server run", "codex exec-server run"),
            ("/usr/bin/codex-exec-server run", "/usr/bin/codex-exec-server exec-server run"),
            ("codex-exec-server", "codex-exec-server exec-server"),
            ("codex-exec-server exec-server --listen stdio", "codex-exec-server exec-server --listen stdio"),
            ("codex-exec-server --version", "codex-exec-server --version"),
            ("codex-exec-server-2 run", "codex-exec-server-2 run"),
        ] {
            assert_eq!(of(line), meant);
        }
    }
}
