//! Why a sandbox is refused.

use std::io;
use std::path::PathBuf;

use codex_exec_protocol::RpcError;

/// What is wrong with a permission profile. On the wire `-32600`, but for a foreign path.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A path of another system. On the wire `-32602`, as for a path that does not decode.
    #[error("the sandbox's path {path:?} belongs to another host or another kind of machine")]
    Foreign {
        /// As sent.
        path: String,
    },
    /// A place that only the client knows.
    #[error("the sandbox names an unknown place {name:?}; send its path instead")]
    UnknownPlace {
        /// As sent.
        name: String,
    },
    /// `..` in a rule.
    #[error("the sandbox's path {path:?} holds `..`; send it without")]
    Climbs {
        /// As sent.
        path: PathBuf,
    },
    /// No absolute path.
    #[error(
        "the sandbox's path {path:?} is not absolute, and there is no cwd to take it from; send the whole path"
    )]
    Relative {
        /// As sent.
        path: PathBuf,
    },
    /// A rule would follow a symlink that confined programs can change.
    #[error(
        "the sandbox grants {entry:?} through the symlink {link:?}, which programs may change under the same sandbox; \
         name the symlink's target instead"
    )]
    PlantedLink {
        /// The rule's path.
        entry: PathBuf,
        /// The symlink.
        link: PathBuf,
    },
    /// A pattern with another access than deny.
    #[error(
        "the sandbox grants access by the pattern {pattern:?}; patterns can only deny, name paths instead"
    )]
    GlobGrant {
        /// As sent.
        pattern: String,
    },
    /// A pattern that makes no sense.
    #[error("the sandbox's pattern {pattern:?} can't be used: {reason}")]
    Glob {
        /// The pattern as the client sent it.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bound was hit.
    #[error("the sandbox has too many {what}: at most {most}; {remedy}")]
    TooMuch {
        /// The kind of thing that there are too many of, in words.
        what: String,
        /// The bound.
        most: usize,
        /// What cures it.
        remedy: &'static str,
    },
    /// The older form, or an older client's wrapper, with something unknown in it.
    #[error("the sandbox's older form can't be read ({reason}); send permissions with a `type`")]
    OldForm {
        /// What is unknown in it.
        reason: String,
    },
    /// The file system doesn't tell.
    #[error("can't look up the sandbox's path {path:?}: {source}")]
    Lookup {
        /// The path that was looked up.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl From<PolicyError> for RpcError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Foreign { .. } => Self::invalid_params(error.to_string()),
            _ => Self::invalid_request(error.to_string()),
        }
    }
}
