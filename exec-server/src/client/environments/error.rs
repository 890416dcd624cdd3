//! Why an environment can't be had.

use crate::client::error::ClientError;

/// Why an environment can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnvironmentError {
    /// Nobody has this name.
    #[error("there is no environment {name:?}; known are: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A name that can't be.
    #[error(
        "{0:?} is no name for an environment: it takes 1 to 64 ASCII letters, digits, `-` and `_`, and not `none`; \
         `local` is this machine"
    )]
    Name(String),
    /// Two of the same name.
    #[error("there are two environments {0:?}; give one of them another name")]
    Taken(String),
    /// Somebody lets it rest.
    #[error("the environment {0:?} is paused; it is connected to again once it is resumed")]
    Paused(String),
    /// It was removed meanwhile.
    #[error("the environment {0:?} was removed")]
    Removed(String),
    /// Where it is can't be said; why.
    #[error("{0}")]
    Dial(String),
    /// Its server can't be reached.
    #[error(transparent)]
    Connect(#[from] ClientError),
}

impl EnvironmentError {
    /// Whether the same attempt may work later, without anybody doing anything here.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Connect(
                ClientError::Connect { .. }
                    | ClientError::TimedOut { .. }
                    | ClientError::Rpc(_)
                    | ClientError::Lost(_)
            )
        )
    }
}
