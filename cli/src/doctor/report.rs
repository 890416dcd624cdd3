//! What was found, as lines for people or as one JSON object.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::output;

/// Of the JSON object.
const SCHEMA_VERSION: u32 = 1;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Ok,
    /// Something is refused or missing that not everybody needs.
    Warning,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) category: &'static str,
    /// What people call it.
    pub(super) name: String,
    pub(super) status: Status,
    /// What was found, in one sentence.
    pub(super) summary: String,
    /// Further facts.
    pub(super) details: Vec<(&'static str, String)>,
    /// What cures it: commands to paste, or a sentence.
    pub(super) remediation: Vec<String>,
    pub(super) took: Duration,
}

/// All that was looked at, in order.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Check>);

impl Check {
    /// A check that began at `since`, and found nothing wrong.
    pub(super) fn ok(id: &str, category: &'static str, name: &str, summary: String, since: Instant) -> Self {
        Self {
            id: id.to_owned(),
            category,
            name: name.to_owned(),
            status: Status::Ok,
            summary,
            details: Vec::new(),
            remediation: Vec::new(),
            took: since.elapsed(),
        }
    }

    /// The same with something wrong, and what would help.
    pub(super) fn but(mut self, status: Status, remediation: Vec<String>) -> Self {
        self.status = status;
        self.remediation = remediation;
        self
    }

    /// With a fact more.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.details.push((key, value.into()));
        self
    }

    fn json(&self) -> Value {
        let details: Map<String, Value> =
            self.details.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let remediation = (!self.remediation.is_empty()).then(|| self.remediation.join("\n"));
        json!({
            "id": self.id,
            "category": self.category,
            "status": word(self.status),
            "summary": self.summary,
            "details": details,
            "remediation": remediation,
            "durationMs": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn lines(&self) -> String {
        let mark = match self.status {
            Status::Ok => "ok     ",
            Status::Warning => "LIMITED",
            Status::Fail => "BROKEN ",
        };
        let first = format!("{mark} {}: {}\n", self.name, self.summary);
        self.remediation.iter().fold(first, |text, line| format!("{text}            {line}\n"))
    }
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.0.push(check);
    }

    /// Whether nothing is wrong.
    pub(super) fn is_well(&self) -> bool {
        self.status() == Status::Ok
    }

    fn status(&self) -> Status {
        self.0.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
    }

    /// Prints it.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let text = if as_json {
            let checks: Map<String, Value> =
                self.0.iter().map(|check| (check.id.clone(), check.json())).collect();
            let report = json!({
                "schemaVersion": SCHEMA_VERSION,
                "generatedAt": Timestamp::now().to_string(),
                "overallStatus": word(self.status()),
                "codexVersion": env!("CARGO_PKG_VERSION"),
                "checks": checks,
            });
            format!("{report:#}\n")
        } else {
            self.0.iter().map(Check::lines).collect()
        };
        output::bytes(text.as_bytes()).context("can't print the findings")
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Fail => "fail",
    }
}
