//! Shells whose state can be taken and given.

use super::script::{Script, quoted};
use super::variables::Variables;
use super::{bash, zsh};

/// The language of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Bash,
    Zsh,
}

impl Language {
    /// That of a shell with this name; none for others.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            _ => None,
        }
    }

    /// A text that tells everything, in parts behind lines of `MARK-` and their names.
    pub(super) fn tell(self) -> &'static str {
        match self {
            Self::Bash => bash::TELL,
            Self::Zsh => zsh::TELL,
        }
    }

    /// The names of the parts, in order. The second is the working directory, the last is empty.
    pub(super) fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Bash => &bash::PARTS,
            Self::Zsh => &zsh::PARTS,
        }
    }

    /// The script of what was told. None if that makes no sense.
    pub(super) fn script(self, told: &[&[u8]], before: &Variables) -> Option<Script> {
        match self {
            Self::Bash => bash::script(told, before),
            Self::Zsh => zsh::script(told, before),
        }
    }

    /// The command without login, which reads its state from a descriptor; in the words of released servers.
    pub(super) fn with_state(self, shell: &str, text: &str, number: i32, has_aliases: bool) -> Vec<String> {
        let (flag, first) = match self {
            Self::Bash => ("-pc", "set +o privileged"),
            Self::Zsh => ("-fc", "setopt RCS"),
        };
        // A text that was read before its aliases were there would know none.
        let text = if has_aliases {
            format!("eval {}", String::from_utf8_lossy(&quoted(text.as_bytes())))
        } else {
            text.to_owned()
        };
        let script = format!(
            "{first}\nif ! . /dev/fd/{number} >/dev/null; then printf 'failed to restore shell snapshot\\n' >&2; fi\n{text}"
        );
        vec![shell.to_owned(), flag.to_owned(), script]
    }
}
