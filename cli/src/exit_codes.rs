//! `codex exec-server help exit-codes`: what every exit code means, in one place.

use clap::Command;

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
    (TIMED_OUT, "wait: the time of --timeout was up"),
    (INTERRUPTED, "Ctrl-C"),
    (BROKEN_PIPE, "nobody reads the output any more"),
];

/// Of servers: `exec-server` itself, `--remote`, `forward`, `rendezvous`.
const SERVERS: &[Meaning] = &[
    (0, "ended by a signal, or stdin ended on stdio"),
    (FAILURE, "it could not start or go on; a sentence on stderr says why"),
    (WRONG_USAGE, "the command line makes no sense, or would open the server to everybody"),
];

/// Of `codex sandbox`.
const SANDBOX: &[Meaning] = &[
    (0, "the program ended well; any other code that stands not here is the program's own"),
    (FAILURE, "the sandbox can't be enforced, or this side can't go on; a sentence on stderr says why"),
    (WRONG_USAGE, "the command line makes no sense"),
    (NOT_EXECUTABLE, "the program exists but can't be run"),
    (NOT_FOUND, "there is no such program"),
];

/// What stands at the end of the help of a command, which is named by all words that lead to it.
fn in_short(words: &str) -> &'static str {
    match words.rsplit_once("exec-server ").map_or(words, |(_, last)| last) {
        "run" | "shell" | "attach" => {
            "Exit code: the program's own, or 255 if the environment can't be reached or is lost. \
             `codex exec-server help exit-codes` lists all."
        }
        "codex sandbox" => "Exit code: the program's own, or 1 if the sandbox can't be enforced.",
        "codex exec-server" | "forward" | "rendezvous" => {
            "Exit code of the server: 0 if a signal ended it, 1 if it can't start or go on, 2 for wrong usage. \
             `codex exec-server help exit-codes` lists all."
        }
        "wait" => {
            "Exit code: 0 if all have ended, whatever their codes; 124 if the time was up, 1 for a failure, 2 for wrong usage, 4 \
             without a credential."
        }
        "conformance" => {
            "Exit code: 0 if no rule that clients depend on is broken, else 1; 2 for wrong usage."
        }
        "codex doctor" => "Exit code: 0 if all is well, else 1; 2 for wrong usage.",
        "service status" | "service logs" => "Exit code: that of systemd's own program.",
        other if other.starts_with("codex") || other.starts_with("service") || other == "env" => {
            "Exit code: 0 for success, 1 for a failure, 2 for wrong usage."
        }
        _ => {
            "Exit code: 0 for success, 1 for a failure, 2 for wrong usage, 4 without a credential. \
             `codex exec-server help exit-codes` lists all."
        }
    }
}

/// The same argument tree, in which every command's help ends with its exit codes.
pub(crate) fn told_by(command: Command) -> Command {
    below(command, "")
}

/// The same for a command that these words lead to.
fn below(command: Command, words: &str) -> Command {
    let words = format!("{words}{}", command.get_name());
    let before = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    let command = command.after_help(format!("{before}{}", in_short(&words)));
    command.mut_subcommands(|command| below(command, &format!("{words} ")))
}

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
        part("codex sandbox:", SANDBOX),
        part("a server (no command, forward, rendezvous):", SERVERS),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_its_list_in_order() {
        for list in [PROGRAMS, OTHERS, SANDBOX, SERVERS] {
            assert!(list.is_sorted_by(|(a, _), (b, _)| a < b));
        }
        let codes = include_str!("codes.rs");
        let declared = codes.lines().filter(|line| line.contains(": u8 = ")).count();
        let mut told: Vec<u8> =
            [PROGRAMS, OTHERS, SANDBOX].concat().iter().map(|(code, _)| *code).filter(|c| *c > 0).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), declared, "a code of codes.rs stands in no list");
        assert!(page().lines().all(|line| line.len() <= 110), "{}", page());
    }
}
