//! `codex completion`: prints a script that teaches a shell our commands and flags, and to ask for names.

use clap_complete::Shell;

use crate::output;

/// Flags of `codex completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex completion bash > ~/.local/share/bash-completion/completions/codex
  codex completion zsh > ~/.zfunc/_codex
  codex completion fish > ~/.config/fish/completions/codex.fish")]
pub(crate) struct CompletionArgs {
    /// The shell that is to read it.
    #[arg(value_enum, default_value_t = Shell::Bash)]
    shell: Shell,
}

/// What the scripts of bash and zsh ask first: it prints the names that fit behind the words of a line, if names do.
/// Programs are asked for where the line says, and for no longer than a moment.
const NAMES: &str = r#"
_codex_names() {
    local word before="" verb=""
    local -a target
    target=()
    for word in "$@"; do
        case "$before" in
            -E|--environment|--url|--token-file|--registry|--environment-id|--registry-token-file)
                target+=("$before" "$word") ;;
            *) case "$word" in
                attach|logs|wait|kill|top) verb=program ;;
                stop) verb=program; [[ $before == env ]] && verb=environment ;;
                shell|use|rm|remove|pause|resume|status) verb=environment ;;
                --) return ;;
            esac ;;
        esac
        before="$word"
    done
    case "$before" in
        -E|--environment|--also) verb=environment ;;
        attach|logs|wait|kill|top|stop|shell|use|rm|remove|pause|resume|status) ;;
        -*) return ;;
    esac
    case "$verb" in
        environment) codex exec-server env ls -q 2>/dev/null ;;
        program) timeout 2 codex exec-server ps -aq "${target[@]}" 2>/dev/null ;;
    esac
}
"#;

/// At the beginning of bash's function.
const BASH: &str = r#"
    if [[ ${COMP_WORDS[COMP_CWORD]} != -* ]]; then
        local names
        names=$(_codex_names "${COMP_WORDS[@]:1:COMP_CWORD-1}")
        if [[ -n $names ]]; then
            COMPREPLY=($(compgen -W "$names" -- "${COMP_WORDS[COMP_CWORD]}"))
            return 0
        fi
    fi
"#;

/// At the beginning of zsh's function.
const ZSH: &str = r#"
    if [[ ${words[CURRENT]} != -* ]]; then
        local names
        names=$(_codex_names "${(@)words[2,CURRENT-1]}")
        if [[ -n $names ]]; then
            compadd -- ${(f)names}
            return 0
        fi
    fi
"#;

/// Behind fish's rules.
const FISH: &str = r#"
complete -c codex -n "__fish_seen_subcommand_from exec-server" -s E -l environment -x -a "(codex exec-server env ls -q 2>/dev/null)"
complete -c codex -n "__fish_seen_subcommand_from shell use rm pause resume status" -f -a "(codex exec-server env ls -q 2>/dev/null)"
complete -c codex -n "__fish_seen_subcommand_from env; and __fish_seen_subcommand_from stop" -f -a "(codex exec-server env ls -q 2>/dev/null)"
complete -c codex -n "__fish_seen_subcommand_from attach logs wait kill top" -f -a "(codex exec-server ps -aq 2>/dev/null)"
"#;

/// Prints the script for `command`, the whole argument tree.
///
/// # Errors
/// The error of a stdout that nobody reads.
pub(crate) fn completion(args: &CompletionArgs, mut command: clap::Command) -> std::io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::bytes(with_names(args.shell, &String::from_utf8_lossy(&script)).as_bytes())
}

/// The script, which asks for names first where a name may stand.
fn with_names(shell: Shell, script: &str) -> String {
    let within = |first: &str| {
        // The line that names the completed command stays the first: zsh looks for it there.
        let (head, body) = script.split_once("_codex() {\n").unwrap_or((script, ""));
        format!("{head}{NAMES}\n_codex() {{{first}{body}")
    };
    match shell {
        Shell::Bash => within(BASH),
        Shell::Zsh => within(ZSH),
        Shell::Fish => format!("{script}{FISH}"),
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_script_has_a_place_for_names() {
        for (shell, words) in
            [(Shell::Bash, "compgen -W \"$names\""), (Shell::Zsh, "compadd"), (Shell::Fish, "ps -aq")]
        {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::Cli::command(), "codex", &mut script);
            let script = with_names(shell, &String::from_utf8(script).unwrap());
            assert!(script.contains(words), "{shell}");
            assert!(shell != Shell::Zsh || script.starts_with("#compdef codex"), "{script}");
        }
    }
}
