//! What is configured and installed on the machine (section 12).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::encode_with_serde;
use crate::filesystem::sandboxed;
use crate::methods;
use crate::path::{LocalPath, WirePath};
use crate::sandbox::Sandbox;

methods! {
    /// Reads the machine's configuration, as far as it is asked for (12.1).
    ReadConfig: "environmentConfig/read" (ReadConfigParams) -> ReadConfigResult;
    /// Finds skills and plugins below directories (12.2).
    DiscoverRoots: "capabilityRoots/discoverV1" (DiscoverRootsParams) -> DiscoverRootsResult;
    /// Finds what is installed for the server's user (12.3).
    Discover: "capabilities/discoverV2" (DiscoverParams) -> DiscoverResult;
}

/// Params of `environmentConfig/read`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigLayers {
    /// From the lowest to the highest.
    pub layers: Vec<ConfigLayer>,
    /// Before which of them the client puts the layers that a ChatGPT workspace keeps on the service.
    pub cloud_insertion_index: usize,
}

/// One layer, cut down to the keys that were asked for.
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// Params of `capabilityRoots/discoverV1`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiscoverRootsParams {
    /// Where to look.
    pub roots: Vec<RootParams>,
}

/// A directory to look below.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootParams {
    /// The client's own, echoed.
    pub id: String,
    /// The directory.
    pub path: WirePath,
    /// What may be read.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `capabilityRoots/discoverV1`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiscoverRootsResult {
    /// One for each root, in the order of the request.
    pub roots: Vec<RootFound>,
}

/// What is below one root.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootFound {
    /// As asked.
    pub id: String,
    /// As asked.
    pub path: WirePath,
    /// The plugin that the root is.
    pub plugin: Option<PluginFiles>,
    /// In order of their paths.
    pub skills: Vec<SkillFiles>,
    /// The manifest of the root or of the nearest plugin around it, then those of plugins below.
    pub namespace_manifests: Vec<TextFile>,
    /// What was left out.
    pub warnings: Vec<String>,
    /// Why nothing was examined.
    pub error: Option<String>,
}

impl RootFound {
    /// Nothing found.
    pub fn empty(id: String, path: WirePath) -> Self {
        Self {
            id,
            path,
            plugin: None,
            skills: Vec::new(),
            namespace_manifests: Vec::new(),
            warnings: Vec::new(),
            error: None,
        }
    }
}

/// A file and what stands in it.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// Where it is.
    pub path: WirePath,
    /// Its text.
    pub contents: String,
}

/// The files by which a plugin says what it has.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginFiles {
    /// Its manifest.
    pub manifest: TextFile,
    /// Its MCP servers.
    pub mcp_config: Option<TextFile>,
    /// Its connectors.
    pub apps_config: Option<TextFile>,
}

/// The files of a skill.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillFiles {
    /// Its `SKILL.md`.
    pub instructions: TextFile,
    /// `agents/openai.yaml` beside it.
    pub metadata: Option<TextFile>,
}

/// Params of `capabilities/discoverV2`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiscoverParams {
    /// Where the client works.
    pub cwd: LocalPath,
    /// What may be read.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Where a skill was found.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRoot {
    /// A word for the place: `codex-home-skills`, `user-agent-skills`.
    pub id: String,
    /// The directory.
    pub path: WirePath,
}

/// One place of `capabilities/discoverV2`; only spoken between a server and its helper.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkillsParams {
    /// The place.
    pub root: DiscoveryRoot,
    /// What may be read.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// Result of `capabilities/discoverV2`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DiscoverResult {
    /// Installed plugins; this server has no place for any.
    pub plugins: Vec<Value>,
    /// By place, then in order of their paths.
    pub skills: Vec<Skill>,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// What a skill says of itself.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// Its name, else that of its directory.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The same in a few words.
    pub short_description: Option<String>,
    /// Its `SKILL.md`.
    pub path: WirePath,
    /// Where it was found.
    pub discovery_root: DiscoveryRoot,
    /// `{"tools":[…]}` of its metadata.
    pub dependencies: Option<Value>,
    /// Who may use it.
    pub policy: Option<SkillPolicy>,
}

/// Who may use a skill.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkillPolicy {
    /// Whether an agent may use it unasked.
    pub allow_implicit_invocation: Option<bool>,
    /// The products that it is for; all if there is none.
    pub products: Vec<Value>,
}

sandboxed!(RootParams, SkillsParams);

encode_with_serde!(ReadConfigResult, DiscoverRootsResult, RootFound, DiscoverResult);
