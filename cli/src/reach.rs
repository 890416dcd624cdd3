//! What the verbs have in common that are no `run`: the flags, and what it means that there is no connection.

use codex_exec_server::client::Client;

use crate::output;
use crate::setup::{ConfigArgs, Setup};
use crate::target::{TargetArgs, TargetError};

/// The flags that every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ReachArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Treat every problem of the configuration, unknown keys included, as an error.
    #[arg(long)]
    pub(crate) strict_config: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

impl ReachArgs {
    /// Takes out what changes the configuration.
    pub(crate) fn take_config(&mut self, strict: &mut bool) -> ConfigArgs {
        *strict |= self.strict_config;
        std::mem::take(&mut self.config)
    }
}

/// Why a verb can't go on.
#[derive(Debug)]
pub(crate) struct Unreached {
    /// The exit code.
    pub(crate) code: u8,
    /// What is left to say, if anything is.
    pub(crate) sentence: Option<String>,
    /// Whether another attempt may end otherwise.
    pub(crate) again: bool,
}

impl Unreached {
    /// Tells why, as this verb, and gives the exit code.
    pub(crate) fn told(&self, verb: &str) -> u8 {
        if let Some(sentence) = &self.sentence {
            say(verb, sentence);
        }
        self.code
    }
}

impl From<TargetError> for Unreached {
    fn from(error: TargetError) -> Self {
        let again = error.may_pass();
        Self { code: error.code(), sentence: error.unsaid(), again }
    }
}

/// Connects to the environment that the flags name.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(target: &TargetArgs, setup: &Setup) -> Result<Client, Unreached> {
    Ok(target.find(setup)?.connect().await?)
}

/// Says one sentence to the user, as this verb.
pub(crate) fn say(verb: &str, sentence: &str) {
    output::note(&format!("codex exec-server {verb}: {sentence}"));
}
