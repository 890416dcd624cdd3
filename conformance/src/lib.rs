//! Holds any exec-server to the protocol: conversations with what has to be answered, each under its section and with how
//! much depends on it, and a report that people read.
//!
//! The rules are data (`rules.json`). A server is spoken to as a client would do it, over whatever leads there.

mod check;
mod http;
mod pattern;
mod report;
mod rules;
mod talk;

use std::time::Duration;

use codex_exec_server::client::{ClientOptions, Endpoint};

pub use report::{Report, Verdict};
pub use rules::{Level, RulesError};

/// The server that is examined.
pub struct Subject {
    /// Makes the way to it, once for each connection.
    pub endpoint: Box<dyn Fn() -> Endpoint + Send + Sync>,
    /// How it is connected to.
    pub options: ClientOptions,
    /// Its `ws://HOST:PORT`, where what it answers to plain HTTP can be asked.
    pub http: Option<String>,
    /// A session outlives its connection: not over pipes.
    pub resumes: bool,
    /// For each answer. Our own pace: nothing outside depends on it.
    pub patience: Duration,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("http", &self.http)
            .field("resumes", &self.resumes)
            .finish_non_exhaustive()
    }
}

/// Examines a server by every rule, or by those whose section begins so.
///
/// # Errors
/// The rules can't be read; a server that can't be reached fails its rules instead.
pub async fn examine(subject: &Subject, section: Option<&str>) -> Result<Report, RulesError> {
    let mut report = Report::default();
    let wanted =
        |of: &str| section.is_none_or(|section| of == section || of.starts_with(&format!("{section}.")));
    for question in http::QUESTIONS.iter().filter(|question| wanted(question.section)) {
        report.add(question.section, question.level, question.rule, http::ask(subject, question).await);
    }
    for rule in rules::all()?.iter().filter(|rule| wanted(&rule.section)) {
        report.add(&rule.section, rule.level, &rule.rule, check::check(subject, rule).await);
    }
    Ok(report)
}
