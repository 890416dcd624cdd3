//! Configuration as the built binary takes it: home directory, `.env`, layers, flags at every level, exit codes and texts.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use codex_e2e::client::start_params;
use codex_e2e::secrets::assert_none;
use codex_e2e::{Server, TestClient, binary};
use serde_json::json;

/// A home directory of one's own.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(config: &str) -> Self {
        let home = Self::new();
        home.write("config.toml", config);
        home
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::codex());
        command.args(arguments).env("CODEX_HOME", self.path()).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs `codex ARGUMENTS` to its end: exit code, stdout, and stderr with `$` for the home directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        texts(&self.command(arguments).output().unwrap(), &self.path())
    }

    async fn server(&self, arguments: &[&str]) -> Server {
        self.builder(arguments).start().await
    }

    fn builder(&self, arguments: &[&str]) -> codex_e2e::ServerBuilder {
        Server::builder()
            .without_listen()
            .env("CODEX_HOME", self.path().to_str().unwrap())
            .cwd(self.path())
            .args(arguments.iter().copied())
    }
}

pub(crate) fn texts(output: &Output, home: &std::path::Path) -> (Option<i32>, String, String) {
    assert_none("stdout", &output.stdout);
    assert_none("stderr", &output.stderr);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(home.to_str().unwrap(), "$");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A server over stdio whose stdin is closed ends at once, with 0.
pub(crate) const BRIEFLY: &str = "stdio";
const STORE: &str = "unknown variant `sys`, expected one of `file`, `keyring`, `auto`, `ephemeral`";

#[test]
fn a_broken_configuration_is_a_warning_and_with_strict_config_an_error() {
    for (config, message) in [
        ("model = ", "$/config.toml:1:9: string values must be quoted, expected literal string".to_owned()),
        ("\nx", "$/config.toml:2:2: ".to_owned()),
        ("cli_auth_credentials_store='sys'", format!("$/config.toml:1:28: {STORE}")),
        ("profile = 'zz'", "legacy `profile = \"zz\"` config is no longer supported; ".to_owned()),
        (
            "forced_chatgpt_workspace_id = 5",
            "$/config.toml:1:31: data did not match any variant of untagged enum Repr".to_owned(),
        ),
        (
            "[exec_server.limits]\nsessions = 0",
            "$/config.toml:2:12: invalid value: integer `0`, expected a whole number from 1 to 1000000"
                .to_owned(),
        ),
    ] {
        let home = Home::with(config);
        let (code, stdout, stderr) = home.run(&["exec-server", "--listen", BRIEFLY]);
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{config}: {stderr}");
        assert!(stderr.starts_with(&format!("warning: {message}")), "{config}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for arguments in [["exec-server", "--strict-config"], ["--strict-config", "exec-server"]] {
            let (code, stdout, stderr) = home.run(&arguments);
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{config}: {stderr}");
            assert!(stderr.starts_with(&format!("Error: {message}")), "{config}: {stderr}");
        }
    }
}

#[test]
fn unknown_keys_matter_only_when_strict() {
    for (config, overrides, message) in [
        ("[a.b]\nc = 1", &[][..], "$/config.toml:1:2: unknown configuration field `a`"),
        ("features.nosuch = true", &[], "$/config.toml:1:10: unknown configuration field `features.nosuch`"),
        ("", &["-c", "a.b=1"], "unknown configuration field `a` in -c/--config override"),
        (
            "",
            &["-c", "features.nosuch=1"],
            "invalid type: integer `1`, expected a boolean\nin `features.nosuch`",
        ),
        (
            "",
            &["-c", "features.nosuch=true"],
            "unknown configuration field `features.nosuch` in -c/--config override",
        ),
    ] {
        let home = Home::with(config);
        let mut arguments = vec!["exec-server", "--strict-config"];
        arguments.extend(overrides);
        assert_eq!(home.run(&arguments), (Some(1), String::new(), format!("Error: {message}\n")));
    }
    let (code, _, stderr) = Home::with("nosuch = 1").run(&[
        "exec-server",
        "-c",
        "a.b=1",
        "-c",
        "features.nosuch=true",
        "--listen",
        BRIEFLY,
    ]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (code, _, stderr) =
        Home::with("[exec_server]\nws_auht = 'none'").run(&["exec-server", "--listen", BRIEFLY]);
    assert_eq!(code, Some(0));
    assert!(
        stderr.starts_with("warning: $/config.toml:2:1: unknown configuration field `exec_server.ws_auht`"),
        "{stderr}"
    );
}

#[test]
fn flags_of_every_level_are_refused_or_taken_as_released_programs_do() {
    let profile = "Error: --profile only applies to runtime commands";
    let equals = "warning: Invalid override (missing '='): noequals";
    for (arguments, code, start) in [
        (&["--profile", "x", "exec-server"][..], 1, profile),
        (&["-p", "x", "exec-server", "--listen", "stdio"], 1, profile),
        (&["exec-server", "-p", "x"], 2, "error: unexpected argument '-p' found"),
        (&["exec-server", "--profile", "x"], 2, "error: unexpected argument '--profile' found"),
        (&["--enable", "F", "exec-server"], 1, "Error: Unknown feature flag: F\n"),
        (&["exec-server", "--disable", "F", "--listen", "stdio"], 1, "Error: Unknown feature flag: F\n"),
        (&["exec-server", "run", "--enable", "F", "--", "true"], 1, "Error: Unknown feature flag: F\n"),
        (&["--enable", "goals", "exec-server", "--disable", "goals", "--listen", "stdio"], 0, ""),
        (&["exec-server", "-c", "noequals", "--listen", "stdio"], 0, equals),
        (&["-c", "noequals", "exec-server", "--listen", "stdio"], 0, equals),
        (
            &["exec-server", "-c", "noequals", "--strict-config"],
            1,
            "Error: Invalid override (missing '='): noequals\n",
        ),
        (&["exec-server", "-c", "=x", "--strict-config"], 1, "Error: Empty key in override: =x\n"),
        (&["exec-server", "-c"], 2, "error: a value is required for '--config <KEY=VALUE>'"),
        (
            &["exec-server", "--listen", "stdio", "run", "--", "true"],
            2,
            "error: flags of the server cannot be used with the subcommand 'run'",
        ),
        (
            &["exec-server", "-c", "cli_auth_credentials_store=sys", "--strict-config"],
            1,
            &format!("Error: {STORE}\nin `cli_auth_credentials_store`\n"),
        ),
        // A deeper level beats a shallower one for the same key, and all levels are merged.
        (
            &[
                "-c",
                "cli_auth_credentials_store=sys",
                "exec-server",
                "-c",
                "cli_auth_credentials_store=auto",
                "--listen",
                "stdio",
                "--strict-config",
            ],
            0,
            "",
        ),
        (
            &["-c", "cli_auth_credentials_store=sys", "exec-server", "-c", "model=x", "--strict-config"],
            1,
            &format!("Error: {STORE}"),
        ),
    ] {
        let (ended, stdout, stderr) = Home::new().run(arguments);
        assert_eq!((ended, stdout.as_str()), (Some(code), ""), "{arguments:?}: {stderr}");
        assert!(
            stderr.starts_with(start) && start.is_empty() == stderr.is_empty(),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn ids_and_name_without_remote_are_ignored_as_released_programs_do() {
    for flag in ["--environment-id", "--executor-id", "--name"] {
        let (code, stdout, stderr) = Home::new().run(&["exec-server", flag, "x", "--listen", BRIEFLY]);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "", ""), "{flag}");
    }
}

#[test]
fn a_bad_home_directory_is_a_warning_and_with_strict_config_an_error() {
    let home = Home::new();
    home.write("file", "");
    for (value, problem) in
        [("$/no \"such", "that path does not exist"), ("$/file", "that path is not a directory")]
    {
        let value = value.replace('$', home.path().to_str().unwrap());
        let run = |arguments: &[&str]| home.command(arguments).env("CODEX_HOME", &value).output().unwrap();
        let sentence = format!("CODEX_HOME points to {value:?}, but {problem}");
        let output = run(&["exec-server", "--listen", BRIEFLY]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, format!("WARNING: proceeding, even though {sentence}\n"));
        let output = run(&["exec-server", "--strict-config"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("Error: {sentence}\n"));
    }
}

#[test]
fn an_empty_home_variable_means_the_users_directory() {
    let user = tempfile::tempdir().unwrap();
    std::fs::create_dir(user.path().join(".codex")).unwrap();
    std::fs::write(user.path().join(".codex/config.toml"), "model = ").unwrap();
    for set in [true, false] {
        let home = Home::new();
        let mut command = home.command(&["exec-server", "--strict-config"]);
        command.env("HOME", user.path());
        if set {
            command.env("CODEX_HOME", "")
        } else {
            command.env_remove("CODEX_HOME")
        };
        let stderr = String::from_utf8(command.output().unwrap().stderr).unwrap();
        assert!(stderr.contains("/.codex/config.toml:1:9: "), "{stderr}");
    }
}

#[test]
fn without_any_variable_the_users_directory_is_that_of_the_passwd_database() {
    let mut command = Home::new().command(&["exec-server", "--listen", BRIEFLY]);
    command.env_remove("HOME").env_remove("CODEX_HOME").current_dir("/");
    let stderr = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(!stderr.contains("Could not find home directory"), "{stderr}");
}

#[tokio::test]
async fn dot_env_replaces_variables_of_the_server_and_its_programs() {
    let home = Home::new();
    home.write(".env", "FROM_DOT_ENV=yes\nHERE_BEFORE='now this'\nCODEX_MARK=no\n");
    let server = home.builder(&[]).env("HERE_BEFORE", "old").start().await;
    let mut client = server.client().await;
    let script = "echo $FROM_DOT_ENV/$HERE_BEFORE/$CODEX_MARK/${CODEX_HOME:+home}";
    client.ok("process/start", start_params("p", ["sh", "-c", script], json!({}))).await;
    assert_eq!(client.finish("p").await.stdout(), "yes/now this//home\n");
}

#[tokio::test]
async fn the_server_takes_its_settings_from_the_file_and_flags_beat_them() {
    let home = Home::with(
        "[exec_server]\nlisten = 'unix://$/socket'\nws_auth = 'capability-token'\nws_token_file = 'token'\n\
         [exec_server.limits]\nsessions = 1\n"
            .replace('$', "/no/such/directory")
            .as_str(),
    );
    home.write("token", concat!(codex_e2e::secret!("0123456789abcdef0123456789abcdef"), "\n"));
    let (code, _, stderr) = home.run(&["exec-server"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/no/such/directory/socket"), "{stderr}");
    let server = home.server(&["--listen", "ws://127.0.0.1:0"]).await;
    assert_eq!(TestClient::try_connect(&server.url, &[]).await.err(), Some(401));
    let bearer =
        ("authorization", concat!("Bearer ", codex_e2e::secret!("0123456789abcdef0123456789abcdef")));
    let mut one = TestClient::try_connect(&server.url, &[bearer]).await.unwrap();
    one.handshake().await;
    let mut two = TestClient::try_connect(&server.url, &[bearer]).await.unwrap();
    assert_eq!(two.refused("initialize", json!({"clientName": "x"})).await, -32600);
    let open = home
        .server(&["--listen", "ws://127.0.0.1:0", "--ws-auth", "none", "-c", "exec_server.limits.sessions=2"])
        .await;
    let _one = open.client().await;
    let _two = open.client().await;
    let mut three = open.connect().await;
    assert_eq!(three.refused("initialize", json!({"clientName": "x"})).await, -32600);
}

#[test]
fn without_any_home_directory_the_working_directory_does_not_stand_in() {
    let home = Home::with("model = ");
    let mut command = home.command(&["exec-server", "--listen", BRIEFLY]);
    let output = command.env("CODEX_HOME", "no/such").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.starts_with("WARNING: proceeding, even though") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn run_hands_its_configuration_to_the_server_that_it_starts() {
    let home = Home::with("[exec_server.limits]\nretained_output_bytes = 4096\n");
    let (code, stdout, stderr) = home.run(&["exec-server", "run", "--", "echo", "hi"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "hi\n", ""));
    let bad = ["exec-server", "-c", "exec_server.limits.sessions=0", "run", "--", "echo", "hi"];
    let (code, stdout, stderr) = home.run(&bad);
    assert_eq!((code, stdout.as_str()), (Some(0), "hi\n"));
    assert!(stderr.starts_with("warning: invalid value: integer `0`"), "{stderr}");
    let strict = ["--strict-config", "-c", "nosuch=1", "exec-server", "run", "--", "echo", "hi"];
    let (code, stdout, stderr) = home.run(&strict);
    let told = "Error: unknown configuration field `nosuch` in -c/--config override\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", told));
}

#[test]
fn a_trusted_project_is_read_from_the_working_directory() {
    let home = Home::new();
    let project = tempfile::tempdir().unwrap();
    let root = project.path().canonicalize().unwrap();
    std::fs::create_dir(root.join(".codex")).unwrap();
    std::fs::write(root.join(".codex/config.toml"), "model = ").unwrap();
    let run =
        |arguments: &[&str]| texts(&home.command(arguments).current_dir(&root).output().unwrap(), &root);
    let (code, _, stderr) = run(&["exec-server", "--listen", BRIEFLY, "--strict-config"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let trust = format!("projects={{{:?}={{trust_level=\"trusted\"}}}}", root.to_str().unwrap());
    let (code, _, stderr) = run(&["exec-server", "-c", &trust, "--strict-config"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("Error: Error parsing project config file $/.codex/config.toml: "),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["exec-server", "-c", &trust, "--listen", BRIEFLY]);
    assert_eq!(code, Some(0));
    assert!(stderr.starts_with("warning: $/.codex/config.toml:1:9: "), "{stderr}");
}

#[tokio::test]
async fn what_the_configuration_says_about_the_environment_of_commands_has_no_effect() {
    let home = Home::with("[shell_environment_policy]\ninherit = 'none'\nset = { FROM_CONFIG = 'x' }\n");
    let server = home.builder(&[]).env("OF_THE_SERVER", "here").start().await;
    let mut client = server.client().await;
    client
        .ok(
            "process/start",
            start_params("a", ["/usr/bin/env"], json!({"env": {"OWN": "1"}, "envPolicy": null})),
        )
        .await;
    assert_eq!(client.finish("a").await.stdout(), "OWN=1\n");
    client.ok("process/start", start_params("b", ["/usr/bin/env"], json!({}))).await;
    let text = client.finish("b").await.stdout();
    assert!(text.contains("OF_THE_SERVER=here\n") && !text.contains("FROM_CONFIG"), "{text}");
}

#[test]
fn help_is_a_word_as_well_as_a_flag() {
    let home = Home::with("");
    for subcommand in [&[][..], &["run"], &["rendezvous"]] {
        let word = home.run(&[&["exec-server", "help"], subcommand].concat());
        let flag = home.run(&[&["exec-server"], subcommand, &["--help"]].concat());
        assert_eq!(word, flag);
        assert_eq!((word.0, word.2.as_str()), (Some(0), ""));
    }
    let (code, stdout, stderr) = home.run(&["exec-server", "help", "nosuch"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("unrecognized subcommand 'nosuch'"), "{stderr}");
}

#[tokio::test]
async fn clients_are_told_of_directories_for_their_path() {
    let home = Home::with("[exec_server]\nprepend_path_dirs = ['/opt/tools/bin', 'relative']\n");
    let server = home.server(&["--listen", "ws://127.0.0.1:0"]).await;
    let info = server.client().await.ok("environment/info", json!({})).await;
    assert_eq!(info["prependPathDirs"], json!(["file:///opt/tools/bin"]));
}
