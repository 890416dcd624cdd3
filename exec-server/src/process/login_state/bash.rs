//! What bash tells of itself at the end of a login, and the script of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::script::{Script, exports, is_name, lines, variables_of};
use super::variables::{Variables, is_passing};

/// Tells everything at the end of a login, in parts behind lines that nothing else prints. It uses no name that a start-up
/// file may have given to a function or an alias, and changes nothing before it has told it.
pub(super) const TELL: &str = r#"\builtin printf '\n%s\n' 'MARK-environment'
/usr/bin/env -0
\builtin printf '\n%s\n' 'MARK-directory'
\builtin printf '%s' "$PWD"
\builtin printf '\n%s\n' 'MARK-settings'
\builtin trap -p
\builtin umask -p
\builtin printf '\n%s\n' 'MARK-aliases'
\builtin alias -p
\builtin printf '\n%s\n' 'MARK-options'
\builtin shopt -p
\builtin set +o
\builtin printf '\n%s\n' 'MARK-functions'
\builtin declare -f
\builtin printf '\n%s\n' 'MARK-variables'
\builtin set +eu
while IFS= \builtin read -r __codex_name; do \builtin printf '\0'; \builtin declare -p "$__codex_name"; done < <(\builtin compgen -v)
\builtin printf '\n%s\n' 'MARK-end'
"#;

/// The parts of [`TELL`], in order.
pub(super) const PARTS: [&str; 8] =
    ["environment", "directory", "settings", "aliases", "options", "functions", "variables", "end"];

/// Variables that a shell has of itself, and those that are about one run of it.
const OF_THE_SHELL: [&str; 27] = [
    "COLUMNS",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "HOSTNAME",
    "HOSTTYPE",
    "LINENO",
    "LINES",
    "MACHTYPE",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "OSTYPE",
    "PATH",
    "PIPESTATUS",
    "PPID",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SRANDOM",
    "TERM",
    "UID",
    "__codex_name",
];

/// Options that say how a shell was started and can't be set.
const FIXED_OPTIONS: [&str; 3] = ["login_shell", "restricted_shell", "privileged"];

/// The script that makes a shell what the login shell was; `told` are the parts but for the last.
pub(super) fn script(told: &[&[u8]], before: &Variables) -> Option<Script> {
    let [environment, _, settings, aliases, options, functions, variables] = told else { return None };
    let environment = variables_of(environment);
    let mut script = Vec::new();
    let exported = exports(&environment, before, &mut script);
    let (how_text_is_read, how_it_is_run): (Vec<&[u8]>, Vec<&[u8]>) = options
        .split(|byte| *byte == b'\n')
        .filter(|line| !is_fixed(line))
        .partition(|line| line.starts_with(b"shopt "));
    let plain = variables.split(|byte| *byte == 0).filter(|entry| is_plain_variable(entry));
    // Functions are read with the patterns that they were written with, and without aliases, which would change them.
    lines(&mut script, how_text_is_read);
    lines(&mut script, plain.map(<[u8]>::trim_ascii_end));
    lines(&mut script, [*functions, &exported, *settings, *aliases]);
    lines(&mut script, how_it_is_run);
    // A text is read a line at a time, so aliases of the lines before count.
    Some(Script { bytes: script, environment, has_aliases: false })
}

/// Whether `declare -FLAGS NAME=…` is of a variable that is not exported and not the shell's own.
fn is_plain_variable(entry: &[u8]) -> bool {
    let Some(rest) = entry.strip_prefix(b"declare -") else { return false };
    let Some(space) = rest.iter().position(|byte| *byte == b' ') else { return false };
    let (flags, rest) = (&rest[..space], &rest[space + 1..]);
    let name = rest.split(|byte| *byte == b'=' || *byte == b'\n').next().unwrap_or_default();
    !flags.contains(&b'x')
        && is_name(name)
        && !name.starts_with(b"BASH")
        && !name.starts_with(b"COMP_")
        && !OF_THE_SHELL.iter().any(|own| own.as_bytes() == name)
        && !is_passing(OsStr::from_bytes(name))
}

/// Whether a line sets an option that can't be set.
fn is_fixed(line: &[u8]) -> bool {
    let option = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    FIXED_OPTIONS.iter().any(|fixed| fixed.as_bytes() == option)
}
