//! What config.toml says of a listening server, against its flags and defaults.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Parser;
use codex_config::{Overrides, Sources};

use super::*;

/// `CODEX_UPDATE_DOCS=1 cargo test -p codex-cli` rewrites the table.
#[test]
fn the_table_of_limits_in_docs_is_current() {
    let mut table = String::from("\n| limit | default | range | meaning |\n| --- | --- | --- | --- |\n");
    for limit in Limits::DECLARED {
        let codex_limits::Declared { name, default, least, most, meaning, .. } = limit;
        writeln!(table, "| `{name}` | {default} | {least} to {most} | {meaning} |").unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
    let page = std::fs::read_to_string(path).unwrap();
    let start = page.find("-p codex-cli -->\n").unwrap() + "-p codex-cli -->\n".len();
    let end = page.find("<!-- end of limits -->").unwrap();
    let current = format!("{}{table}\n{}", &page[..start], &page[end..]);
    if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    } else {
        assert!(page == current, "docs/config.md is stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-cli");
    }
}

#[derive(Parser)]
struct Flags {
    /// Its flags exclude some of the server's.
    #[command(flatten)]
    _remote: crate::remote::RemoteArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What the server is told by these flags and these overrides of `[exec_server]`.
fn together(flags: &[&str], settings: &[&str]) -> (ServeArgs, Limits) {
    let settings: Vec<String> = settings.iter().map(|setting| format!("exec_server.{setting}")).collect();
    let nowhere = std::path::PathBuf::from("/no/such/directory");
    let config = codex_config::load(&Sources {
        home: nowhere.clone(),
        system: nowhere.clone(),
        cwd: nowhere,
        overrides: Overrides::parse(&settings, &[], &[]).unwrap(),
        strict: true,
    });
    let settings = config.unwrap().exec_server;
    let limits = limits(&settings).unwrap();
    let flags = Flags::parse_from(["serve"].iter().chain(flags)).serve;
    (flags.or(settings), limits)
}

#[test]
fn a_flag_beats_the_key_of_its_name() {
    let settings = &[
        "listen=unix:///s",
        "leftovers=kill",
        "concurrent_requests=3",
        "limits.sessions=7",
        "limits.hold_time=5",
    ];
    let (args, limits) = together(&[], settings);
    assert_eq!(args.listen.as_deref(), Some("unix:///s"));
    assert_eq!((args.leftovers, args.concurrent_requests), (Some(LeftoversArg::Kill), Some(3)));
    assert_eq!((limits.session.sessions, limits.process.hold_time), (7, Duration::from_millis(5)));
    let flags = &["--listen", "ws://127.0.0.1:1", "--leftovers", "keep", "--concurrent-requests", "9"];
    let (args, _) = together(flags, settings);
    assert_eq!(args.listen.as_deref(), Some("ws://127.0.0.1:1"));
    assert_eq!((args.leftovers, args.concurrent_requests), (Some(LeftoversArg::Keep), Some(9)));
}

#[test]
fn the_ways_to_connect_are_filled_without_mixing_two_kinds() {
    let token = &["ws_auth=capability-token", "ws_token_file=/t"][..];
    let signed = &[
        "ws_auth=signed-bearer-token",
        "ws_shared_secret_file=/s",
        "ws_issuer=i",
        "ws_max_clock_skew_seconds=5",
    ][..];
    let told = |flags: &[&str], settings: &[&str]| {
        let (args, _) = together(flags, settings);
        let path = |path: Option<std::path::PathBuf>| path.map(|path| path.display().to_string());
        (
            args.ws_auth,
            path(args.ws_token_file),
            args.ws_token_sha256,
            path(args.ws_shared_secret_file),
            args.ws_issuer,
        )
    };
    let text = |text: &str| Some(text.to_owned());
    use WsAuthArg::{CapabilityToken, None as Open, SignedBearerToken};
    for (flags, settings, wanted) in [
        (&[][..], token, (Some(CapabilityToken), text("/t"), None, None, None)),
        (&[], signed, (Some(SignedBearerToken), None, None, text("/s"), text("i"))),
        (&["--ws-auth", "none"], token, (Some(Open), None, None, None, None)),
        (&["--ws-auth", "none"], signed, (Some(Open), None, None, None, None)),
        (&["--ws-token-sha256", "ab"], token, (Some(CapabilityToken), None, text("ab"), None, None)),
        (&["--ws-auth", "capability-token"], token, (Some(CapabilityToken), text("/t"), None, None, None)),
        (&["--ws-issuer", "j"], signed, (Some(SignedBearerToken), None, None, text("/s"), text("j"))),
        (
            &["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", "/x"],
            token,
            (Some(SignedBearerToken), None, None, text("/x"), None),
        ),
        (&["--listen", "stdio"], token, (None, None, None, None, None)),
    ] {
        assert_eq!(told(flags, settings), wanted, "{flags:?} {settings:?}");
    }
}

#[test]
fn only_a_mode_or_stdio_decides_who_may_connect() {
    let decides = |flags: &[&str]| Flags::parse_from(["serve"].iter().chain(flags)).serve.decide_access();
    assert!(
        decides(&["--ws-auth", "none"])
            && decides(&["--listen", "stdio"])
            && decides(&["--listen", "stdio://"])
    );
    assert!(
        !decides(&[]) && !decides(&["--listen", "ws://127.0.0.1:0"]) && !decides(&["--ws-token-file", "/t"])
    );
}
