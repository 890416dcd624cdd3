//! `codex login` with a key or a token on standard input, and the flags around it.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use codex_e2e::issuer::Issuer;
use codex_e2e::login::Home;
use codex_e2e::secrets::secret;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

const WHOAMI: &str = "/v1/user-auth-credential/whoami";

fn owner(account: &str) -> serde_json::Value {
    json!({
        "email": "dev@example.test", "chatgpt_user_id": "user-1", "chatgpt_account_id": account,
        "chatgpt_plan_type": "pro", "chatgpt_account_is_fedramp": false,
    })
}

#[tokio::test]
async fn an_api_key_is_trimmed_and_stored_and_nothing_is_asked() {
    let mut home = Home::new();
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        home.set(name, "http://127.0.0.1:1");
    }
    let saved = [
        "Reading API key from stdin...",
        "API key saved. Authentication is checked when you send a request.",
    ];
    // A ChatGPT sign-in that is there is replaced, not revoked: there is nobody to ask.
    home.write("auth.json", json!({ "auth_mode": "chatgpt", "tokens": null }));
    home.run_with(&["login", "--with-api-key"], &format!(" \n{}\n\n", secret("key"))).await.assert(0, &saved);
    assert_eq!(home.auth().unwrap(), json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret("key") }));
    let text = std::fs::read_to_string(home.path().join("auth.json")).unwrap();
    assert_eq!(
        text,
        format!("{{\n  \"auth_mode\": \"apikey\",\n  \"OPENAI_API_KEY\": \"{}\"\n}}", secret("key")),
        "two spaces, no newline at the end"
    );
    for name in ["auth.json", "log/codex-login.log"] {
        assert_eq!(std::fs::metadata(home.path().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert!(home.log().contains("login with an API key"), "{}", home.log());
}

#[tokio::test]
async fn nothing_usable_on_stdin_is_refused_before_the_configuration_is_looked_at() {
    let home = Home::new();
    home.write("config.toml", "broken = ");
    for input in ["", " \n\t\n"] {
        home.run_with(&["login", "--with-api-key"], input)
            .await
            .assert(1, &["Reading API key from stdin...", "No API key provided via stdin."]);
        home.run_with(&["login", "--with-access-token"], input)
            .await
            .assert(1, &["Reading access token from stdin...", "No access token provided via stdin."]);
    }
    let ended = home.run_with(&["login", "--with-api-key"], "key").await;
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines[0], "Reading API key from stdin...");
    assert!(lines[1].starts_with("Error loading configuration: "), "{ended:?}");
    let huge = "x".repeat((1 << 20) + 1);
    home.run_with(&["login", "--with-api-key"], &huge)
        .await
        .assert(1, &["Reading API key from stdin...", "The API key on stdin has more than 1048576 bytes."]);
    for input in ["s3cr3t\nkey", "s3cr3t\r\nkey", "s3cr3t\0key", "s3cr3t\u{1b}[2J", "s3cr3t\tkey"] {
        for (flag, what) in [("--with-api-key", "API key"), ("--with-access-token", "access token")] {
            let refusal = format!(
                "The {what} on stdin has a line break or another control character inside; pipe the {what} alone."
            );
            let lines = [&format!("Reading {what} from stdin..."), &refusal];
            home.run_with(&["login", flag], input).await.assert(1, &lines.map(String::as_str));
        }
    }
    assert!(home.auth().is_none());
}

#[tokio::test]
async fn a_terminal_as_stdin_gets_a_hint() {
    let home = Home::new();
    for (flag, what, variable) in [
        ("--with-api-key", "API key", "OPENAI_API_KEY"),
        ("--with-access-token", "access token", "CODEX_ACCESS_TOKEN"),
    ] {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal: File = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let hint = format!(
            "{flag} expects the {what} on standard input. Pipe it, e.g. `printenv {variable} | codex login {flag}`."
        );
        home.spawn(&["login", flag], terminal).end().await.assert(1, &[&hint]);
    }
}

#[tokio::test]
async fn flags_that_do_not_go_are_refused() {
    let home = Home::new();
    let cases: [(&[&str], &str); 5] = [
        (
            &["login", "--api-key", "s3cr3t-key"],
            "The --api-key flag is no longer supported. Pipe the key instead, e.g. \
             `printenv OPENAI_API_KEY | codex login --with-api-key`.",
        ),
        (
            &["login", "--with-api-key", "--with-access-token"],
            "Choose one login credential source: --with-api-key or --with-access-token.",
        ),
        (&["--enable", "nosuch", "login", "status"], "Error: Unknown feature flag: nosuch"),
        (&["--strict-config", "login"], "Error: `--strict-config` is not supported for `codex login`"),
        (&["--strict-config", "logout"], "Error: `--strict-config` is not supported for `codex logout`"),
    ];
    for (arguments, line) in cases {
        home.run(arguments).await.assert(1, &[line]);
    }
    for arguments in [
        &["login", "--nosuch"][..],
        &["login", "nosuch"],
        &["logout", "--nosuch"],
        &["completion", "x"],
        &["login", "--with-access-token", "--device-auth"],
    ] {
        assert_eq!(home.run(arguments).await.status.code(), Some(2), "{arguments:?}");
    }
    let ended = home.run(&["-p", "x", "login"]).await;
    assert!(ended.stderr.contains("--profile only applies to runtime commands"), "{ended:?}");
    assert_eq!(ended.status.code(), Some(1));
    assert!(!home.path().join("log").exists());
}

#[tokio::test]
async fn a_forced_method_refuses_the_other_and_sends_nothing() {
    let issuer = Issuer::good("acct-1").await;
    let home = Home::new();
    let url = issuer.url("");
    let chatgpt_disabled = "ChatGPT login is disabled. Use API key login instead.";
    let api_disabled = "API key login is disabled. Use ChatGPT login instead.";
    let device = ["login", "--device-auth", "--experimental_issuer", &url, "-c", "forced_login_method=api"];
    home.run(&device).await.assert(1, &[chatgpt_disabled]);
    home.run(&["login", "-c", "forced_login_method=api"]).await.assert(1, &[chatgpt_disabled]);
    home.run_with(&["login", "--with-access-token", "-c", "forced_login_method=api"], "at-s3cr3t-x")
        .await
        .assert(1, &["Reading access token from stdin...", chatgpt_disabled]);
    home.run_with(&["-c", "forced_login_method=chatgpt", "login", "--with-api-key"], "s3cr3t-key")
        .await
        .assert(1, &["Reading API key from stdin...", api_disabled]);
    assert!(issuer.paths().is_empty() && home.auth().is_none());
}

#[tokio::test]
async fn a_personal_token_is_looked_up_then_stored() {
    let issuer = Issuer::start().await;
    issuer.answer(WHOAMI, "200 OK", owner("acct-1"));
    let mut home = Home::new();
    home.set("CODEX_AUTHAPI_BASE_URL", issuer.url("/"));
    let token = format!("at-{}", secret("personal"));
    let reading = "Reading access token from stdin...";
    home.run_with(&["login", "--with-access-token"], &format!("{token}\n"))
        .await
        .assert(0, &[reading, "Successfully logged in"]);
    let stored = json!({ "OPENAI_API_KEY": null, "personal_access_token": token });
    assert_eq!(home.auth(), Some(stored.clone()));
    let asked = issuer.asked();
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert!(asked[0].header("user-agent").unwrap().starts_with("codex_cli_rs/"));

    let restricted = ["login", "--with-access-token", "-c", "forced_chatgpt_workspace_id=[\"a\", \"b\"]"];
    home.run_with(&restricted, &token).await.assert(
        1,
        &[reading, "Error logging in with access token: Login is restricted to workspace id(s) a, b."],
    );
    issuer.forget(WHOAMI);
    issuer.answer(WHOAMI, "401 Unauthorized", "");
    home.run_with(&["login", "--with-access-token"], &token).await.assert(
        1,
        &[
            reading,
            "Error logging in with access token: personal access token metadata request failed with status \
             401 Unauthorized",
        ],
    );
    for other in [secret("opaque"), format!("a.b.{}", secret("jwt"))] {
        home.run_with(&["login", "--with-access-token"], &other).await.assert(
            1,
            &[
                reading,
                "Error logging in with access token: failed to decode agent identity JWT: invalid agent identity \
                 JWT format",
            ],
        );
    }
    assert_eq!(home.auth(), Some(stored), "what was stored stays");
}

#[tokio::test]
async fn credentials_that_can_not_be_stored_are_an_error() {
    let home = Home::new();
    let reading = "Reading API key from stdin...";
    // Neither a rename nor root's rights put a file in the place of a directory.
    std::fs::create_dir(home.path().join("auth.json")).unwrap();
    let ended = home.run_with(&["login", "--with-api-key"], &secret("key")).await;
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!((ended.status.code(), lines[0]), (Some(1), reading), "{ended:?}");
    assert!(lines[1].starts_with("Error logging in: "), "{ended:?}");
    // No bus, no keyring.
    let no_keyring = ["login", "--with-api-key", "-c", "cli_auth_credentials_store=keyring"];
    let ended = home.run_with(&no_keyring, &secret("key")).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("Error logging in: failed to write OAuth tokens to keyring: "),
        "{ended:?}"
    );
}

#[tokio::test]
async fn an_ephemeral_store_says_success_and_keeps_nothing() {
    let home = Home::new();
    let ended = home
        .run_with(&["login", "--with-api-key", "-c", "cli_auth_credentials_store=ephemeral"], "s3cr3t-key")
        .await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(home.auth().is_none());
}

#[tokio::test]
async fn the_home_is_made_only_for_something_to_store_and_a_log_is_never_a_reason_to_fail() {
    let mut home = Home::new();
    std::fs::remove_dir(home.path()).unwrap();
    home.set("CODEX_HOME", "");
    home.run(&["login", "status"]).await.assert(1, &["Not logged in"]);
    home.run(&["logout"]).await.assert(0, &["Not logged in"]);
    home.run(&["login", "-c", "forced_login_method=api"]).await;
    assert!(!home.path().exists());
    assert_eq!(home.run_with(&["login", "--with-api-key"], "s3cr3t-key").await.status.code(), Some(0));
    assert!(home.auth().is_some());

    let home = Home::new();
    home.write("log", "a file where the directory should be");
    assert_eq!(home.run_with(&["login", "--with-api-key"], "s3cr3t-key").await.status.code(), Some(0));
    std::fs::set_permissions(home.path().join("auth.json"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(home.run_with(&["login", "--with-api-key"], "s3cr3t-key").await.status.code(), Some(0));
    assert_eq!(std::fs::metadata(home.path().join("auth.json")).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_named_pipe_that_nobody_serves_holds_no_command_up() {
    let pipe = |home: &Home, name: &str| {
        mknodat(CWD, home.path().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    };
    let home = Home::new();
    pipe(&home, "auth.json");
    let told = home.run(&["login", "status"]).await;
    assert!(told.stderr.starts_with("Error checking login status: failed to read CLI auth"), "{told:?}");
    assert_eq!(told.status.code(), Some(1));
    home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);

    let home = Home::new();
    std::fs::create_dir(home.path().join("log")).unwrap();
    pipe(&home, "log/codex-login.log");
    assert_eq!(home.run_with(&["login", "--with-api-key"], "s3cr3t-key").await.status.code(), Some(0));
    home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);

    let home = Home::new();
    pipe(&home, "config.toml");
    let told = home.run(&["login", "status"]).await;
    assert!(told.stderr.ends_with("config.toml: it is a named pipe\n"), "{told:?}");
    let told = home.run(&["exec-server", "--listen", "stdio"]).await;
    assert_eq!(told.status.code(), Some(0), "{told:?}");
}

#[tokio::test]
async fn the_help_shows_what_is_for_users() {
    let home = Home::new();
    let help = home.run(&["login", "--help"]).await.stdout;
    for shown in ["status", "--with-api-key", "--with-access-token", "--device-auth", "--config", "--enable"]
    {
        assert!(help.contains(shown), "{shown}: {help}");
    }
    for hidden in ["experimental", "--api-key"] {
        assert!(!help.replace("--with-api-key", "").contains(hidden), "{hidden}: {help}");
    }
}

#[tokio::test]
async fn every_shell_has_its_completions() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = home.run(&["completion", shell]).await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["exec-server", "login", "logout", "device-auth"] {
            assert!(ended.stdout.contains(word), "{shell} {word}");
        }
    }
    let default = home.run(&["completion"]).await;
    assert_eq!(default.stdout, home.run(&["completion", "bash"]).await.stdout);
}

/// Runs `codex ARGUMENTS` where the home's `auth.json` is mounted by itself, as into a container.
async fn run_mounted(home: &Home, arguments: &[&str], input: &str) -> std::process::Output {
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", "mount --bind \"$0\" \"$0\" && exec \"$@\""])
        .arg(home.path().join("auth.json"))
        .arg(codex_e2e::binary::codex())
        .args(arguments)
        .env("CODEX_HOME", home.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn an_auth_file_that_is_mounted_by_itself_is_written_in_place() {
    use std::os::unix::fs::MetadataExt as _;
    let home = Home::new();
    home.write("auth.json", json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret(&"old".repeat(100)) }));
    let inode = || std::fs::metadata(home.path().join("auth.json")).unwrap().ino();
    let before = inode();
    let signed_in = run_mounted(&home, &["login", "--with-api-key"], &secret("new")).await;
    assert!(signed_in.status.success(), "{signed_in:?}");
    assert_eq!(home.auth().unwrap()["OPENAI_API_KEY"], secret("new"));
    let signed_out = run_mounted(&home, &["logout"], "").await;
    assert!(signed_out.status.success(), "{signed_out:?}");
    assert_eq!(std::fs::read(home.path().join("auth.json")).unwrap(), b"null");
    assert_eq!(inode(), before);
    let entries = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!entries.map(|name| name.into_string().unwrap()).any(|name| name.starts_with(".auth-")));
    home.run(&["login", "status"]).await.assert(1, &["Not logged in"]);
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_anything() {
    let home = Home::new();
    let ended = home.run_with(&["login", "--with-api-key"], &format!("\u{feff}{}\n", secret("key"))).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(home.auth().unwrap()["OPENAI_API_KEY"], secret("key"));
    let marked = format!("\u{feff}{}", home.auth().unwrap());
    home.write("auth.json", marked);
    home.write("config.toml", "\u{feff}cli_auth_credentials_store = 'file'\n");
    home.write(".env", "\u{feff}SSL_CERT_FILE=/no/such/file\n");
    let status = home.run(&["login", "status"]).await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let device = home.run(&["login", "--device-auth", "--experimental_issuer", "http://127.0.0.1:1"]).await;
    assert!(device.stderr.contains("/no/such/file"), "the variable's name has no mark: {device:?}");
}

#[tokio::test]
async fn keys_of_other_programs_stop_nobody() {
    let home = Home::new();
    home.write(
        "config.toml",
        "[otel.exporter.otlp-http]\nendpoint = 'https://h'\nprotocol = 'json'\nnew = 1\n\
         [otel.exporter.otlp-http.tls]\nca-certificate = '/ca'\n\
         [otel.trace_exporter.otlp-grpc]\nendpoint = 'https://h'\n[otel.trace_exporter.otlp-grpc.tls]\nx = 1\n\
         [profiles.p.new]\nx = 1\n[shell_environment_policy.new]\nx = 1\n[projects.'/p']\nnew = { x = 1 }\n",
    );
    let ended = home.run_with(&["login", "--with-api-key"], &secret("key")).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
