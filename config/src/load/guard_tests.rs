//! What can't be read or understood may say who is allowed to connect: then a server does not start.

use super::*;
use crate::testing::{Machine, pipe};

#[test]
fn a_server_starts_on_what_can_be_read_but_never_without_a_guard_that_may_be_there() {
    let settings = |machine: &Machine, dash_c: &[&str]| load_exec_server(&machine.sources(dash_c));
    let bad_elsewhere =
        Machine::with("cli_auth_credentials_store = 'sys'\n[exec_server]\nlimits.sessions = 3\n");
    assert_eq!(settings(&bad_elsewhere, &[]).unwrap().limits.given(), [("sessions", 3)]);
    assert_eq!(
        settings(&bad_elsewhere, &["exec_server.limits.sessions=4"]).unwrap().limits.given(),
        [("sessions", 4)]
    );
    let broken = Machine::with("[exec_server]\nlimits.sessions = 3\nmodel = \n");
    assert_eq!(settings(&broken, &[]), Some(ExecServerConfig::default()));
    for guarded in [
        "exec_server.ws_auth = 'capability-token'\nmodel = \n",
        "[exec_server]\nws_auth = 'capability-tokem'\n",
        "[exec_server]\nws_token_file = 5\n",
    ] {
        assert_eq!(settings(&Machine::with(guarded), &[]), None, "{guarded}");
    }
    let managed = Machine::new();
    managed.write("etc/managed_config.toml", "[exec_server]\nws_auth = capability-token\n");
    assert_eq!(settings(&managed, &[]), None);
    let bad_limit = Machine::with("exec_server.limits.sessions = 0");
    assert_eq!(settings(&bad_limit, &[]), Some(ExecServerConfig::default()));
    // A private socket must not turn into an open port.
    let bad_limit = Machine::with("[exec_server]\nlisten = 'unix:///run/x'\nlimits.sessions = 0");
    assert_eq!(settings(&bad_limit, &[]).unwrap().listen.as_deref(), Some("unix:///run/x"));
    for hidden in ["[exec_server]\nlisten = 'unix:///run/x'\nmodel = ", "exec_server.listen = 5"] {
        assert_eq!(settings(&Machine::with(hidden), &[]), None, "{hidden}");
    }
    let of_others = Machine::with("notify = ['listen']\nmodel = \n");
    assert_eq!(settings(&of_others, &[]), Some(ExecServerConfig::default()));
}

#[test]
fn an_endless_file_is_not_read_to_its_end() {
    let machine = Machine::new();
    std::os::unix::fs::symlink("/dev/zero", machine.root.join("home/config.toml")).unwrap();
    assert!(machine.error(&[]).contains("it is larger than"));
    assert_eq!(load_exec_server(&machine.sources(&[])), None);
}

#[test]
fn a_file_that_is_there_but_gives_no_text_may_hold_a_guard() {
    let guard = "[exec_server]\nws_auth = 'capability-token'\n";
    let wide = |bytes: fn(u16) -> [u8; 2]| guard.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let little_with_mark = [&b"\xff\xfe"[..], &wide(u16::to_le_bytes)].concat();
    let big_with_mark = [&b"\xfe\xff"[..], &wide(u16::to_be_bytes)].concat();
    let large = [vec![b'#'; 8 << 20], guard.as_bytes().to_vec()].concat();
    let latin = b"# \xe9\nmodel = 'x'\n".to_vec();
    let escaped = b"[\"exec\\u005fserver\"]\n\"ws\\u005fauth\" = 'capability-token'\nmodel = \n".to_vec();
    let texts = [
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
        little_with_mark,
        big_with_mark,
        large,
        latin,
        escaped,
    ];
    for layer in ["etc/config.toml", "home/config.toml", "etc/managed_config.toml"] {
        let refuses = |put: &dyn Fn(&Path)| {
            let machine = Machine::new();
            put(&machine.root.join(layer));
            assert!(machine.load(&[]).is_err());
            assert_eq!(load_exec_server(&machine.sources(&[])), None, "{layer}");
        };
        for text in &texts {
            refuses(&|path| std::fs::write(path, text).unwrap());
        }
        refuses(&pipe);
        refuses(&|path| std::fs::create_dir(path).unwrap());
        refuses(&|path| std::os::unix::fs::symlink(path, path).unwrap());
        refuses(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
        // Unless tests run as root, who may read everything.
        let machine = Machine::with("");
        let path = machine.root.join("home/config.toml");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        if std::fs::read(&path).is_err() {
            assert_eq!(load_exec_server(&machine.sources(&[])), None);
        }
    }
    // What is surely not there says nothing.
    let elsewhere = Sources { home: "/dev/null".into(), ..Machine::new().sources(&[]) };
    assert_eq!(load_exec_server(&elsewhere), Some(ExecServerConfig::default()));
}

#[test]
fn what_is_no_table_never_replaces_the_settings_of_the_server() {
    let guard = "exec_server.ws_auth = 'capability-token'";
    for other in ["'x'", "5", "[]", "['unix:///x']", "[{}]"] {
        let machine = Machine::with(&format!("exec_server = {other}"));
        machine.write("etc/config.toml", guard);
        assert!(machine.error(&[]).contains("expected a table"), "{other}");
        assert_eq!(load_exec_server(&machine.sources(&[])), None, "{other}");
        // A table above it would hide it.
        machine.write("etc/managed_config.toml", "exec_server.limits.sessions = 1");
        assert_eq!(load_exec_server(&machine.sources(&[])), None, "{other}");
        let machine = Machine::with(guard);
        let override_ = format!("exec_server={other}");
        assert!(machine.error(&[&override_]).contains("expected a table"), "{other}");
        assert_eq!(load_exec_server(&machine.sources(&[&override_])), None, "{other}");
    }
}

#[test]
fn a_key_that_may_be_meant_for_a_guard_is_told_apart_from_other_unknown_ones() {
    let unclear = |text: &str| Machine::with(text).config().access_unclear;
    for text in ["[exec_server]\nws-auth = 'none'", "exec_server.ws_auht = 1", "ws_auth = 1", "[exec-server]"]
    {
        let sentence = unclear(text).unwrap_or_default();
        assert!(sentence.contains("unknown configuration field `"), "{text}: {sentence}");
    }
    for text in
        ["nosuch = 'ws_auth'", "exec_server.limits.nosuch = 1", "exec_server.nosuch = 1", "listen = 1"]
    {
        assert_eq!(unclear(text), None, "{text}");
    }
}
