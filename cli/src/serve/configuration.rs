//! Lets clients read the configuration of this machine (protocol.md 12.1): joins the files, which `config` knows, to the
//! server, which asks.

use std::path::PathBuf;

use codex_config::selection::{SelectedLayers, Selector, select};
use codex_exec_server::environment::Configuration;
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::discovery::{
    ConfigLayer, ConfigLayers, DiscoveryRoot, ReadConfigParams, ReadConfigResult,
};

/// Where Linux tells the machine's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The files of this machine.
#[derive(Debug)]
pub(super) struct Files {
    /// The home directory that all Codex programs share.
    home: PathBuf,
    user_home: Option<PathBuf>,
}

impl Files {
    /// Of the home directory; none if it is not an absolute path, which would mean another place to everybody.
    pub(super) fn new(home: PathBuf, user_home: Option<PathBuf>) -> Option<Self> {
        home.is_absolute().then_some(Self { home, user_home })
    }
}

impl Configuration for Files {
    fn read(&self, asked: &ReadConfigParams) -> Result<ReadConfigResult, String> {
        let selected = select(&Selector {
            home: &self.home,
            system: codex_config::SYSTEM.as_ref(),
            cwd: &asked.cwd.0,
            config: &asked.config_paths,
            requirements: &asked.requirements_paths,
        })
        .map_err(|error| error.one_line())?;
        Ok(ReadConfigResult {
            user_home_dir: self.user_home.clone().map(WirePath::from),
            codex_home_dir: self.home.clone().into(),
            hostname: std::fs::read_to_string(HOSTNAME).ok().map(|name| name.trim_end().to_owned()),
            config: told(selected.config),
            requirements: told(selected.requirements),
        })
    }

    fn skill_roots(&self) -> Vec<DiscoveryRoot> {
        let root = |id: &str, path: PathBuf| DiscoveryRoot { id: id.to_owned(), path: path.into() };
        let agents = self.user_home.as_ref().map(|home| home.join(".agents/skills"));
        let own = root("codex-home-skills", self.home.join("skills"));
        std::iter::once(own).chain(agents.map(|path| root("user-agent-skills", path))).collect()
    }
}

fn told(selected: SelectedLayers) -> ConfigLayers {
    let layers = selected.layers.into_iter().map(|layer| ConfigLayer {
        source: layer.source,
        base_dir: layer.base_dir.into(),
        toml: layer.text,
    });
    ConfigLayers { layers: layers.collect(), cloud_insertion_index: selected.cloud_insertion_index }
}
