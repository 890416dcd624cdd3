//! What may say who is allowed to connect, and can't be read or understood, keeps a listening server from starting.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::config::{BRIEFLY, Home, texts};

#[test]
fn a_guard_that_cant_be_read_keeps_the_server_from_starting() {
    let home = Home::with("[exec_server]\nws_auth = 'capability-token'\nmodel = \n");
    let (code, stdout, stderr) = home.run(&["exec-server"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("Error: $/config.toml:3:9: ") && stderr.contains("ws_auth"), "{stderr}");
    let (code, _, stderr) = home.run(&["exec-server", "--listen", BRIEFLY]);
    assert_eq!(code, Some(0), "{stderr}");
    let (code, _, stderr) = Home::new().run(&["exec-server", "-c", "exec_server.ws_auth:capability-token"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("Error: Invalid override (missing '='): exec_server.ws_auth"), "{stderr}");
}

#[test]
fn a_file_without_a_text_keeps_the_server_from_starting_unless_flags_decide() {
    let text = "[exec_server]\nws_auth = 'capability-token'\n";
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (closed, pipe, bytes, looped) = (Home::with(text), Home::new(), Home::new(), Home::new());
    let file = |home: &Home| home.path().join("config.toml");
    std::fs::set_permissions(file(&closed), Permissions::from_mode(0o000)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, file(&pipe), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    std::fs::write(file(&bytes), wide).unwrap();
    std::os::unix::fs::symlink("config.toml", file(&looped)).unwrap();
    for home in [closed, pipe, bytes, looped] {
        // As root, tests may read every file.
        if std::fs::metadata(file(&home)).is_ok_and(|file| file.permissions().mode() & 0o777 == 0)
            && rustix::process::geteuid().is_root()
        {
            continue;
        }
        let (code, stdout, stderr) = home.run(&["exec-server"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.starts_with("Error: ") && stderr.contains("may hide ws_auth"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        let (code, _, stderr) = home.run(&["exec-server", "--listen", BRIEFLY]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.starts_with("warning: ") && stderr.lines().count() == 1, "{stderr}");
    }
}

#[test]
fn a_home_directory_that_cant_be_looked_at_keeps_the_server_from_starting() {
    let home = Home::new();
    std::os::unix::fs::symlink("loop", home.path().join("loop")).unwrap();
    let run = |arguments: &[&str]| {
        texts(
            &home.command(arguments).env("CODEX_HOME", home.path().join("loop")).output().unwrap(),
            &home.path(),
        )
    };
    let (code, stdout, stderr) = run(&["exec-server"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("which can't be used") && stderr.contains("may hold ws_auth"), "{stderr}");
    let (code, _, stderr) = run(&["exec-server", "--listen", BRIEFLY]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.starts_with("WARNING: proceeding, even though"), "{stderr}");
}

#[test]
fn a_key_or_an_override_that_is_meant_for_a_guard_is_not_passed_over() {
    for text in [
        "exec_server=ws_auth=capability-token",
        "exec_server ={ws_auth=\"capability-token\"",
        "exec_server.ws-auth=capability-token",
        "exec_server=[]",
        "ws_auth=capability-token",
    ] {
        let (code, stdout, stderr) = Home::new().run(&["exec-server", "-c", text]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{text}: {stderr}");
        assert!(
            stderr.starts_with("Error: ")
                && stderr.contains(&format!("{text:?}"))
                && stderr.lines().count() == 1,
            "{text}: {stderr}"
        );
        let (code, _, stderr) = Home::new().run(&["exec-server", "-c", text, "--listen", BRIEFLY]);
        assert_eq!(code, Some(0), "{text}: {stderr}");
    }
    for text in ["exec_server.ws-auth:capability-token", "exec_server:{ws_auth:1}"] {
        let (code, _, stderr) = Home::new().run(&["exec-server", "-c", "x", "-c", text]);
        assert_eq!((code, stderr), (Some(1), format!("Error: Invalid override (missing '='): {text}\n")));
    }
    for text in ["[exec_server]\nws-auth = 'capability-token'", "[exec-server]\nws_auth = 'none'"] {
        let (code, stdout, stderr) = Home::with(text).run(&["exec-server"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{text}: {stderr}");
        assert!(
            stderr.starts_with("Error: $/config.toml:") && stderr.contains("ws_auth or listen"),
            "{stderr}"
        );
    }
}
