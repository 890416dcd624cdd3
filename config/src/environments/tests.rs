//! Both files: what they may say, and that changes leave the rest as it was.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// As the client checks it, as far as these tests need it.
fn check_url(url: &str, with_token: bool) -> Result<(), String> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        "wss" => Ok(()),
        "ws" if !with_token || url.contains("127.0.0.1") => Ok(()),
        "ws" => Err("a bearer token is only sent over wss:// or to a loopback address".into()),
        other => Err(format!("the scheme {other:?} is not ws or wss")),
    }
}

fn load_text(shared: &str, variable: Option<&str>) -> Result<Environments, String> {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(SHARED_FILE), shared).unwrap();
    load(Some(home.path()), variable, &check_url)
        .map_err(|error| error.to_string().replace(&format!("{}/", home.path().display()), ""))
}

#[test]
fn every_key_of_the_released_file_is_understood() {
    let found = load_text(
        r#"
        default = "box"
        include_local = false
        [[environments]]
        id = "box"
        url = "wss://box.test/path?x=1"
        connect_timeout_sec = 2.5
        initialize_timeout_sec = 3
        auth_bearer_token = "sesame"
        skills = { required = true }
        [[environments]]
        id = "Pipe_2"
        program = "ssh"
        args = ["box", "codex"]
        env = { A = "1" }
        cwd = "below"
        initialize_timeout_sec = 0
        "#,
        Some("ws://127.0.0.1:1"),
    )
    .unwrap();
    assert_eq!((found.include_local, &found.in_use), (false, &InUse::Named("box".into())));
    assert_eq!(found.ids().collect::<Vec<_>>(), ["box", "Pipe_2"], "the variable is not read beside a file");
    let Place::Url { url, bearer, connect_time } = &found.list[0].place else { panic!("{found:?}") };
    assert_eq!((url.as_str(), bearer.as_ref().unwrap().expose()), ("wss://box.test/path?x=1", "sesame"));
    assert_eq!(connect_time.unwrap().as_millis(), 2500);
    assert_eq!(found.list[0].initialize_time.unwrap().as_secs(), 3);
    let Place::Program { program, args, env, cwd } = &found.list[1].place else { panic!("{found:?}") };
    assert_eq!((program.to_str().unwrap(), args.len(), env["A"].as_str()), ("ssh", 2, "1"));
    assert!(cwd.as_ref().unwrap().is_absolute() && cwd.as_ref().unwrap().ends_with("below"));
    assert!(!format!("{found:?}").contains("sesame"));
}

#[test]
fn what_can_not_be_is_refused_with_the_place_and_without_secrets() {
    let entry = |rest: &str| format!("[[environments]]\nid = \"a\"\n{rest}");
    let url = |rest: &str| entry(&format!("url = \"wss://h\"\n{rest}"));
    for (text, words) in [
        // The form: with line and column.
        ("nosuch = 1".to_owned(), "environments.toml:1:1: unknown field `nosuch`"),
        (entry("nosuch = 1"), "environments.toml:3:1: unknown field `nosuch`"),
        (url("skills = { nosuch = 1 }"), "unknown field `nosuch`"),
        ("include_local = 3".into(), "environments.toml:1:17: invalid type"),
        ("[[environments]]\nurl = \"wss://h\"".into(), "missing field `id`"),
        ("default = ".into(), "environments.toml:1:"),
        (url("auth_bearer_token = 5551234"), "auth_bearer_token takes a string, no integer"),
        // The meaning: with the entry.
        (entry(""), "\"a\": it has neither url nor program"),
        (url("program = \"p\""), "\"a\": it has both url and program"),
        (url("args = []"), "\"a\": args goes only with program"),
        (url("env = {}"), "env goes only with program"),
        (url("cwd = \"/\""), "cwd goes only with program"),
        (entry("program = \"p\"\nconnect_timeout_sec = 1"), "connect_timeout_sec goes only with url"),
        (entry("program = \"p\"\nauth_bearer_token = \"sesame\""), "auth_bearer_token goes only with url"),
        (entry("program = \"\""), "program is empty"),
        (entry("url = \" \""), "url is empty"),
        (entry("url = \"http://h\""), "\"http\" is not ws or wss"),
        (entry("url = \"ws://h\"\nauth_bearer_token = \"sesame\""), "only sent over wss://"),
        (url("auth_bearer_token = \"\""), "auth_bearer_token is empty"),
        (
            url("connect_timeout_sec = -1"),
            "connect_timeout_sec is -1; it takes a number of seconds, 0 or more",
        ),
        (url("initialize_timeout_sec = nan"), "initialize_timeout_sec is NaN"),
        (format!("{}\n{}", url(""), url("")), "two environments \"a\""),
        (url("").replace("\"a\"", "\"local\""), "\"local\" is no name"),
        (url("").replace("\"a\"", "\"none\""), "\"none\" is no name"),
        (url("").replace("\"a\"", "\"ä\""), "is no name"),
        (url("").replace("\"a\"", &format!("{:?}", "x".repeat(65))), "is no name"),
        (
            format!("default = \"b\"\n{}", url("")),
            "default is \"b\", which is not configured; configured are: a",
        ),
        (
            "default = \"local\"\ninclude_local = false".into(),
            "default is \"local\", which is not configured",
        ),
    ] {
        let error = load_text(&text, None).unwrap_err();
        assert!(error.contains(words) && error.contains("environments.toml"), "{text:?}: {error}");
        assert!(!error.contains("sesame") && !error.contains("5551234"), "{error}");
    }
}

#[test]
fn the_variable_counts_where_there_is_no_file() {
    let of = |variable: Option<&str>| load(None, variable, &check_url);
    for (variable, in_use, local) in [
        (None, InUse::Local, true),
        (Some("  "), InUse::Local, true),
        (Some(" ws://127.0.0.1:1/x?y "), InUse::Named("remote".into()), false),
    ] {
        let found = of(variable).unwrap();
        assert_eq!((found.in_use, found.include_local), (in_use, local), "{variable:?}");
    }
    for none in ["none", "NONE", " None\n"] {
        assert!(matches!(of(Some(none)).unwrap().in_use, InUse::None(_)), "{none:?}");
    }
    let error = of(Some("http://h")).unwrap_err().to_string();
    assert!(error.contains("CODEX_EXEC_SERVER_URL can't be used"), "{error}");
    assert!(matches!(load_text("default = \"none\"", None).unwrap().in_use, InUse::None(_)));
    assert!(matches!(load_text("include_local = false", None).unwrap().in_use, InUse::None(_)));
}

#[test]
fn changes_keep_comments_and_the_shared_file_holds_only_what_released_clients_know() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let before = "# mine\ninclude_local = true # yes\n\n# the box\n[[environments]]\nid = \"box\"   # why not\nurl = \"wss://box\"\n";
    std::fs::write(at(SHARED_FILE), before).unwrap();
    std::fs::set_permissions(at(SHARED_FILE), std::fs::Permissions::from_mode(0o640)).unwrap();
    let url = |url: &str| Place::Url { url: url.into(), bearer: Some("sesame".into()), connect_time: None };
    let change = |change: &dyn Fn(&mut Edited) -> Result<(), EditError>| {
        edit(home.path(), &check_url, |edited| change(edited)).map_err(|error| error.to_string())
    };
    change(&|edited| edited.add("near", &url("ws://127.0.0.1:2"))).unwrap();
    change(&|edited| {
        let path = "/run/x.sock".into();
        edited.add("sock", &Place::Unix { path, token_file: None })
    })
    .unwrap();
    change(&|edited| edited.set_in_use("sock")).unwrap();
    change(&|edited| edited.pause("box", true)).unwrap();
    let shared = std::fs::read_to_string(at(SHARED_FILE)).unwrap();
    assert!(shared.starts_with(before), "{shared}");
    assert!(
        shared.contains("id = \"near\"") && !shared.contains("sock") && !shared.contains("paused"),
        "{shared}"
    );
    assert_eq!(at(SHARED_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(at(OWN_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let found = load(Some(home.path()), None, &check_url).unwrap();
    assert_eq!(found.in_use, InUse::Named("sock".into()));
    assert!(found.get("box").unwrap().paused && !found.get("near").unwrap().paused);

    for (refused, words) in [
        (change(&|edited| edited.add("box", &url("wss://x"))), "\"box\" already"),
        (change(&|edited| edited.add("none", &url("wss://x"))), "is no name"),
        (change(&|edited| edited.add("far", &url("ws://far.test"))), "only sent over wss://"),
        (
            change(&|edited| edited.remove("nosuch")),
            "no environment \"nosuch\"; there are: local, box, near, sock",
        ),
        (change(&|edited| edited.set_in_use("nosuch")), "no environment \"nosuch\""),
        (change(&|edited| edited.pause("nosuch", true)), "no environment \"nosuch\""),
    ] {
        let error = refused.unwrap_err();
        assert!(error.contains(words) && !error.contains("sesame"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(at(SHARED_FILE)).unwrap(), shared, "what is refused changes nothing");

    change(&|edited| edited.set_in_use("near")).unwrap();
    assert_eq!(load(Some(home.path()), None, &check_url).unwrap().in_use, InUse::Named("near".into()));
    change(&|edited| edited.remove("near")).unwrap();
    change(&|edited| edited.remove("sock")).unwrap();
    change(&|edited| edited.pause("box", false)).unwrap();
    assert_eq!(
        std::fs::read_to_string(at(SHARED_FILE)).unwrap(),
        before,
        "what was added is gone without a trace"
    );
    assert_eq!(std::fs::read_to_string(at(OWN_FILE)).unwrap().trim(), "");
}

#[test]
fn an_array_of_inline_tables_and_a_link_stay_what_they_are() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().join("dotfiles.toml");
    std::fs::write(&real, "environments = [{ id = \"a\", url = \"wss://a\" }]\n").unwrap();
    std::os::unix::fs::symlink(&real, home.path().join(SHARED_FILE)).unwrap();
    let program = |program: &str| Place::Program {
        program: program.into(),
        args: vec!["x y".into()],
        env: [("A".to_owned(), "1".to_owned())].into(),
        cwd: None,
    };
    edit(home.path(), &check_url, |edited| edited.add("b", &program("p"))).unwrap();
    assert!(home.path().join(SHARED_FILE).is_symlink());
    let found = load(Some(home.path()), None, &check_url).unwrap();
    assert_eq!(found.get("b").unwrap().place, program("p"));
    edit(home.path(), &check_url, |edited| edited.remove("a")).unwrap();
    assert_eq!(load(Some(home.path()), None, &check_url).unwrap().ids().collect::<Vec<_>>(), ["local", "b"]);
}
