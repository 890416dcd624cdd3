//! Says which rule decides what may be done at a path.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::PolicyError;
use super::lookups::locate;
use super::policy::{Access, Decider, Files, Policy, Rule};

/// What a policy says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where the path really leads.
    pub real: PathBuf,
    /// What may be done there.
    pub access: Access,
    /// Which rule decides, in words.
    pub why: String,
}

impl Policy {
    /// What holds at an absolute path, and which rule says so.
    ///
    /// # Errors
    /// When the path can't be looked up.
    pub fn explain(&self, path: &Path) -> Result<Explanation, PolicyError> {
        let lookup = |source| PolicyError::Lookup { path: path.to_owned(), source };
        let real = locate(path).map_err(lookup)?.real;
        let Files::Rules(rules) = &self.files else {
            return Ok(Explanation {
                real,
                access: Access::Write,
                why: "files are not restricted".to_owned(),
            });
        };
        let why = match rules.decider(&real) {
            Decider::Nothing => "no rule mentions it".to_owned(),
            Decider::Rule(at, Rule::Read) => format!("{} may be read", at.display()),
            Decider::Rule(at, Rule::Write) => format!("{} may be written", at.display()),
            Decider::Rule(at, Rule::Protect) => format!("{} is protected", at.display()),
            Decider::Rule(at, Rule::Deny) => format!("{} is denied", at.display()),
        };
        Ok(Explanation { access: rules.access_at(&real), real, why })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Hidden => "is not there",
            Access::Denied => "can be neither read nor written",
            Access::Read => "can be read",
            Access::Write => "can be read and written",
        };
        write!(f, "{} {access}: {}", self.real.display(), self.why)
    }
}
