//! Why a configuration can't be used, in the words of released programs (login.md 12.3).

use std::path::PathBuf;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read, is a directory, is too large or is not UTF-8.
    #[error("Failed to read config file {}: {cause}", path.display())]
    Read {
        /// The file that can't be read.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something in a file: bad TOML, a bad value, or in strict mode an unknown key.
    #[error("{}:{line}:{column}: {message}", path.display())]
    File {
        /// The file that does not parse.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Bad TOML in the file of a trusted project.
    #[error("Error parsing project config file {}: {excerpt}", path.display())]
    Project {
        /// The file with the bad value.
        path: PathBuf,
        /// Line of the value, counted from 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong there.
        message: String,
        /// The message with the lines around it.
        excerpt: String,
    },
    /// A bad value that no file has, so it comes from the command line. The message names its key.
    #[error("{0}")]
    CommandLine(String),
    /// In strict mode, a key of the command line that is not known.
    #[error("unknown configuration field `{0}` in -c/--config override")]
    UnknownOverride(String),
    /// The key `profile`, which older programs had.
    #[error(
        "legacy `profile = \"{0}\"` config is no longer supported; use `--profile {0}` with `{0}.config.toml` instead"
    )]
    LegacyProfile(String),
}

impl ConfigError {
    /// The error in one line, with file, line and column where there are any; for a log or a warning.
    pub fn one_line(&self) -> String {
        match self {
            Self::Project { path, line, column, message, .. } => {
                format!("{}:{line}:{column}: {message}", path.display())
            }
            _ => self.to_string().lines().collect::<Vec<_>>().join(" "),
        }
    }
}
