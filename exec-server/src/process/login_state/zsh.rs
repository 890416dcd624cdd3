//! What zsh tells of itself at the end of a login, and the script of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::script::{Script, exports, is_name, lines, variables_of};
use super::variables::{Variables, is_passing};

/// As that of bash. The first lines work with whatever options and aliases a start-up file has set, and tell those; the
/// others are read only when both are as zsh has them by itself.
pub(super) const TELL: &str = r#"\builtin printf '\n%s\n' 'MARK-environment'
/usr/bin/env -0
\builtin printf '\n%s\n' 'MARK-directory'
\builtin printf '%s' "$PWD"
\builtin printf '\n%s\n' 'MARK-dotdir'
\builtin printf '%s' "${ZDOTDIR-}"
\builtin printf '\n%s\n' 'MARK-aliases'
\builtin alias -L
\builtin printf '\n%s\n' 'MARK-options'
\builtin printf '%s\0' "${(@kv)options[@]}"
\builtin emulate '-R' 'zsh'
\builtin unalias '-m' '*'
\builtin eval 'builtin printf "\n%s\n" "MARK-settings"
builtin printf "umask %s\n" "$(builtin umask)"
builtin trap
builtin hash -dL
builtin printf "\n%s\n" "MARK-modules"
builtin zmodload -L
builtin printf "\n%s\n" "MARK-functions"
builtin functions
builtin printf "\n%s\n" "MARK-variables"
for __codex_name in "${(@k)parameters}"; do
  case "${parameters[$__codex_name]}" in
    (*special*|*export*|*local*|*hideval*) continue ;;
  esac
  builtin printf "\0"
  builtin typeset -p -- "$__codex_name"
done
builtin printf "\0%s" "fpath=( ${(j: :)${(@qq)fpath}} )" "cdpath=( ${(j: :)${(@qq)cdpath}} )"
builtin printf "\n%s\n" "MARK-end"'
"#;

/// The parts of [`TELL`], in order.
pub(super) const PARTS: [&str; 10] = [
    "environment",
    "directory",
    "dotdir",
    "aliases",
    "options",
    "settings",
    "modules",
    "functions",
    "variables",
    "end",
];

/// Variables that a shell has of itself, and those that are about one run of it.
const OF_THE_SHELL: [&str; 15] = [
    "CPUTYPE",
    "HOST",
    "MACHTYPE",
    "OPTARG",
    "OSTYPE",
    "TTY",
    "VENDOR",
    "ZSH_ARGZERO",
    "ZSH_EXECUTION_STRING",
    "ZSH_NAME",
    "ZSH_PATCHLEVEL",
    "ZSH_SCRIPT",
    "ZSH_VERSION",
    "__codex_name",
    "signals",
];

/// Options that say how a shell was started and can't be set.
const FIXED_OPTIONS: [&str; 7] =
    ["interactive", "monitor", "privileged", "restricted", "shinstdin", "singlecommand", "zle"];

/// Options that would act on the script itself.
const OF_RUNNING: [&str; 9] = [
    "aliases",
    "errexit",
    "errreturn",
    "exec",
    "unset",
    "verbose",
    "warncreateglobal",
    "warnnestedvar",
    "xtrace",
];

/// The script that makes a shell what the login shell was; `told` are the parts but for the last.
pub(super) fn script(told: &[&[u8]], before: &Variables) -> Option<Script> {
    let [environment, _, dotdir, aliases, options, settings, modules, functions, variables] = told else {
        return None;
    };
    let mut environment = variables_of(environment);
    let mut script = Vec::new();
    exports(&environment, before, &mut script);
    let options = options_of(options)?;
    let line =
        |(name, is_on): &(&[u8], bool)| [if *is_on { &b"setopt "[..] } else { b"unsetopt " }, name].concat();
    let is_in = |names: &[&str], name: &[u8]| names.iter().any(|known| known.as_bytes() == name);
    let (of_running, of_reading): (Vec<_>, Vec<_>) = options
        .iter()
        .filter(|(name, _)| !is_in(&FIXED_OPTIONS, name))
        .partition(|(name, _)| is_in(&OF_RUNNING, name));
    let of_running: Vec<_> = of_running.into_iter().map(line).collect();
    let of_reading: Vec<_> = of_reading.into_iter().map(line).collect();
    // Functions are read with the patterns that they were written with, and without aliases, which would change them.
    lines(&mut script, [&b"unsetopt aliases"[..], modules]);
    lines(
        &mut script,
        variables.split(|byte| *byte == 0).filter(|entry| is_kept(entry)).map(<[u8]>::trim_ascii),
    );
    lines(&mut script, of_reading.iter().map(Vec::as_slice));
    lines(&mut script, [*functions, *settings, &b"unalias -m '*'"[..], *aliases]);
    lines(&mut script, of_running.iter().map(Vec::as_slice));
    if !dotdir.is_empty() {
        environment.push(("ZDOTDIR".into(), OsString::from(OsStr::from_bytes(dotdir))));
    }
    Some(Script { bytes: script, environment, has_aliases: !aliases.trim_ascii().is_empty() })
}

/// Names of options, and whether they are on.
fn options_of(told: &[u8]) -> Option<Vec<(&[u8], bool)>> {
    let words: Vec<&[u8]> = told.strip_suffix(b"\0")?.split(|byte| *byte == 0).collect();
    let pairs = words.chunks(2).map(|pair| match pair {
        [name, b"on"] => Some((*name, true)),
        [name, b"off"] => Some((*name, false)),
        _ => None,
    });
    pairs.collect()
}

/// Whether `typeset -FLAGS NAME=…`, or the value of a path, is of a variable that is not the shell's own.
fn is_kept(entry: &[u8]) -> bool {
    let entry = entry.trim_ascii();
    let words = entry
        .split(|byte| byte.is_ascii_whitespace())
        .skip_while(|word| *word == b"typeset" || word.starts_with(b"-"));
    let name =
        words.into_iter().next().unwrap_or_default().split(|byte| *byte == b'=').next().unwrap_or_default();
    is_name(name)
        && !OF_THE_SHELL.iter().any(|own| own.as_bytes() == name)
        && !is_passing(OsStr::from_bytes(name))
}
