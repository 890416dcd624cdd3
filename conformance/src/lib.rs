//! Holds any exec-server to the protocol: conversations with what has to be answered, each under its section and with how
//! much depends on it, and a report that people read.
//!
//! The rules are data (`rules.json`). A server is spoken to as a client would do it, over whatever leads there.

mod check;
mod http;
mod pattern;
mod report;
mod rules;
mod subject;
mod talk;

use codex_exec_server::client::Endpoint;

pub use report::{Report, Verdict};
use rules::Rule;
pub use rules::{Level, RulesError};
pub use subject::Subject;

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
    let relayed = matches!((subject.endpoint)(), Endpoint::Registry(_));
    let holds_here = |rule: &Rule| rule.relayed.is_none_or(|only| only == relayed);
    for rule in rules::all()?.iter().filter(|rule| wanted(&rule.section) && holds_here(rule)) {
        report.add(&rule.section, rule.level, &rule.rule, check::check(subject, rule).await);
    }
    Ok(report)
}
