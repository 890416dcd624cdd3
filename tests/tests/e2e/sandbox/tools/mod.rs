//! Everyday tools do their ordinary work under "write the workspace" (14.2), and the user has to do nothing for it: as root
//! and as an ordinary user, without network and with a filtered one. A row says what works, or which refusal is right and
//! why.

mod keys;
mod languages;
mod machine;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_e2e::GUARD;
use codex_e2e::http::{Asked, Origin, plain};
use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;

use super::escapes::NOBODY;
use super::*;

/// The name of the machine that packages and repositories come from; no name of its own leads there.
const ELSEWHERE: &str = "packages.test";

/// One tool at its ordinary work.
struct Row {
    /// For people.
    name: &'static str,
    /// Programs that have to be there.
    needs: &'static [&'static str],
    /// A shell command in the workspace, with `$ELSEWHERE` for the URL of files of the row's own.
    script: &'static str,
    /// What it says. Without network, where that is told apart.
    says: Says,
}

/// What a row's command says, if all is well.
#[derive(Clone, Copy)]
enum Says {
    /// This, in any network.
    Always(&'static str),
    /// The first without network, the second in a filtered one.
    ByNetwork(&'static str, &'static str),
    /// This without network, and nothing is asked in a filtered one.
    Closed(&'static str),
    /// This in a filtered network, and nothing is asked without.
    Filtered(&'static str),
}

/// Programs that take too much to be installed for a test; without them their rows are left out, and say so.
const LARGE: [&str; 5] = ["go", "java", "javac", "node", "npm"];

/// Who runs the server, and what network its programs get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    ordinary: bool,
    filtered: bool,
}

impl Setting {
    /// All that there can be here: only root can become another user, and give a name to a machine.
    fn all() -> Vec<Self> {
        let root = rustix::process::geteuid().is_root();
        let of = |ordinary| [false, true].map(|filtered| Self { ordinary, filtered });
        if !root {
            return of(true).to_vec();
        }
        let User { command, .. } = User::ordinary();
        let runs = std::process::Command::new(&command[0])
            .args(&command[1..])
            .arg(codex_e2e::binary::codex())
            .arg("doctor")
            .output()
            .is_ok_and(|doctor| doctor.status.success());
        if !runs {
            eprintln!("SKIPPED: an ordinary user can't run the server here, or has no user namespaces");
        }
        of(false).into_iter().chain(of(true).into_iter().filter(|_| runs)).collect()
    }

    fn says(self, row: &Row) -> Option<&'static str> {
        match (row.says, self.filtered) {
            (Says::Always(text) | Says::ByNetwork(text, _) | Says::Closed(text), false)
            | (Says::Always(text) | Says::ByNetwork(_, text) | Says::Filtered(text), true) => Some(text),
            (Says::Closed(_), true) | (Says::Filtered(_), false) => None,
        }
    }
}

/// How to become the ordinary user.
struct User {
    command: Vec<String>,
    path: &'static str,
}

impl User {
    fn ordinary() -> Self {
        let command = [
            "setpriv",
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            "--clear-groups",
            "--inh-caps=-all",
        ];
        Self { command: command.map(str::to_owned).to_vec(), path: "/usr/local/bin:/usr/bin:/bin" }
    }
}

/// Gives the server's machine a name for this one, which leads nowhere without the proxy.
fn with_a_name(ground: &Ground) -> [String; 5] {
    let hosts = ground.text("o/hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n127.0.0.1 {ELSEWHERE}\n")).expect("written");
    let script = format!("mount --bind {hosts} /etc/hosts && exec \"$@\"");
    ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned)
}

/// A ground whose workspace and home belong to who works there.
fn ground_of(setting: Setting) -> Ground {
    let ground = Ground::new();
    std::fs::remove_dir_all(ground.at("w")).expect("removed");
    for name in ["w", "home", "served"] {
        std::fs::create_dir(ground.at(name)).expect("made");
        if setting.ordinary && rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(ground.at(name), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
    }
    ground
}

async fn server_of(setting: Setting, ground: &Ground) -> Server {
    let mut under: Vec<String> = Vec::new();
    let root = rustix::process::geteuid().is_root();
    if setting.filtered && root {
        under.extend(with_a_name(ground));
        under.push("sh".to_owned());
    }
    let mut server = Server::builder();
    if setting.ordinary && root {
        let user = User::ordinary();
        under.extend(user.command);
        server = server.env("HOME", &ground.text("home")).env("PATH", user.path).env("USER", "nobody");
    }
    server.under(under).env("TERM", "xterm").start().await
}

/// "Write the workspace", as clients send it.
fn profile(ground: &Ground, setting: Setting) -> Value {
    let kept = |name| {
        json!({"path": {"type": "special", "value": {"kind": "project_roots", "subpath": name}}, "access": "read",
            "missing_path_behavior": "skip"})
    };
    let entries = json!([
        special("root", "read"),
        special("project_roots", "write"),
        special("slash_tmp", "write"),
        special("tmpdir", "write"),
        kept(".git"),
        kept(".agents"),
        kept(".codex")
    ]);
    let mut more = json!({"sandbox": ground.profile(entries, "restricted")});
    if setting.filtered {
        let domains = json!({ELSEWHERE: "allow", "127.0.0.1": "allow"});
        let settings = json!({"allowLocalBinding": true, "domains": domains});
        more["networkProxy"] = json!({"proxy": crate::network::proxy(settings)});
    }
    more["envPolicy"] = json!({"inherit": "all", "ignoreDefaultExcludes": true, "exclude": [], "set": {},
        "includeOnly": []});
    more
}

/// Serves the files below a directory.
pub(crate) async fn serve(directory: PathBuf) -> Origin {
    let directory: Arc<Path> = directory.into();
    Origin::start(Arc::new(move |asked: Asked, mut stream| {
        let directory = Arc::clone(&directory);
        async move {
            let path = asked.target.split('?').next().unwrap_or_default().trim_start_matches('/');
            let path = if path.is_empty() || path.ends_with('/') {
                format!("{path}index.html")
            } else {
                path.into()
            };
            let kind = if path.ends_with(".html") { "content-type: text/html\r\n" } else { "" };
            let answer = match std::fs::read(directory.join(path)) {
                Ok(bytes) => plain("200 OK", kind, &bytes),
                Err(_) => plain("404 Not Found", "", b""),
            };
            let _ = stream.write_all(&answer).await;
        }
        .boxed()
    }))
    .await
}

/// Runs rows in every setting; `prepare` puts what they need into the workspace and among the files that are served.
async fn check(rows: &[Row], prepare: fn(&Ground)) {
    if !enforceable() {
        return;
    }
    let mut failed = Vec::new();
    for setting in Setting::all() {
        let ground = ground_of(setting);
        prepare(&ground);
        let origin = serve(ground.at("served")).await;
        let server = server_of(setting, &ground).await;
        let mut client = server.client().await;
        for row in rows {
            let Some(says) = setting.says(row) else { continue };
            let is_named = !setting.filtered || rustix::process::geteuid().is_root();
            if row.script.contains("$ELSEWHERE") && !is_named {
                eprintln!("SKIPPED: {} with {setting:?}: only root can name a machine", row.name);
                continue;
            }
            if let Err(why) = work(&mut client, &ground, &origin, setting, row, says).await {
                failed.push(format!("{} with {setting:?}: {why}", row.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

async fn work(
    client: &mut TestClient,
    ground: &Ground,
    origin: &Origin,
    setting: Setting,
    row: &Row,
    says: &str,
) -> Result<(), String> {
    // What a row makes in /tmp goes with its directory in there.
    let script = format!(
        "for tool in {}; do command -v $tool >/dev/null || {{ echo MISSING $tool; exit 0; }}; done\n\
         ELSEWHERE=http://{ELSEWHERE}:{}\n{}",
        row.needs.join(" "),
        origin.address.port(),
        row.script
    );
    let mut more = profile(ground, setting);
    more["cwd"] = json!(ground.uri("w"));
    // Longer than the client waits: what hangs is looked at before it is killed.
    more["timeoutMs"] = json!(2 * GUARD.as_secs() * 1000);
    let id = format!("{} {setting:?}", row.name);
    client.ok("process/start", start_params(&id, ["/bin/sh", "-c", &script], more)).await;
    let ended = client.finish(&id).await;
    let output = format!("{}{}", ended.stdout(), ended.text("stderr"));
    if let Some(tool) = output.lines().find_map(|line| line.strip_prefix("MISSING ")) {
        let optional = setting.ordinary || LARGE.contains(&tool) || std::env::var_os("CI").is_none();
        eprintln!("SKIPPED: {} with {setting:?}: there is no {tool} for this user", row.name);
        return if optional { Ok(()) } else { Err(format!("{tool} is not installed")) };
    }
    if output.contains(says) && (ended.code() == 0 || says.is_empty()) {
        return Ok(());
    }
    Err(format!("code {}, expected {says:?}:\n{output}", ended.code()))
}
