//! What the machine is and how it does (section 9).

use serde::{Deserialize, Serialize};

use crate::encode::{NoParams, encode_with_serde};
use crate::methods;
use crate::path::WirePath;

methods! {
    /// Describes the machine (9.1).
    Info: "environment/info" (NoParams) -> EnvironmentInfo;
    /// Says whether the machine is ready (9.2).
    Status: "environment/status" (NoParams) -> StatusResult;
}

/// The machine, as `environment/info` and `initialize` describe it.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentInfo {
    /// The user's shell, from the passwd database.
    pub shell: Shell,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_version: Option<String>,
    /// Opaque identity of the build: `sha256:` and 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Working directory of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<WirePath>,
    /// Home directory of the server's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_home_dir: Option<WirePath>,
    /// `linux`, `macos` or `windows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_os: Option<String>,
    /// Directories that the client may put in front of `PATH`.
    #[serde(default)]
    pub prepend_path_dirs: Vec<WirePath>,
    /// Further temporary directories.
    #[serde(default)]
    pub temporary_directories: Vec<WirePath>,
    /// The temporary directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_dir: Option<WirePath>,
    /// What this server can do.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// A shell by name and native path.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// `bash`, `zsh`, `sh`, `powershell` or `cmd`.
    pub name: String,
    /// Absolute native path, not a URI.
    pub path: String,
}

/// Capability flags (9.1); absent means false. Announced only when they work.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct Capabilities {
    pub network_proxy_launch: bool,
    pub network_proxy_review_domains: bool,
    pub network_proxy_transparent_tcp: bool,
    pub credential_masking: bool,
    pub credential_masking_custom_providers: bool,
    pub capability_discovery_sandbox: bool,
    pub fs_watch_missing: bool,
    pub capability_discovery_v2: bool,
    pub detached_sessions: bool,
    pub environment_config_read: bool,
    pub http_header_env_vars: bool,
    pub sandboxed_file_streaming: bool,
    pub file_write_streaming: bool,
    pub shell_snapshot_v2: bool,
    pub windows_mxc: bool,
    pub linux_root_write_preserves_devices: bool,
    pub linux_approved_root_write_preserves_restrictions: bool,
    /// The `tcp/*` methods work (an addition).
    pub tcp_streams: bool,
    /// Output is kept on disk for who asks (an addition).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disk_logs: bool,
    /// What copies are made with works: `fs/getEntry`, `fs/list`, `fs/hash`, `fs/link`, `fs/place` (an addition).
    pub file_transfer: bool,
    /// `offset` and `maxBytes` of `fs/readFile`, `mode` of `fs/writeFile` and `eof` of `process/write` are heard (an addition).
    pub file_pieces: bool,
}

/// Result of `environment/status`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusResult {
    /// `ready`; other words were not seen.
    pub status: String,
}
encode_with_serde!(EnvironmentInfo, StatusResult);
