//! What is configured and installed on the machine (section 12).

use serde::{Deserialize, Serialize};

use crate::encode::encode_with_serde;
use crate::methods;
use crate::path::{LocalPath, WirePath};

methods! {
    /// Reads the machine's configuration, as far as it is asked for (12.1).
    ReadConfig: "environmentConfig/read" (ReadConfigParams) -> ReadConfigResult;
}

/// Params of `environmentConfig/read`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadConfigParams {
    /// Where the client works: trusted projects around it count. Need not exist.
    pub cwd: LocalPath,
    /// Keys of `config.toml` that are wanted, each as its parts. Nothing else is answered.
    pub config_paths: Vec<Vec<String>>,
    /// Keys of `requirements.toml` that are wanted.
    pub requirements_paths: Vec<Vec<String>>,
}

/// Result of `environmentConfig/read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadConfigResult {
    /// Home directory of the server's user.
    pub user_home_dir: Option<WirePath>,
    /// The home directory that all Codex programs of this user share.
    pub codex_home_dir: WirePath,
    /// The machine's name.
    pub hostname: Option<String>,
    /// What `config.toml` says in its layers.
    pub config: ConfigLayers,
    /// What the machine's administrator demands.
    pub requirements: ConfigLayers,
}

/// Layers, of which later ones win. Those that have none of the keys are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigLayers {
    /// From the lowest to the highest.
    pub layers: Vec<ConfigLayer>,
    /// Before which of them the client puts the layers that a ChatGPT workspace keeps on the service.
    pub cloud_insertion_index: usize,
}

/// One layer, cut down to the keys that were asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigLayer {
    /// Where it comes from, for people: `user (/home/dev/.codex/config.toml)`.
    pub source: String,
    /// Where its relative paths begin.
    pub base_dir: WirePath,
    /// The keys, written again as TOML.
    pub toml: String,
}

impl std::fmt::Debug for ConfigLayer {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigLayer").field("source", &self.source).finish_non_exhaustive()
    }
}

encode_with_serde!(ReadConfigResult);
