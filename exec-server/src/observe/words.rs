//! What a request is about, in words that may be recorded: no argument, no variable, no content, no query of a URL.

use std::borrow::Cow;

use codex_exec_protocol::WirePath;
use codex_observe::{args_hash, cut};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

/// Requests that only go on with an act that is recorded, or ask whether somebody is there.
const NO_ACTS: [&str; 8] = [
    "environment/status",
    "fs/close",
    "fs/readBlock",
    "fs/writeBlock",
    "tcp/close",
    "tcp/read",
    "tcp/shutdown",
    "tcp/write",
];
/// Requests that look at a program: acts only where the program is another session's, or only its log is left.
const LOOKS: [&str; 2] = ["process/read", "process/wait"];

/// What a request is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// How the client calls itself, with `initialize`.
    pub(crate) client: Option<String>,
    /// The program's id.
    pub(crate) process: Option<String>,
    /// The session that has the program, where it is not the connection's.
    pub(crate) of_session: Option<String>,
    /// The log on disk.
    pub(crate) log: Option<String>,
    /// The program that is started, as the client names it.
    pub(crate) program: Option<String>,
    /// How many arguments it gets.
    pub(crate) args: Option<usize>,
    /// Their hash.
    pub(crate) args_sha256: Option<String>,
    /// Where it starts.
    pub(crate) directory: Option<String>,
    /// The signal that it is sent.
    pub(crate) signal: Option<String>,
    /// Whether the act is under a sandbox.
    pub(crate) sandboxed: bool,
    /// The file that is used.
    pub(crate) path: Option<String>,
    /// Where a copy, a link or a moved file goes.
    pub(crate) destination: Option<String>,
    /// What is connected to: a host and port, or the origin of a URL.
    pub(crate) target: Option<String>,
}

/// Members of params that mean the same with every method. Each is read by itself, so that one of another type hides no other.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow)]
    client_name: Option<&'a RawValue>,
    #[serde(borrow)]
    process_id: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    resume_session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    log_id: Option<&'a RawValue>,
    #[serde(borrow)]
    argv: Option<&'a RawValue>,
    #[serde(borrow)]
    cwd: Option<&'a RawValue>,
    #[serde(borrow)]
    signal: Option<&'a RawValue>,
    #[serde(borrow)]
    sandbox: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    #[serde(borrow)]
    source_path: Option<&'a RawValue>,
    #[serde(borrow)]
    destination_path: Option<&'a RawValue>,
    #[serde(borrow)]
    destination: Option<&'a RawValue>,
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    host: Option<&'a RawValue>,
    #[serde(borrow)]
    port: Option<&'a RawValue>,
}

/// A text among params, as it was sent.
fn raw<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'a>>(value?.get()).ok().map(|text| text.0)
}

fn text(value: Option<&RawValue>) -> Option<String> {
    raw(value).map(cut)
}

/// A path in the form of this machine, from either dialect.
fn path(value: Option<&RawValue>) -> Option<String> {
    let text = raw(value)?;
    match WirePath::parse(&text) {
        Ok(WirePath::Local(path)) => Some(cut(path.to_string_lossy())),
        _ => Some(cut(text)),
    }
}

/// Where a URL leads: a path or query may hold a secret, and so may the user's name.
fn origin(value: Option<&RawValue>) -> Option<String> {
    let url = Url::parse(&raw(value)?).ok()?;
    Some(cut(format!("{}://{}{}", url.scheme(), url.host_str()?, port(&url)).into()))
}

fn port(url: &Url) -> String {
    url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default()
}

impl Words {
    /// What is said of a request; none if it is no act. Params that can't be read say nothing: such a request is refused.
    pub(crate) fn of(method: &str, params: &str) -> Option<Self> {
        if NO_ACTS.contains(&method) {
            return None;
        }
        let params: Params<'_> = serde_json::from_str(params).unwrap_or_default();
        let own = params.session_id.is_none() && params.log_id.is_none();
        if LOOKS.contains(&method) && own {
            return None;
        }
        let argv: Option<Vec<Cow<'_, str>>> =
            params.argv.and_then(|argv| serde_json::from_str(argv.get()).ok());
        let args = argv.as_deref().map(|argv| argv.get(1..).unwrap_or_default());
        let host = text(params.host).map(|host| match params.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        });
        Some(Self {
            client: text(params.client_name),
            process: text(params.process_id),
            of_session: text(params.session_id).or_else(|| text(params.resume_session_id)),
            log: text(params.log_id),
            args: args.map(<[_]>::len),
            args_sha256: args
                .filter(|args| !args.is_empty())
                .map(|args| args_hash(args.iter().map(AsRef::as_ref))),
            program: argv.and_then(|argv| argv.into_iter().next()).map(cut),
            directory: path(params.cwd),
            signal: text(params.signal),
            sandboxed: params.sandbox.is_some_and(|sandbox| sandbox.get() != "null"),
            path: path(params.path.or(params.source_path).or(params.from)),
            destination: path(params.destination_path.or(params.destination).or(params.to)),
            target: origin(params.url).or(host),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(method: &str, params: serde_json::Value) -> Option<Words> {
        Words::of(method, &params.to_string())
    }

    #[test]
    fn a_start_tells_its_program_and_no_argument() {
        let params = json!({
            "processId": "p1", "argv": ["/bin/sh", "-c", "echo SECRET"], "cwd": "file:///srv/my%20app", "tty": false,
            "env": {"TOKEN": "SECRET"}, "sandbox": {"type": "readOnly"},
        });
        let words = words("process/start", params).unwrap();
        assert!(!format!("{words:?}").contains("SECRET"));
        let expected = Words {
            process: Some("p1".into()),
            program: Some("/bin/sh".into()),
            args: Some(2),
            args_sha256: Some(args_hash(["-c", "echo SECRET"])),
            directory: Some("/srv/my app".into()),
            sandboxed: true,
            ..Words::default()
        };
        assert_eq!(words, expected);
    }

    #[test]
    fn a_url_tells_where_it_leads_and_nothing_else() {
        let of = |url: &str| words("http/request", json!({"method": "GET", "url": url})).unwrap().target;
        for (url, expected) in [
            ("https://user:SECRET@api.example/v1/SECRET?key=SECRET#SECRET", Some("https://api.example:443")),
            ("http://[::1]:8080/", Some("http://[::1]:8080")),
            ("no url SECRET", None),
        ] {
            assert_eq!(of(url).as_deref(), expected);
        }
        let tcp = words("tcp/connect", json!({"streamId": "s", "host": "db.example", "port": 5432})).unwrap();
        assert_eq!(tcp.target.as_deref(), Some("db.example:5432"));
    }

    #[test]
    fn files_are_told_by_their_paths_and_not_by_what_is_in_them() {
        let write = words("fs/writeFile", json!({"path": "/a", "dataBase64": "U0VDUkVU"})).unwrap();
        assert_eq!(write, Words { path: Some("/a".into()), ..Words::default() });
        let copy = json!({"sourcePath": "file:///a", "destinationPath": "/b", "recursive": true});
        let copy = words("fs/copy", copy).unwrap();
        assert_eq!((copy.path.as_deref(), copy.destination.as_deref()), (Some("/a"), Some("/b")));
    }

    #[test]
    fn what_goes_on_with_an_act_is_none_and_a_look_at_others_is() {
        for (method, params, is_act) in [
            ("environment/status", json!({}), false),
            ("process/read", json!({"processId": "p"}), false),
            ("process/read", json!({"processId": "p", "sessionId": "s"}), true),
            ("process/read", json!({"processId": "p", "logId": "l"}), true),
            ("process/wait", json!({"processId": "p", "sessionId": "s"}), true),
            ("process/write", json!({"processId": "p", "chunk": "U0VDUkVU"}), true),
            ("fs/open", json!({"handleId": "h", "path": "/a"}), true),
            ("fs/readBlock", json!({"handleId": "h"}), false),
            ("environment/info", json!({}), true),
            ("made/up", json!([1]), true),
        ] {
            assert_eq!(words(method, params).is_some(), is_act, "{method}");
        }
    }

    #[test]
    fn a_member_of_another_type_hides_no_other() {
        let words =
            words("process/start", json!({"processId": 5, "argv": "x", "cwd": "/srv", "host": {}})).unwrap();
        assert_eq!(words, Words { directory: Some("/srv".into()), ..Words::default() });
    }
}
