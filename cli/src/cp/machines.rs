//! The machines that a copy is between.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use codex_exec_server::environment::{Environment, Files};

use super::words::{End, Way};
use crate::reach::Unreached;
use crate::setup::{Setup, or_root};
use crate::target::TargetArgs;
use crate::there::{There, here};

/// This machine, and those that the words name, each connected to once.
pub(super) struct Machines {
    here: Environment,
    there: BTreeMap<Option<String>, There>,
}

impl Machines {
    /// Connects to all that are named.
    ///
    /// # Errors
    /// Why one can't be reached.
    pub(super) async fn reach(flags: &TargetArgs, setup: &Setup, way: &Way) -> Result<Self, Unreached> {
        let ends: Vec<&End> = match way {
            Way::FromStdin(end) | Way::ToStdout(end) => vec![end],
            Way::Copy { sources, destination } => sources.iter().chain([destination]).collect(),
        };
        let mut there = BTreeMap::new();
        for end in ends {
            let End::There(name, _) = end else { continue };
            if !there.contains_key(name) {
                let target = name.as_deref().map_or_else(|| flags.clone(), TargetArgs::named);
                there.insert(name.clone(), There::reach(&target, setup).await?);
            }
        }
        Ok(Self { here: here(), there })
    }

    /// Whose files an end means, and which.
    ///
    /// # Errors
    /// A sentence, where a relative path can't be understood.
    pub(super) fn resolve(&self, end: &End) -> Result<(Arc<dyn Files>, PathBuf), String> {
        match end {
            End::There(name, path) => {
                let there = self.there.get(name).ok_or("this machine was not reached")?;
                Ok((Arc::clone(&there.files), there.path(path)?))
            }
            End::Here(path) => {
                let here = or_root(std::env::current_dir())
                    .map_err(|error| format!("can't tell the current directory: {error}"))?;
                Ok((Arc::clone(&self.here.files), here.join(path)))
            }
        }
    }

    /// Says goodbye to all of them.
    pub(super) async fn close(self) {
        for there in self.there.into_values() {
            there.close().await;
        }
    }
}
