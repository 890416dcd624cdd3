//! What was measured, beside its limit and its bar; as a table or as JSON.

use serde_json::{Value, json};

/// What has to hold.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// The measured value is at most this.
    AtMost(f64),
    /// The measured value is at least this.
    AtLeast(f64),
    /// Measured over limit is at most this.
    RatioAtMost(f64),
    /// Measured over limit is at least this.
    RatioAtLeast(f64),
    /// For information.
    None,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: &'static str,
    /// Unit of `measured` and `limit`.
    pub unit: &'static str,
    /// The server's value.
    pub measured: f64,
    /// The machine's own, in the same run.
    pub limit: Option<f64>,
    /// What has to hold.
    pub bar: Bar,
}

impl Row {
    /// A line without the machine's limit.
    pub fn new(what: &'static str, unit: &'static str, measured: f64, bar: Bar) -> Self {
        Self { what, unit, measured, limit: None, bar }
    }

    /// The same with the machine's limit.
    pub fn against(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0.0).map(|limit| self.measured / limit)
    }

    /// Whether the bar holds; a bar without limit to compare with does not.
    pub fn ok(&self) -> bool {
        match self.bar {
            Bar::AtMost(bar) => self.measured <= bar,
            Bar::AtLeast(bar) => self.measured >= bar,
            Bar::RatioAtMost(bar) => self.ratio().is_some_and(|ratio| ratio <= bar),
            Bar::RatioAtLeast(bar) => self.ratio().is_some_and(|ratio| ratio >= bar),
            Bar::None => true,
        }
    }

    fn bar_text(&self) -> String {
        match self.bar {
            Bar::AtMost(bar) => format!("<= {}", number(bar)),
            Bar::AtLeast(bar) => format!(">= {}", number(bar)),
            Bar::RatioAtMost(bar) => format!("<= {bar} x"),
            Bar::RatioAtLeast(bar) => format!(">= {bar} x"),
            Bar::None => "-".into(),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.bar, self.ok()) {
            (Bar::None, _) => "",
            (_, true) => "ok",
            (_, false) => "MISS",
        }
    }

    /// For `--json`.
    pub fn json(&self, case: &str, server: &str) -> Value {
        json!({"case": case, "server": server, "what": self.what, "unit": self.unit, "measured": self.measured,
            "limit": self.limit, "ratio": self.ratio(), "bar": self.bar_text(), "ok": self.ok()})
    }

    /// For the table.
    pub fn line(&self, server: &str) -> String {
        let limit = self.limit.map_or("-".into(), number);
        let ratio = self.ratio().map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let (what, unit, measured, bar) = (self.what, self.unit, number(self.measured), self.bar_text());
        let verdict = self.verdict();
        format!(
            "{what:<46} {server:<10} {measured:>10} {limit:>10} {unit:<7} {ratio:>7} {bar:>10}  {verdict}"
        )
    }
}

/// The table's head.
pub fn head() -> String {
    format!(
        "{:<46} {:<10} {:>10} {:>10} {:<7} {:>7} {:>10}",
        "what", "server", "measured", "limit", "unit", "ratio", "bar"
    )
}

fn number(value: f64) -> String {
    match value.abs() {
        big if big >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// The value that this share (0 to 1) of the samples does not exceed.
pub fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The middle sample.
pub fn median(samples: &[f64]) -> f64 {
    percentile(samples, 0.5)
}
