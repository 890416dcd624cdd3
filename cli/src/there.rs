//! Files of an exec-server's machine, as the verbs name them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use codex_exec_server::Limits;
use codex_exec_server::client::Client;
use codex_exec_server::environment::info::{MachineFacts, describe};
use codex_exec_server::environment::{Environment, Files, LocalConfig};
use codex_exec_server::process::{LaunchContext, Leftovers};
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::encode::NoParams;
use codex_exec_server::protocol::environment::{EnvironmentInfo, Info};

use crate::reach::{self, Unreached};
use crate::setup::Setup;
use crate::target::TargetArgs;

/// An exec-server's machine.
pub(crate) struct There {
    pub(crate) files: std::sync::Arc<dyn Files>,
    info: Option<EnvironmentInfo>,
    client: Client,
}

impl There {
    /// Reaches the machine that the flags name.
    ///
    /// # Errors
    /// Why it can't be reached.
    pub(crate) async fn reach(target: &TargetArgs, setup: &Setup) -> Result<Self, Unreached> {
        let client = reach::connect(target, setup).await?;
        let info = match client.environment_info() {
            Some(info) => Some(info),
            None => client.call::<Info>(&NoParams).await.ok(),
        };
        Ok(Self { files: Environment::remote(client.clone()).files, info, client })
    }

    /// A path as it is meant there: from the server's directory on, or from the home directory with `~`.
    ///
    /// # Errors
    /// A sentence, where the server does not say where these are.
    pub(crate) fn path(&self, written: &Path) -> Result<PathBuf, String> {
        if written.is_absolute() {
            return Ok(written.to_owned());
        }
        let told = |path: Option<&WirePath>, what: &str| match path {
            Some(WirePath::Local(path)) => Ok(path.clone()),
            _ => Err(format!("this exec-server does not say where its {what} is; give an absolute path")),
        };
        let info = self.info.as_ref();
        match written.strip_prefix("~") {
            Ok(rest) => {
                Ok(told(info.and_then(|info| info.user_home_dir.as_ref()), "home directory")?.join(rest))
            }
            Err(_) => Ok(told(info.and_then(|info| info.cwd.as_ref()), "working directory")?.join(written)),
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

/// The files of this machine. Inside a runtime.
pub(crate) fn here() -> Environment {
    let facts = MachineFacts {
        cwd: "/".into(),
        home: None,
        shell: None,
        temp_dir: None,
        temporary_directories: Vec::new(),
        prepend_path_dirs: Vec::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Environment::local(LocalConfig {
        limits: Limits::default(),
        host: LaunchContext::default(),
        info: describe(facts),
        leftovers: Leftovers::Kill,
        configuration: None,
    })
}

/// A name as a terminal can show it.
pub(crate) fn shown(name: &OsStr) -> String {
    let text = String::from_utf8_lossy(name.as_bytes());
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
