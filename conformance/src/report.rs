//! What was found, for people.

use std::fmt;

use crate::rules::Level;

/// How a server does by one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It keeps it.
    Kept,
    /// It does not; why, as half a sentence.
    Broken(String),
    /// An addition that it does not have.
    NotOffered,
    /// It can't be asked; why, as half a sentence.
    Skipped(String),
}

/// All rules, with what was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    section: String,
    level: Level,
    rule: String,
    verdict: Verdict,
}

impl Report {
    pub(crate) fn add(&mut self, section: &str, level: Level, rule: &str, verdict: Verdict) {
        self.lines.push(Line { section: section.to_owned(), level, rule: rule.to_owned(), verdict });
    }

    /// Whether released clients can use the server: no rule that they depend on is broken.
    pub fn is_fit(&self) -> bool {
        self.broken().all(|(level, _)| level != Level::Must)
    }

    /// The rules that are broken, by their sentences.
    pub fn broken(&self) -> impl Iterator<Item = (Level, &str)> {
        let broken = self.lines.iter().filter(|line| matches!(line.verdict, Verdict::Broken(_)));
        broken.map(|line| (line.level, line.rule.as_str()))
    }

    /// How many rules there were.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no rule was asked for.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn count(&self, level: Level) -> (usize, usize) {
        let of_level = || self.lines.iter().filter(|line| line.level == level);
        let asked = of_level().filter(|line| !matches!(line.verdict, Verdict::Skipped(_))).count();
        (of_level().filter(|line| line.verdict == Verdict::Kept).count(), asked)
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Must => "must",
        Level::Should => "should",
        Level::Addition => "addition",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        let numbers = |section: &str| -> Vec<u32> {
            section.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
        };
        lines.sort_by_key(|line| (numbers(&line.section), line.level));
        for line in lines {
            let (mark, why) = match &line.verdict {
                Verdict::Kept => ("ok", String::new()),
                Verdict::Broken(why) => ("BROKEN", format!("\n{:34}{why}", "")),
                Verdict::NotOffered => ("not offered", String::new()),
                Verdict::Skipped(why) => ("skipped", format!(" ({why})")),
            };
            writeln!(f, "{:<8}{:<10}{mark:<12}    {}{why}", line.section, word(line.level), line.rule)?;
        }
        writeln!(f)?;
        for (level, what) in [
            (Level::Must, "what released clients depend on"),
            (Level::Should, "what released servers do besides"),
            (Level::Addition, "additions, which a server need not have"),
        ] {
            let (kept, asked) = self.count(level);
            writeln!(f, "{:<9} {kept} of {asked}: {what}", word(level))?;
        }
        Ok(())
    }
}
