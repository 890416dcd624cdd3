//! The rules, as they stand in `rules.json`.

use serde::Deserialize;
use serde_json::Value;

/// How much depends on a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Released clients do not work without it.
    Must,
    /// Released servers do it; no client was seen to depend on it.
    Should,
    /// An addition that released servers do not have: without it nothing is wrong.
    Addition,
}

/// One rule, and a conversation that shows whether it is kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Of `docs/protocol.md`; for additions of `docs/extensions.md`, as `x`.
    pub(crate) section: String,
    pub(crate) level: Level,
    pub(crate) rule: String,
    /// The conversation begins before `initialize`.
    #[serde(default)]
    pub(crate) raw: bool,
    /// It takes a session that outlives its connection.
    #[serde(default)]
    pub(crate) resumes: bool,
    /// It holds only on a relay, or only elsewhere.
    #[serde(default)]
    pub(crate) relayed: Option<bool>,
    pub(crate) steps: Vec<Step>,
}

/// One step of a conversation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Step {
    /// Sends this message.
    Send(Value),
    /// Sends this text, which may be no message.
    Text(String),
    /// The answer to the last request has to look so.
    Answer(Value),
    /// The answer to the request of this id has to look so.
    AnswerTo(Value, Value),
    /// A notification like this has to come.
    Notified(Value),
    /// This process has to come to its end so.
    Ended(Ended),
    /// The server has to end the connection.
    Closed,
    /// The connection is cut, and another one takes its place, before `initialize`.
    Reconnect,
}

/// What becomes of a process.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Ended {
    pub(crate) process: String,
    #[serde(default)]
    pub(crate) stdout: Option<String>,
    #[serde(default)]
    pub(crate) stderr: Option<String>,
    #[serde(default)]
    pub(crate) pty: Option<String>,
    #[serde(default)]
    pub(crate) exit: Option<i64>,
}

/// The rules can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the rules can't be read: {0}")]
pub struct RulesError(#[from] serde_json::Error);

pub(crate) fn all() -> Result<Vec<Rule>, RulesError> {
    Ok(serde_json::from_str(include_str!("rules.json"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_says_something_of_its_own_and_asks_for_something() {
        let rules = all().unwrap();
        assert!(rules.len() > 50, "{}", rules.len());
        let mut sentences: Vec<_> = rules.iter().map(|rule| rule.rule.as_str()).collect();
        sentences.sort_unstable();
        assert!(sentences.windows(2).all(|pair| pair[0] != pair[1]), "two rules say the same");
        for rule in &rules {
            let asks = rule
                .steps
                .iter()
                .any(|step| !matches!(step, Step::Send(_) | Step::Text(_) | Step::Reconnect));
            assert!(asks, "{} asks for nothing", rule.rule);
        }
    }
}
