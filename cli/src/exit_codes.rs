//! `codex exec-server help exit-codes`: what every exit code means, in one place.

use crate::codes::{BROKEN_PIPE, INTERRUPTED, TERMINATED, TIMED_OUT};
use crate::codes::{FAILURE, NO_CREDENTIAL, NOT_EXECUTABLE, NOT_FOUND, UNREACHABLE, WRONG_USAGE};

/// What is asked for with `help`.
pub(crate) const TOPIC: &str = "exit-codes";

/// The verbs that stand for a program of the environment, as ssh does.
const OF_PROGRAMS: &str = "run, shell, attach";

/// What a code means to somebody.
type Meaning = (u8, &'static str);

/// Of those that stand for a program.
const PROGRAMS: &[Meaning] = &[
    (0, "the program ended well; any other code that stands not here is the program's own"),
    (FAILURE, "this side can't go on: output can't be written, a token can't be read, no such environment"),
    (WRONG_USAGE, "the command line makes no sense"),
    (TIMED_OUT, "the time of --timeout was up"),
    (NOT_EXECUTABLE, "the program exists but can't be run, or its working directory can't be used"),
    (NOT_FOUND, "there is no such program"),
    (INTERRUPTED, "Ctrl-C ended the program, or this command; 128 + N: the program was ended by signal N"),
    (BROKEN_PIPE, "nobody reads the output any more"),
    (TERMINATED, "this command was told to end, and ended the program"),
    (
        UNREACHABLE,
        "the environment can't be reached, refused the token, or was lost before the program's end",
    ),
];

/// Of all other verbs.
const OTHERS: &[Meaning] = &[
    (0, "done"),
    (FAILURE, "it did not work, or not all of it; a sentence on stderr says why"),
    (WRONG_USAGE, "the command line makes no sense"),
    (NO_CREDENTIAL, "a token is missing, or was refused"),
    (INTERRUPTED, "Ctrl-C"),
    (BROKEN_PIPE, "nobody reads the output any more"),
];

/// Of servers: `exec-server` itself, `--remote`, `forward`, `rendezvous`.
const SERVERS: &[Meaning] = &[
    (0, "ended by a signal, or stdin ended on stdio"),
    (FAILURE, "it could not start or go on; a sentence on stderr says why"),
    (WRONG_USAGE, "the command line makes no sense, or would open the server to everybody"),
];

/// The whole page.
pub(crate) fn page() -> String {
    let part = |title: &str, meanings: &[Meaning]| {
        let lines: String =
            meanings.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}\n")).collect();
        format!("{title}\n{lines}")
    };
    [
        part(&format!("{OF_PROGRAMS}:"), PROGRAMS),
        part("every other command:", OTHERS),
        part("a server (no command, forward, rendezvous):", SERVERS),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_its_list_in_order() {
        for list in [PROGRAMS, OTHERS, SERVERS] {
            assert!(list.is_sorted_by(|(a, _), (b, _)| a < b));
        }
        let codes = include_str!("codes.rs");
        let declared = codes.lines().filter(|line| line.contains(": u8 = ")).count();
        let mut told: Vec<u8> =
            [PROGRAMS, OTHERS].concat().iter().map(|(code, _)| *code).filter(|c| *c > 0).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), declared, "a code of codes.rs stands in no list");
        assert!(page().lines().all(|line| line.len() <= 110), "{}", page());
    }
}
