//! The feature flags of released programs: their names, and which are on.

use std::collections::BTreeMap;

/// Names that `--enable`, `--disable` and strict mode accept. Most concern the agent and change nothing here; a name is
/// known so that one config file and one set of flags serve all Codex programs.
pub const KNOWN: &[&str] = &[
    "apply_patch_freeform",
    "apply_patch_streaming_events",
    "apps",
    "apps_mcp_gateway",
    "apps_mcp_path_override",
    "artifact",
    "auth_elicitation",
    "browser_use",
    "child_agents_md",
    "chronicle",
    "code_mode",
    "code_mode_only",
    "codex_git_commit",
    "codex_hooks",
    "collab",
    "collaboration_modes",
    "computer_use",
    "connectors",
    "default_mode_request_user_input",
    "elevated_windows_sandbox",
    "enable_experimental_windows_sandbox",
    "enable_fanout",
    "enable_mcp_apps",
    "enable_request_compression",
    "exec_permission_approvals",
    "experimental_use_freeform_apply_patch",
    "experimental_use_unified_exec_tool",
    "experimental_windows_sandbox",
    "external_migration",
    "fast_mode",
    "general_analytics",
    "goals",
    "guardian_approval",
    "hooks",
    "image_detail_original",
    "image_generation",
    "in_app_browser",
    "include_apply_patch_tool",
    "js_repl",
    "js_repl_tools_only",
    "memories",
    "memory_tool",
    "multi_agent",
    "multi_agent_v2",
    "network_proxy",
    "personality",
    "plugin_hooks",
    "plugin_sharing",
    "plugins",
    "powershell_utf8",
    "prevent_idle_sleep",
    "realtime_conversation",
    "remote_compaction",
    "remote_compaction_v2",
    "remote_control",
    "remote_models",
    "remote_plugin",
    "request_permissions",
    "request_permissions_tool",
    "request_rule",
    "respect_system_proxy",
    "responses_websockets",
    "responses_websockets_v2",
    "runtime_metrics",
    "search_tool",
    "secret_auth_storage",
    "shell_snapshot",
    "shell_tool",
    "shell_zsh_fork",
    "skill_env_var_dependency_prompt",
    "skill_mcp_dependency_install",
    "skills",
    "sqlite",
    "steer",
    "telepathy",
    "terminal_resize_reflow",
    "tool_call_mcp_elicitation",
    "tool_search",
    "tool_search_always_defer_mcp_tools",
    "tool_suggest",
    "tui2",
    "tui_app_server",
    "unavailable_dummy_tools",
    "undo",
    "unified_exec",
    "unified_exec_zsh_fork",
    "use_agent_identity",
    "use_legacy_landlock",
    "use_linux_sandbox_bwrap",
    "voice_transcription",
    "web_search",
    "web_search_cached",
    "web_search_request",
    "workspace_dependencies",
    "workspace_owner_usage_nudge",
];

/// A flag that no released program knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Unknown feature flag: {0}")]
pub struct UnknownFeature(pub String);

/// Checks the names given with `--enable` and `--disable` (login.md 12.6).
///
/// # Errors
/// The first unknown name.
pub fn check<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), UnknownFeature> {
    match names.into_iter().find(|name| !is_known(name)) {
        Some(name) => Err(UnknownFeature(name.clone())),
        None => Ok(()),
    }
}

/// Whether released programs know the flag.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// The flags that were set, to either value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features(pub(crate) BTreeMap<String, bool>);

impl Features {
    /// Whether a flag was set, and to what; the caller decides what an unset one means.
    pub fn get(&self, name: &str) -> Option<bool> {
        self.0.get(name).copied()
    }

    /// `secret_auth_storage`: credentials in an encrypted file (login.md 3.5). Off by default on Linux.
    pub fn secret_auth_storage(&self) -> bool {
        self.get("secret_auth_storage").unwrap_or(false)
    }

    /// `respect_system_proxy`: ask the system for a proxy. Off by default; the proxy variables count in any case.
    pub fn respect_system_proxy(&self) -> bool {
        self.get("respect_system_proxy").unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_for_the_search() {
        assert!(KNOWN.is_sorted());
        for name in KNOWN {
            assert!(is_known(name), "{name}");
        }
    }

    #[test]
    fn the_first_unknown_name_is_reported() {
        let names = ["goals", "nosuch", "other"].map(String::from);
        assert_eq!(check(&names).unwrap_err().to_string(), "Unknown feature flag: nosuch");
        assert_eq!(check(&names[..1]), Ok(()));
    }
}
