//! Which layer of the configuration wins, and what is told of one that is wrong.

use super::*;
use crate::testing::{Machine, pipe, repository};
use crate::{Leftovers, WsAuth};

fn store(word: &str) -> String {
    format!("cli_auth_credentials_store = \"{word}\"\n")
}

#[test]
fn without_any_file_everything_has_its_default() {
    let config = Machine::new().config();
    assert_eq!(config.cli_auth_credentials_store, StoreMode::File);
    assert_eq!(config.chatgpt_base_url, "https://chatgpt.com/backend-api/");
    assert_eq!((config.forced_login_method, config.forced_chatgpt_workspace_id.as_deref()), (None, None));
    assert_eq!((config.allowed_login_methods.as_deref(), config.workspaces()), (None, None));
    assert_eq!(config.exec_server, ExecServerConfig::default());
    assert!(!config.features.secret_auth_storage() && !config.features.respect_system_proxy());
    let elsewhere = Sources { home: "/no/such/home".into(), ..Machine::new().sources(&[]) };
    assert_eq!(load(&elsewhere).unwrap(), config);
}

#[test]
fn the_keys_of_this_part_are_read() {
    for (text, check) in [
        (
            store("keyring").as_str(),
            (|c| c.cli_auth_credentials_store == StoreMode::Keyring) as fn(&Config) -> bool,
        ),
        (&store("auto"), |c| c.cli_auth_credentials_store == StoreMode::Auto),
        (&store("ephemeral"), |c| c.cli_auth_credentials_store == StoreMode::Ephemeral),
        ("forced_login_method = 'chatgpt'", |c| c.forced_login_method == Some(LoginMethod::Chatgpt)),
        ("forced_login_method = 'api'", |c| c.forced_login_method == Some(LoginMethod::Api)),
        ("forced_chatgpt_workspace_id = 'a'", |c| c.workspaces() == Some(vec!["a".into()])),
        ("forced_chatgpt_workspace_id = ['a', 'b']", |c| {
            c.forced_chatgpt_workspace_id == Some(vec!["a".into(), "b".into()])
        }),
        ("chatgpt_base_url = 'http://127.0.0.1:1/x'", |c| c.chatgpt_base_url == "http://127.0.0.1:1/x"),
        ("features.secret_auth_storage = true", |c| c.features.secret_auth_storage()),
        ("[features]\nrespect_system_proxy = true\nnosuch = false", |c| {
            c.features.respect_system_proxy() && c.features.get("nosuch") == Some(false)
        }),
        ("features.multi_agent_v2 = { enabled = true, other = 1 }", |c| {
            c.features.get("multi_agent_v2") == Some(true)
        }),
        ("features.multi_agent_v2 = { other = 1 }", |c| c.features.get("multi_agent_v2").is_none()),
        ("\u{feff}forced_login_method = 'api'", |c| c.forced_login_method == Some(LoginMethod::Api)),
        ("[profiles.zz]\nmodel = 'x'\nnosuch = 1", |_| true),
        ("nosuch = 1\n[tui]\nnotifications = true\n[mcp_servers.x]\ncommand = 'y'", |c| {
            c.warnings.is_empty()
        }),
        ("[shell_environment_policy]\ninherit = 'none'\nset = {A = 'b'}\nexclude = ['X*']", |_| true),
        ("[otel]\nenvironment = 'x'\nexporter = 'none'\nlog_user_prompt = false", |_| true),
        (
            "[otel]\nexporter = { otlp-http = { endpoint = 'http://x', protocol = 'binary', headers = {a = 'b'} } }",
            |_| true,
        ),
        ("[otel]\ntrace_exporter.otlp-grpc = { endpoint = 'http://x' }", |_| true),
    ] {
        let config = Machine::with(text).load(&[]);
        assert!(config.as_ref().is_ok_and(check), "{text}: {config:?}");
    }
}

#[test]
fn a_higher_layer_wins_and_the_managed_file_beats_even_the_command_line() {
    let mut machine = Machine::new();
    let now = |machine: &Machine, dash_c: &[&str]| machine.load(dash_c).unwrap().cli_auth_credentials_store;
    machine.at("work/sub");
    repository(&machine.root.join("work"));
    machine.write("etc/config.toml", &store("keyring"));
    assert_eq!(now(&machine, &[]), StoreMode::Keyring);
    machine.write(
        "home/config.toml",
        &format!("{}[projects.'$/work']\ntrust_level = 'trusted'\n", store("auto")),
    );
    assert_eq!(now(&machine, &[]), StoreMode::Auto);
    machine.write("work/.codex/config.toml", &store("ephemeral"));
    assert_eq!(now(&machine, &[]), StoreMode::Ephemeral);
    machine.write("work/sub/.codex/config.toml", &store("file"));
    assert_eq!(now(&machine, &[]), StoreMode::File);
    let override_ = &["cli_auth_credentials_store=keyring"];
    assert_eq!(now(&machine, override_), StoreMode::Keyring);
    machine.write("etc/managed_config.toml", &store("auto"));
    assert_eq!(now(&machine, override_), StoreMode::Auto);
    machine.write("home/managed_config.toml", &store("ephemeral"));
    assert_eq!(now(&machine, override_), StoreMode::Auto);
    machine.write("etc/requirements.toml", &store("file"));
    assert_eq!(now(&machine, override_), StoreMode::File);
}

#[test]
fn tables_are_merged_and_everything_else_is_replaced_whole() {
    let machine =
        Machine::with("forced_chatgpt_workspace_id = ['c']\n[features]\napps = false\nhooks = true");
    machine.write(
        "etc/config.toml",
        "forced_chatgpt_workspace_id = ['a', 'b']\n[features]\napps = true\ngoals = true",
    );
    let config = machine.load(&["features={}", "features.undo=true"]).unwrap();
    assert_eq!(config.forced_chatgpt_workspace_id, Some(vec!["c".into()]));
    let on = ["apps", "goals", "hooks", "undo"].map(|name| config.features.get(name));
    assert_eq!(on, [Some(false), Some(true), Some(true), Some(true)]);
}

#[test]
fn errors_are_those_of_released_programs_with_path_line_and_column() {
    for (text, wanted) in [
        ("model = ", "1:9: string values must be quoted, expected literal string"),
        ("model = \n", "1:9: string values must be quoted, expected literal string"),
        ("# x\n\nmodel = ", "3:9: string values must be quoted, expected literal string"),
        (
            "cli_auth_credentials_store='sys'",
            "1:28: unknown variant `sys`, expected one of `file`, `keyring`, `auto`, `ephemeral`",
        ),
        (
            "\u{feff}cli_auth_credentials_store='sys'",
            "1:28: unknown variant `sys`, expected one of `file`, `keyring`, `auto`, `ephemeral`",
        ),
        (
            "x = 1\r\n  cli_auth_credentials_store = 'sys'",
            "2:32: unknown variant `sys`, expected one of `file`, `keyring`, `auto`, `ephemeral`",
        ),
        ("forced_login_method = 'API'", "1:23: unknown variant `API`, expected `chatgpt` or `api`"),
        ("forced_chatgpt_workspace_id = 5", "1:31: data did not match any variant of untagged enum Repr"),
        ("forced_chatgpt_workspace_id = [5]", "1:31: data did not match any variant of untagged enum Repr"),
        ("'é' = 1\n'éé'.x = { 'ü' = 'ß' }\nmodel = 5", "3:9: invalid type: integer `5`, expected a string"),
        (
            "projects = { 'ééé' = { trust_level = 'x' } }",
            "1:38: unknown variant `x`, expected `trusted` or `untrusted`",
        ),
        ("chatgpt_base_url = true", "1:20: invalid type: boolean `true`, expected a string"),
        ("features.goals = 'yes'", "1:18: invalid type: string \"yes\", expected a boolean"),
        ("[profiles.zz]\nmodel = 1", "2:9: invalid type: integer `1`, expected a string"),
        ("profiles = 1", "1:12: invalid type: integer `1`, expected a map"),
        (
            "shell_environment_policy.inherit = 'some'",
            "1:36: unknown variant `some`, expected one of `core`, `all`, `none`",
        ),
        ("otel = 'x'", "1:8: invalid type: string \"x\", expected struct OtelToml"),
        ("project_root_markers = 'x'", "1:24: invalid type: string \"x\", expected a sequence"),
    ] {
        assert_eq!(Machine::with(text).error(&[]), format!("$/home/config.toml:{wanted}"), "{text}");
    }
}

#[test]
fn a_file_that_cant_be_read_is_named_with_the_cause() {
    let machine = Machine::new();
    std::fs::write(machine.root.join("home/config.toml"), b"x = \"\xff\"").unwrap();
    assert_eq!(
        machine.error(&[]),
        "Failed to read config file $/home/config.toml: stream did not contain valid UTF-8"
    );
    let machine = Machine::new();
    std::fs::create_dir(machine.root.join("home/config.toml")).unwrap();
    assert_eq!(
        machine.error(&[]),
        "Failed to read config file $/home/config.toml: Is a directory (os error 21)"
    );
    let machine = Machine::new();
    std::os::unix::fs::symlink("config.toml", machine.root.join("etc/config.toml")).unwrap();
    assert!(machine.error(&[]).starts_with("Failed to read config file $/etc/config.toml: "));
    let machine = Machine::new();
    pipe(&machine.root.join("home/config.toml"));
    assert_eq!(machine.error(&[]), "Failed to read config file $/home/config.toml: it is a named pipe");
    let machine = Machine::with(&"# long\n".repeat(2_000_000));
    assert!(
        machine.error(&[]).starts_with("Failed to read config file $/home/config.toml: it is larger than")
    );
}

#[test]
fn of_several_bad_values_the_lowest_file_is_named_even_when_it_is_covered() {
    let mut machine = Machine::with(&store("low"));
    machine.at("work");
    repository(&machine.root.join("work"));
    let line = |path: &str, column: usize, word: &str| {
        format!(
            "$/{path}:1:{column}: unknown variant `{word}`, expected one of `file`, `keyring`, `auto`, `ephemeral`"
        )
    };
    let home = line("home/config.toml", 30, "low");
    assert_eq!(machine.error(&["cli_auth_credentials_store=high"]), home);
    assert_eq!(machine.error(&["cli_auth_credentials_store=file"]), home);
    machine.write("etc/managed_config.toml", &store("top"));
    assert_eq!(machine.error(&[]), home);
    machine.write("home/config.toml", "[projects.'$/work']\ntrust_level = 'trusted'\n");
    assert_eq!(machine.error(&[]), line("etc/managed_config.toml", 30, "top"));
    machine.write("work/.codex/config.toml", &store("mid"));
    assert_eq!(machine.error(&[]), line("work/.codex/config.toml", 30, "mid"));
    machine.write("etc/config.toml", &store("bottom"));
    assert_eq!(machine.error(&[]), line("etc/config.toml", 30, "bottom"));
}

#[test]
fn a_bad_value_of_the_command_line_is_named_by_its_key() {
    let machine = Machine::with(&store("auto"));
    for (override_, wanted) in [
        (
            "cli_auth_credentials_store=bogus",
            "unknown variant `bogus`, expected one of `file`, `keyring`, `auto`, `ephemeral`\n\
             in `cli_auth_credentials_store`",
        ),
        (
            "forced_chatgpt_workspace_id=5",
            "data did not match any variant of untagged enum Repr\nin `forced_chatgpt_workspace_id`",
        ),
        (
            "otel.log_user_prompt=5",
            "invalid type: integer `5`, expected a boolean\nin `otel.log_user_prompt`",
        ),
        (
            "exec_server.limits.sessions=0",
            "invalid value: integer `0`, expected a whole number from 1 to 1000000\nin `exec_server.limits.sessions`",
        ),
    ] {
        assert_eq!(machine.error(&[override_]), wanted);
    }
}

#[test]
fn the_old_profile_key_is_refused_wherever_it_stands() {
    let wanted = "legacy `profile = \"zz\"` config is no longer supported; \
                  use `--profile zz` with `zz.config.toml` instead";
    assert_eq!(Machine::with("profile = 'zz'\n[profiles.zz]\nmodel = 'x'").error(&[]), wanted);
    assert_eq!(Machine::new().error(&["profile=zz"]), wanted);
}

#[test]
fn strict_mode_reports_the_first_key_that_nobody_knows() {
    for (text, wanted) in [
        ("nosuch = 1", "1:1: unknown configuration field `nosuch`"),
        ("model = 'x'\n\n  zzz = 1\naaa = 2", "3:3: unknown configuration field `zzz`"),
        ("[a.b]\nc = 1", "1:2: unknown configuration field `a`"),
        ("[exec_server]\nlimits.nosuch = 1", "2:8: unknown configuration field `exec_server.limits.nosuch`"),
        ("projects.'/é'.x = 1", "1:15: unknown configuration field `projects./é.x`"),
        ("[features]\nnosuch = true", "2:1: unknown configuration field `features.nosuch`"),
        ("x = 1\nmodel = 5", "2:9: invalid type: integer `5`, expected a string"),
    ] {
        let machine = Machine::with(text).strict();
        assert_eq!(machine.error(&[]), format!("$/home/config.toml:{wanted}"), "{text}");
    }
    for (overrides, wanted) in [
        (&["nosuch=1"][..], "nosuch"),
        (&["a.b=1"], "a"),
        (&["features.nosuch=true"], "features.nosuch"),
        (&["model=x", "zzz.a=1", "aaa=1"], "zzz"),
        (&["exec_server.limits={sessions=1, nosuch=2}"], "exec_server.limits.nosuch"),
    ] {
        let wanted = format!("unknown configuration field `{wanted}` in -c/--config override");
        assert_eq!(Machine::new().strict().error(overrides), wanted);
    }
}

#[test]
fn strict_mode_lets_the_keys_of_other_programs_pass() {
    let machine = Machine::with(
        "model = 'x'\nnotify = ['a']\nsandbox_mode = 'read-only'\n[tui]\nanything = 1\n[mcp_servers.x]\ncommand = 'y'\n\
         [otel]\nnewer = 1\n[profiles.x]\nreview_model = 'y'\n[features]\ngoals = true\n[model_providers.z]\nname = 'z'\n",
    )
    .strict();
    assert!(machine.load(&["features.undo=false", "tools.web_search=true"]).is_ok());
}

#[test]
fn strict_mode_knows_what_0_171_adds() {
    let machine = Machine::with(
        "rollout_trace = true\n[responses]\nx = 1\n[code_mode]\nx = 1\n[otel]\nheaders_helper = 'token'\n\
         headers_helper_refresh_interval_ms = 1000\n[features]\nshell_snapshot_v2 = true\nper_environment_context = true\n\
         'guardianv2.thread_context' = false\n[features.network_proxy]\nenabled = true\ntransparent_tcp = true\n",
    )
    .strict();
    machine.load(&["features.executor_capability_discovery_v2=true", "features.worktrees=false"]).unwrap();
}

/// Every key that `login.md` names, with a value of its type.
const KEYS_OF_THE_SPEC: [(&str, &str); 24] = [
    ("cli_auth_credentials_store", "'file'"),
    ("forced_login_method", "'chatgpt'"),
    ("forced_chatgpt_workspace_id", "['a']"),
    ("chatgpt_base_url", "'https://x.test'"),
    ("projects", "{'/x' = {trust_level = 'trusted'}}"),
    ("project_root_markers", "['.hg']"),
    ("features.secret_auth_storage", "false"),
    ("features.respect_system_proxy", "false"),
    ("features.use_legacy_landlock", "false"),
    ("profiles.zz", "{}"),
    ("otel.exporter", "'none'"),
    ("shell_environment_policy.inherit", "'core'"),
    ("shell_environment_policy.set", "{A = 'b'}"),
    ("model", "'m'"),
    ("openai_base_url", "'https://x.test'"),
    ("apps_mcp_product_sku", "'x'"),
    ("model_provider", "'x'"),
    ("model_providers.x", "{}"),
    ("notify", "['x']"),
    ("experimental_realtime_webrtc_call_base_url", "'x'"),
    ("experimental_realtime_ws_base_url", "'x'"),
    ("exec_server.listen", "'stdio'"),
    ("exec_server.ws_auth", "'none'"),
    ("exec_server.limits.sessions", "1"),
];

#[test]
fn strict_mode_knows_every_key_of_the_spec_and_none_that_is_misspelt() {
    for (key, value) in KEYS_OF_THE_SPEC {
        let loaded = Machine::with(&format!("{key} = {value}\n")).strict().load(&[]);
        assert!(loaded.is_ok(), "{key}: {loaded:?}");
        let known = Machine::new().strict().load(&[&format!("{key}={value}")]);
        assert!(known.is_ok(), "-c {key}: {known:?}");
        // The first part, or the last where that is a name of ours.
        let misspelt = match key.split_once('.') {
            Some(("features" | "exec_server", _)) => format!("{key}x"),
            Some((table, rest)) => format!("{table}x.{rest}"),
            None => format!("{key}x"),
        };
        let refused = Machine::with(&format!("{misspelt} = {value}\n")).strict().error(&[]);
        assert!(refused.contains("unknown configuration field"), "{misspelt}: {refused}");
        let refused = Machine::new().strict().error(&[&format!("{misspelt}={value}")]);
        assert!(refused.contains("in -c/--config override"), "{misspelt}: {refused}");
    }
}

#[test]
fn an_untrusted_project_can_say_nothing_at_all() {
    let mut machine = Machine::new();
    machine.at("work");
    repository(&machine.root.join("work"));
    for text in [store("auto"), store("bogus"), "model = ".to_owned(), "nosuch = 1".to_owned()] {
        machine.write("work/.codex/config.toml", &text);
        for level in ["", "[projects.'$/work']\ntrust_level = 'untrusted'\n", "[projects.'$/work']\n"] {
            machine.write("home/config.toml", level);
            assert_eq!(machine.config().cli_auth_credentials_store, StoreMode::File, "{text}");
        }
    }
}

#[test]
fn bad_toml_of_a_trusted_project_is_fatal() {
    let machine = Machine::with("[projects.'$/work']\ntrust_level = 'trusted'\n");
    machine.write("work/.codex/config.toml", "x = 1\nmodel = \n");
    let wanted = "Error parsing project config file $/work/.codex/config.toml: TOML parse error at line 2, column 9\n  \
                  |\n2 | model = \n  |         ^\nstring values must be quoted, expected literal string";
    assert_eq!(machine.error(&[]), wanted);
    let one_line = machine.load(&[]).unwrap_err().one_line();
    assert!(
        one_line
            .ends_with("/work/.codex/config.toml:2:9: string values must be quoted, expected literal string")
    );
}

#[test]
fn a_trusted_project_sets_credentials_but_neither_services_nor_the_server() {
    let machine = Machine::with("[projects.'$/work']\ntrust_level = 'trusted'\n").strict();
    machine.write(
        "work/.codex/config.toml",
        "cli_auth_credentials_store = 'auto'\nforced_login_method = 'api'\nchatgpt_base_url = 5\nprofile = 'x'\n\
         model_provider = 1\nprofiles = 1\notel = 1\nnotify = 1\nopenai_base_url = 1\n\
         [features]\nrespect_system_proxy = 'x'\ngoals = true\n\
         [exec_server]\nlisten = 'ws://0.0.0.0:1'\nnosuch = 1\nlimits = 1\n",
    );
    let config = machine.config();
    assert_eq!(config.cli_auth_credentials_store, StoreMode::Auto);
    assert_eq!(config.forced_login_method, Some(LoginMethod::Api));
    assert_eq!(config.chatgpt_base_url, "https://chatgpt.com/backend-api/");
    assert_eq!(config.features.get("goals"), Some(true));
    assert_eq!(config.features.get("respect_system_proxy"), None);
    assert_eq!(config.exec_server, ExecServerConfig::default());
}

#[test]
fn requirements_restrict_the_ways_to_sign_in_and_a_bad_one_is_not_passed_over() {
    let machine = Machine::with("forced_chatgpt_workspace_id = ['a', 'b']");
    machine.write(
        "etc/requirements.toml",
        "allowed_login_methods = ['chatgpt']\nallowed_chatgpt_workspaces = ['b', 'c']\nfuture = 1",
    );
    let config = machine.config();
    assert_eq!(config.allowed_login_methods, Some(vec![LoginMethod::Chatgpt]));
    assert_eq!(config.workspaces(), Some(vec!["b".into()]));
    machine.write("etc/requirements.toml", "allowed_login_methods = ['chatgtp']");
    let wanted = "$/etc/requirements.toml:1:26: unknown variant `chatgtp`, expected `chatgpt` or `api`";
    assert_eq!(machine.error(&[]), wanted);
    machine.write("etc/requirements.toml", "allowed_login_methods = ");
    assert!(machine.error(&[]).starts_with("$/etc/requirements.toml:1:25: "));
}

#[test]
fn the_servers_table_is_read_and_its_paths_start_at_the_file() {
    let machine = Machine::with(
        "[exec_server]\nlisten = 'ws://127.0.0.1:0'\nws_auth = 'signed-bearer-token'\nws_shared_secret_file = 'secret'\n\
         ws_token_file = '/abs/token'\nws_issuer = 'i'\nws_audience = 'a'\nws_max_clock_skew_seconds = 5\n\
         leftovers = 'kill'\nconcurrent_requests = 7\n[exec_server.limits]\nsessions = 3\nhold_time = 0\n",
    );
    let settings = machine.load(&["exec_server.limits.connections=9"]).unwrap().exec_server;
    assert_eq!(settings.listen.as_deref(), Some("ws://127.0.0.1:0"));
    assert_eq!(settings.ws_auth, Some(WsAuth::SignedBearerToken));
    assert_eq!(settings.ws_shared_secret_file, Some(machine.root.join("home/secret")));
    assert_eq!(settings.ws_token_file, Some("/abs/token".into()));
    assert_eq!((settings.ws_issuer.as_deref(), settings.ws_audience.as_deref()), (Some("i"), Some("a")));
    assert_eq!(settings.ws_max_clock_skew_seconds.map(crate::Number::get), Some(5));
    assert_eq!(settings.leftovers, Some(Leftovers::Kill));
    assert_eq!(settings.concurrent_requests.map(crate::Number::get), Some(7));
    assert_eq!(settings.limits.given(), [("connections", 9), ("sessions", 3), ("hold_time", 0)]);
}

#[test]
fn a_limit_out_of_its_range_is_refused_with_the_range() {
    for (line, wanted) in [
        ("sessions = 0", "invalid value: integer `0`, expected a whole number from 1 to 1000000"),
        ("sessions = -1", "invalid value: integer `-1`, expected a whole number from 1 to 1000000"),
        ("sessions = 1.5", "invalid type: floating point `1.5`, expected a whole number from 1 to 1000000"),
        ("sessions = '5'", "invalid type: string \"5\", expected a whole number from 1 to 1000000"),
        (
            "frame_bytes = 9_000_000_000",
            "invalid value: integer `9000000000`, expected a whole number from 4096 to 1073741824",
        ),
    ] {
        let column = line.find("= ").unwrap() + 3;
        let error = Machine::with(&format!("[exec_server.limits]\n{line}")).error(&[]);
        assert_eq!(error, format!("$/home/config.toml:2:{column}: {wanted}"));
    }
}

#[test]
fn an_unknown_key_of_the_server_is_a_warning() {
    let machine = Machine::with("nosuch = 1\n[exec_server]\nws_auht = 'capability-token'\n");
    let warnings = machine.load(&["exec_server.limits.sesions=1", "other=1"]).unwrap().warnings;
    let root = machine.root.to_str().unwrap();
    let warnings: Vec<_> = warnings.iter().map(|warning| warning.replace(root, "$")).collect();
    assert_eq!(
        warnings,
        [
            "$/home/config.toml:3:1: unknown configuration field `exec_server.ws_auht`",
            "unknown configuration field `exec_server.limits.sesions` in -c/--config override",
        ]
    );
}
