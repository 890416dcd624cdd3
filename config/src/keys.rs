//! Names of top-level keys that other Codex programs read and this one does not, so that strict mode lets them pass.

/// Keys that strict mode accepts without a look at what is below them.
const OTHERS: &[&str] = &[
    "agents",
    "allow_login_shell",
    "analytics",
    "approval_policy",
    "approvals_reviewer",
    "apps",
    "apps_mcp_product_sku",
    "audio",
    "auto_review",
    "background_terminal_max_timeout",
    "check_for_update_on_startup",
    "code_mode",
    "commit_attribution",
    "compact_prompt",
    "debug",
    "default_permissions",
    "desktop",
    "developer_instructions",
    "disable_paste_burst",
    "experimental_compact_prompt_file",
    "experimental_instructions_file",
    "experimental_realtime_start_instructions",
    "experimental_realtime_webrtc_call_base_url",
    "experimental_realtime_ws_backend_prompt",
    "experimental_realtime_ws_base_url",
    "experimental_realtime_ws_model",
    "experimental_realtime_ws_startup_context",
    "experimental_thread_config_endpoint",
    "experimental_thread_store",
    "experimental_thread_store_endpoint",
    "experimental_use_freeform_apply_patch",
    "experimental_use_unified_exec_tool",
    "feedback",
    "file_opener",
    "ghost_snapshot",
    "hide_agent_reasoning",
    "history",
    "hooks",
    "include_apps_instructions",
    "include_collaboration_mode_instructions",
    "include_environment_context",
    "include_permissions_instructions",
    "include_skill_instructions",
    "instructions",
    "js_repl_node_module_dirs",
    "js_repl_node_path",
    "log_dir",
    "marketplaces",
    "mcp_oauth_callback_port",
    "mcp_oauth_callback_url",
    "mcp_oauth_credentials_store",
    "mcp_servers",
    "memories",
    "model_auto_compact_token_limit",
    "model_catalog_json",
    "model_context_window",
    "model_instructions_file",
    "model_providers",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_supports_reasoning_summaries",
    "model_verbosity",
    "notice",
    "notify",
    "openai_base_url",
    "oss_provider",
    "permissions",
    "personality",
    "plan_mode_reasoning_effort",
    "plugins",
    "project_doc_fallback_filenames",
    "project_doc_max_bytes",
    "realtime",
    "responses",
    "review_model",
    "rollout_trace",
    "sandbox_mode",
    "sandbox_workspace_write",
    "service_tier",
    "show_raw_agent_reasoning",
    "skills",
    "sqlite_home",
    "suppress_unstable_features_warning",
    "tool_output_token_limit",
    "tool_suggest",
    "tools",
    "tui",
    "web_search",
    "windows",
    "windows_wsl_setup_acknowledged",
    "zsh_path",
];

/// Tables that are checked here only in part.
const PARTLY_CHECKED: [&str; 3] = ["otel", "profiles", "shell_environment_policy"];

/// Whether another program may know a key that this one does not, given by its parts.
pub(crate) fn may_be_known_elsewhere(key: &[String]) -> bool {
    match key {
        [] => true,
        [name] => OTHERS.binary_search(&name.as_str()).is_ok(),
        [table, ..] => PARTLY_CHECKED.contains(&table.as_str()),
    }
}

/// Keys that a project's file can't set, even when it is trusted (login.md 12.2), and `exec_server`: where this machine
/// can be reached, and by whom, is not for the files of a project to say.
pub(crate) const NOT_FOR_PROJECTS: [&[&str]; 13] = [
    &["openai_base_url"],
    &["chatgpt_base_url"],
    &["apps_mcp_product_sku"],
    &["model_provider"],
    &["model_providers"],
    &["notify"],
    &["profile"],
    &["profiles"],
    &["experimental_realtime_webrtc_call_base_url"],
    &["experimental_realtime_ws_base_url"],
    &["otel"],
    &["features", "respect_system_proxy"],
    &["exec_server"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted_for_the_search() {
        assert!(OTHERS.is_sorted());
        assert!(may_be_known_elsewhere(&["tui".into()]) && !may_be_known_elsewhere(&["nosuch".into()]));
        assert!(may_be_known_elsewhere(&["otel".into(), "new".into()]));
        assert!(!may_be_known_elsewhere(&["exec_server".into(), "new".into()]));
    }
}
