//! Which keys of the terminal are for this command, and not for the program.

/// What the keys are, for people.
pub(super) const HELP: &str = "Keys: Ctrl-\\ leaves the program running (twice: the program gets it). At the start of a line, ~d leaves \
                    it running too, ~. ends the connection, ~~ is a ~, and ~? says this.";

/// Which keys are ours.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// The character that begins a key of this command at the start of a line, or `none` to pass everything on.
    #[arg(long, value_name = "CHAR", default_value = "~", value_parser = character)]
    escape: EscapeCharacter,
}

#[derive(Debug, Clone, Copy)]
struct EscapeCharacter(Option<u8>);

fn character(text: &str) -> Result<EscapeCharacter, String> {
    match text.as_bytes() {
        b"none" => Ok(EscapeCharacter(None)),
        [byte] if byte.is_ascii_graphic() => Ok(EscapeCharacter(Some(*byte))),
        _ => Err("expected one character of ASCII, or `none`".into()),
    }
}

impl Keys {
    /// The character; none when nothing is ours.
    pub(crate) const fn character(&self) -> Option<u8> {
        self.escape.0
    }
}
