//! How `-c key=value` is read and merged.

use proptest::prelude::*;

use super::*;

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn parsed(dash_c: &[&str]) -> Table {
    Overrides::parse(&list(dash_c), &[], &[]).unwrap().table().clone()
}

fn refusal(dash_c: &[&str]) -> String {
    Overrides::parse(&list(dash_c), &[], &[]).unwrap_err().to_string()
}

fn toml(text: &str) -> Table {
    toml::from_str(text).unwrap()
}

#[test]
fn values_are_toml_or_else_strings_without_outer_quotes() {
    for (argument, wanted) in [
        ("file", "'file'"),
        (r#""file""#, "'file'"),
        ("'file'", "'file'"),
        (r#""file" # note"#, "'file'"),
        (r#""file"#, "'file'"),
        ("file # c", "'file # c'"),
        (r#""fi"le"#, r#"'fi"le'"#),
        ("bogus=1", "'bogus=1'"),
        ("[1", "'[1'"),
        ("", "''"),
        ("   ", "''"),
        ("5", "5"),
        ("true", "true"),
        ("[1, 2]", "[1, 2]"),
        ("{a=1}", "{a=1}"),
        ("1.5", "1.5"),
        ("'\"x\"'", "'\"x\"'"),
        ("1\nother = 2", "\"1\\nother = 2\""),
    ] {
        assert_eq!(
            parsed(&[&format!("k={argument}")]),
            toml(&format!("value = {wanted}").replace("value", "k")),
            "{argument}"
        );
    }
}

#[test]
fn keys_are_split_at_every_dot_and_nothing_else() {
    for (arguments, wanted) in [
        (&["a=1"][..], "a = 1"),
        (&["  a  =  1  "], "a = 1"),
        (&["a.b.c=1"], "a.b.c = 1"),
        (&["a..b=1"], "a.''.b = 1"),
        (&["\"a.b\"=1"], "'\"a'.'b\"' = 1"),
        (&["a.=1"], "a.'' = 1"),
        (&["a=1", "a.b=2"], "a.b = 2"),
        (&["a.b=2", "a=1"], "a = 1"),
        (&["a.x=1", "a.y=2"], "a = {x=1, y=2}"),
        (&["a=1", "a=2"], "a = 2"),
        (&["a={x=1}", "a={y=2}"], "a = {y=2}"),
        (&["use_legacy_landlock=true"], "features.use_legacy_landlock = true"),
        (
            &["projects={\"/srv/a.b\"={trust_level=\"trusted\"}}"],
            "[projects.'/srv/a.b']\ntrust_level = 'trusted'",
        ),
    ] {
        assert_eq!(parsed(arguments), toml(wanted), "{arguments:?}");
    }
}

#[test]
fn what_is_no_assignment_is_refused_in_the_words_of_released_programs() {
    for (arguments, wanted) in [
        (&["noequals"][..], "Invalid override (missing '='): noequals"),
        (&[""], "Invalid override (missing '='): "),
        (&["=x"], "Empty key in override: =x"),
        (&["  = x"], "Empty key in override:   = x"),
        (&["a=1", "second", "=third"], "Invalid override (missing '='): second"),
    ] {
        assert_eq!(refusal(arguments), wanted, "{arguments:?}");
    }
    let deep = format!("{}=1", "a.".repeat(100_000));
    assert!(refusal(&[&deep]).starts_with("Key of more than 64 parts in override: a.a."));
}

#[test]
fn features_come_after_every_override_and_disable_comes_last() {
    let parse = |dash_c: &[&str], enable: &[&str], disable: &[&str]| {
        Overrides::parse(&list(dash_c), &list(enable), &list(disable)).map(|o| o.table().clone())
    };
    for (dash_c, enable, disable, wanted) in [
        (&[][..], &["goals"][..], &[][..], "features.goals = true"),
        (&[], &[], &["goals"], "features.goals = false"),
        (&[], &["goals"], &["goals"], "features.goals = false"),
        (&["features.goals=false"], &["goals"], &[], "features.goals = true"),
        (
            &["features={nosuch=true}"],
            &["goals"],
            &["apps"],
            "features = {nosuch=true, goals=true, apps=false}",
        ),
    ] {
        assert_eq!(parse(dash_c, enable, disable), Ok(toml(wanted)));
    }
    assert_eq!(parse(&["noequals"], &["apps"], &["F"]).unwrap_err().to_string(), "Unknown feature flag: F");
}

proptest! {
    #[test]
    fn no_argument_makes_the_parser_panic(text in "\\PC*") {
        let _ = Overrides::parse(&[text], &[], &[]);
    }

    #[test]
    fn near_misses_of_assignments_do_not_make_it_panic(text in "[a-c. ]{0,6}=?[\\[\\]{}=\"'#,.0-9a-c\\n -]{0,12}") {
        if let Ok(overrides) = Overrides::parse(std::slice::from_ref(&text), &[], &[]) {
            prop_assert_eq!(overrides.table().len(), 1);
        } else {
            let (key, _) = text.split_once('=').unwrap_or(("", ""));
            prop_assert_eq!(key.trim(), "");
        }
    }

    #[test]
    fn a_plain_word_is_a_string(word in "[a-z][a-z_-]{0,20}") {
        prop_assume!(!["true", "false", "inf", "nan"].contains(&word.as_str()));
        let overrides = Overrides::parse(&[format!("k={word}")], &[], &[]).unwrap();
        prop_assert_eq!(overrides.table().get("k"), Some(&Value::String(word)));
    }
}

#[test]
fn an_override_that_is_not_understood_and_may_say_who_may_connect_is_found() {
    let unclear =
        |text: &str| Overrides::parse(&list(&["model=x", text]), &[], &[]).unwrap().unclear_access();
    for (text, problem) in [
        ("exec_server=ws_auth=capability-token", "expected a table"),
        ("exec_server ={ws_auth=\"capability-token\"", "expected a table"),
        ("exec_server=[]", "expected a table"),
        ("exec_server=5", "expected a table"),
        ("exec_server.ws-auth=capability-token", "unknown configuration field `exec_server.ws-auth`"),
        ("exec-server.listen=stdio", "unknown configuration field `exec-server`"),
        ("exec_server.\"ws_auth\"=none", "unknown configuration field"),
        ("exec_server.ws_auth=capability-tokem", "unknown variant `capability-tokem`"),
        ("exec_server.listen=5", "invalid type"),
        ("ws_auth=capability-token", "unknown configuration field `ws_auth`"),
    ] {
        let sentence = unclear(text).map(|unclear| unclear.to_string()).unwrap_or_default();
        assert!(sentence.contains(problem) && sentence.contains(&format!("{text:?}")), "{text}: {sentence}");
        assert!(sentence.contains("-c exec_server.ws_auth=MODE") && !sentence.contains('\n'), "{sentence}");
    }
    for text in [
        "exec_server.ws_auth=capability-token",
        "exec_server={listen=\"stdio\"}",
        "exec_server={}",
        "exec_server.limits.nosuch=1",
        "exec_server.nosuch=1",
        "nosuch=1",
        "nosuch.listen=1",
        "model=ws_auth",
        "developer_instructions=tell me of ws_auth",
    ] {
        assert_eq!(unclear(text), None, "{text}");
    }
}
