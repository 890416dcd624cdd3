//! The line of shell that runs over there: finds the program, or takes it in, and becomes the server.
//!
//! It says what it does in lines that begin with [`Words::mark`]; what else is printed before, by a login script for example,
//! is nobody's. It has no newline and neither `'` nor `!` nor `\`, so that every shell takes it as it is in single quotes, csh and
//! fish included. It wants a POSIX shell with `mkdir`, `mv`, `rm`, `cat`, `chmod`, `wc` and `head` (or `dd`); `gzip` and `sha256sum` are
//! used where they are there.

/// What runs over there once the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// A server on the connection's stdin and stdout. It ends with the connection, and everything that it started does.
    Attached,
    /// A server that stays, on a Unix socket over there; the connection leads to it.
    Resident,
    /// Nothing is served: one line of JSON tells of the server that stays there, if one does.
    Look,
    /// The same, and that server is ended: where programs run in it, only with `force`.
    Stop {
        /// Programs that run are ended with it.
        force: bool,
    },
}

impl Served {
    /// The program's arguments over there; `$d` is the directory where it lies.
    const fn arguments(self) -> &'static str {
        match self {
            Self::Attached => "exec-server --listen stdio --leftovers kill",
            Self::Resident => "exec-server resident --directory \"$d\"",
            Self::Look => "exec-server resident --directory \"$d\" --look",
            Self::Stop { force: false } => "exec-server resident --directory \"$d\" --stop",
            Self::Stop { force: true } => "exec-server resident --directory \"$d\" --stop --force",
        }
    }

    /// Ends the script before anything is made or brought, where nobody could be asked about anyway.
    const fn unless_there(self) -> &'static str {
        match self {
            Self::Attached | Self::Resident => ":",
            Self::Look | Self::Stop { .. } => {
                "set -- \"$d\"/resident-*.sock; [ -S \"$1\" ] || { s none; exit 0; }"
            }
        }
    }
}

/// Why a directory can't be named over there, if it can't.
///
/// # Errors
/// What it has to be.
pub fn refuse_directory(directory: &str) -> Result<(), String> {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+@:,=~ ".contains(letter);
    if directory.starts_with('/') && directory.chars().all(plain) {
        return Ok(());
    }
    Err(format!("{directory:?} is no absolute path that any shell takes as it is"))
}

/// Older programs than this many are removed when one is brought; each may be some other client's.
const KEPT: usize = 3;

/// What goes into the script.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    /// Unlike anything that somebody else prints.
    pub(crate) nonce: &'a str,
    /// SHA-256 of the program, in hex.
    pub(crate) hash: &'a str,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Where it is to lie, in place of the user's cache; checked by [`refuse_directory`].
    pub(crate) directory: Option<&'a str>,
    pub(crate) served: Served,
}

/// What begins each line of the script.
pub(crate) fn mark(nonce: &str) -> String {
    format!("codex-bring {nonce} ")
}

/// The line of shell by which a machine on the way says that it was reached.
pub(crate) fn reached(nonce: &str, number: usize) -> String {
    format!("echo \"{}hop {number}\"", mark(nonce))
}

impl Words<'_> {
    /// The whole line.
    pub(crate) fn script(&self) -> String {
        let Self { nonce, hash, size, directory, served } = self;
        let place = match directory {
            Some(directory) => format!("d=\"{directory}/codex-exec-server\""),
            None => "[ -n \"$XDG_CACHE_HOME$HOME\" ] || f home; d=\"${XDG_CACHE_HOME:-$HOME/.cache}/codex-exec-server\"".into(),
        };
        let parts = [
            format!("m=\"codex-bring {nonce}\"; s() {{ echo \"$m $*\"; }}; f() {{ s fail \"$@\"; exit 1; }}; s here"),
            place,
            served.unless_there().to_owned(),
            // Whatever lies in there is executed, so it is nobody else's.
            "[ -d \"$d\" ] || e=$( (umask 077; LC_ALL=C mkdir -p \"$d\") 2>&1) || f directory \"$d: $e\"".into(),
            "[ -O \"$d\" ] && [ -w \"$d\" ] || f directory \"$d: it belongs to somebody else, or is not writable\"".into(),
            "chmod 700 \"$d\" || f directory \"$d\"".into(),
            format!("b=\"$d/codex-{hash}\"; l=\"$b.lock\"; t=\"$b.$$.new\"; n=0"),
            format!("if [ -x \"$b\" ]; then :; else {}; fi", take_in(hash, *size)),
            format!("s have \"$b\"; exec \"$b\" {}", served.arguments()),
        ];
        parts.join("; ")
    }
}

/// Takes the program in, unless another does so just now.
fn take_in(hash: &str, size: u64) -> String {
    let parts = [
        // One flight. Who holds the lock is named in it; one that is gone, or takes too long, holds nothing. Two at once do no harm.
        "q=0; until mkdir \"$l\" 2>/dev/null || [ -x \"$b\" ]; do n=$((n+1)); p=$(cat \"$l/pid\" 2>/dev/null); \
         if [ -d \"$l\" ] && [ $n -lt 1500 ] && { { [ -z \"$p\" ] && [ $n -lt 10 ]; } || kill -0 \"$p\" 2>/dev/null; }; \
         then sleep 0.2 2>/dev/null || sleep 1; \
         else rm -rf \"$l\"; q=$((q+1)); [ $q -lt 20 ] || f directory \"$d: $(LC_ALL=C mkdir \"$l\" 2>&1)\"; fi; done"
            .to_owned(),
        // Who came to the lock after it was brought, frees it.
        format!("if [ -x \"$b\" ]; then rmdir \"$l\" 2>/dev/null; else {}; fi", receive(hash, size)),
    ];
    parts.join("; ")
}

fn receive(hash: &str, size: u64) -> String {
    let tidy = format!(
        "k=0; for x in $(ls -t \"$d\" 2>/dev/null); do case $x in codex-*.*) ;; codex-*) k=$((k+1)); \
         [ $k -le {KEPT} ] || rm -f \"$d/$x\";; esac; done"
    );
    let parts = [
        "c() { rm -rf \"$t\" \"$l\"; }; trap c EXIT; trap \"exit 1\" HUP INT TERM PIPE".to_owned(),
        "echo $$ 2>/dev/null >\"$l/pid\"; rm -f \"$b\".*.new".into(),
        "z=raw; command -v gzip >/dev/null 2>&1 && z=gzip".into(),
        "s want \"$(uname -s)\" \"$(uname -m)\" \"$z\"".into(),
        "read -r n z || exit 1".into(),
        "if command -v head >/dev/null 2>&1; then r() { head -c \"$n\"; }; else r() { dd bs=1 count=\"$n\" 2>/dev/null; }; fi".into(),
        "if [ \"$z\" = gzip ]; then e=$({ r | LC_ALL=C gzip -dc >\"$t\"; } 2>&1); else e=$({ LC_ALL=C r >\"$t\"; } 2>&1); fi".into(),
        format!("g=$(($(wc -c <\"$t\" 2>/dev/null))); [ \"$g\" = {size} ] || f size \"$g $d $e\""),
        format!(
            "if command -v sha256sum >/dev/null 2>&1; then set -- $(sha256sum <\"$t\"); [ \"$1\" = {hash} ] || f hash \"$1\"; fi"
        ),
        "chmod 700 \"$t\"; e=$(LC_ALL=C \"$t\" --version 2>&1) || f run \"$? $d $e\"".into(),
        "e=$(LC_ALL=C mv \"$t\" \"$b\" 2>&1) || f directory \"$d: $e\"".into(),
        tidy,
        "trap - EXIT HUP INT TERM PIPE; rm -rf \"$l\"".into(),
    ];
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(directory: Option<&str>) -> String {
        Words { nonce: "n", hash: "abc", size: 3, directory, served: Served::Stop { force: true } }.script()
    }

    #[test]
    fn any_shell_takes_it_in_single_quotes() {
        for text in [script(None), script(Some("/var/x y"))] {
            for letter in ['\'', '!', '\\', '\n'] {
                assert!(!text.contains(letter), "{letter:?}: {text}");
            }
            let checked = std::process::Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(checked.status.success(), "{checked:?}");
        }
    }

    #[test]
    fn a_directory_is_plain_and_absolute() {
        for good in ["/var/tmp", "/srv/a b/c_1"] {
            assert!(refuse_directory(good).is_ok());
        }
        for bad in ["tmp", "/a'b", "/a$b", "/a`b", "/a\"b", "/a!b", "/a\\b", ""] {
            assert!(refuse_directory(bad).is_err(), "{bad}");
        }
    }
}
