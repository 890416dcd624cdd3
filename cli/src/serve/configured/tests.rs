//! What config.toml says of a listening server, against its flags and defaults.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Parser;
use codex_config::{Overrides, Sources};

use super::*;

/// A limit as the number that sets it.
trait Plain {
    fn plain(&self) -> u64;
}

impl Plain for usize {
    fn plain(&self) -> u64 {
        *self as u64
    }
}

impl Plain for u32 {
    fn plain(&self) -> u64 {
        u64::from(*self)
    }
}

impl Plain for u64 {
    fn plain(&self) -> u64 {
        *self
    }
}

impl Plain for Duration {
    fn plain(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap()
    }
}

/// Every field of the server's limits with its default. A field that is missing here does not compile.
fn defaults() -> Vec<(&'static str, u64)> {
    macro_rules! fields {
        ($($field:ident)*) => {{
            let Limits { $($field),* } = Limits::default();
            vec![$((stringify!($field), $field.plain())),*]
        }};
    }
    fields! {
        connections sessions processes_per_session retained_output_bytes output_chunk_bytes frame_bytes message_bytes
        line_bytes http_head_bytes handshake_time outgoing_bytes requests_in_flight in_flight_bytes answer_bytes concurrent_requests
        queued_write_bytes queued_writes remembered_write_ids detached_time hold_time ended_process_time challenge_time
        ping_interval silence_time file_handles handle_id_bytes read_file_bytes block_bytes watched_paths walk_depth
        walk_directories walk_entries walk_result_bytes file_helpers idle_file_helpers sandbox_entries sandbox_scanned_names
        sandbox_matches http_body_bytes http_streams http_redirects
        network_connections network_head_bytes network_head_time network_connect_time network_questions
        stream_incoming_bytes stream_outgoing_bytes stream_message_bytes
        relay_streams relay_handshakes relay_failures relay_failure_pause relay_assembled_bytes longest_wait
    }
}

#[test]
fn the_configuration_names_every_limit_of_the_server_and_no_other() {
    let names: Vec<&str> = defaults().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, codex_config::Limits::NAMES);
    let mut limits = Limits::default();
    for (name, value) in defaults() {
        limits.set(name, &value.to_string()).unwrap();
    }
    assert_eq!(limits, Limits::default());
}

/// `CODEX_UPDATE_DOCS=1 cargo test -p codex-cli` rewrites the table.
#[test]
fn the_table_of_limits_in_docs_is_current_and_every_default_is_in_its_range() {
    let schema = codex_config::schema();
    let described = &schema.as_value()["definitions"]["Limits"]["properties"];
    let mut table = String::from("\n| limit | default | range | meaning |\n| --- | --- | --- | --- |\n");
    for (name, default) in defaults() {
        let limit = &described[name];
        let (least, most) = (limit["minimum"].as_u64().unwrap(), limit["maximum"].as_u64().unwrap());
        assert!((least..=most).contains(&default), "{name}");
        let meaning = limit["description"].as_str().unwrap();
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
    assert_eq!((limits.sessions, limits.hold_time), (7, Duration::from_millis(5)));
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
