//! Commands with a remembered login.

use anyhow::{Context as _, Result};

use super::Context;
use crate::client::Connection;
use crate::machine::timed;
use crate::report::{Bar, Row, median};

/// Start-up files as they are met: some work, and a program that takes its time.
const PROFILE: &str = "export PATH=\"$HOME/bin:$PATH\"\nfor n in 1 2 3 4 5 6 7 8; do X=$(uname -s); done\n\
                       greet() { echo \"hello $1\"; }\nalias ll='ls -l'\n";

/// `bash -lc true` from start to `closed` with a remembered login, against `bash -c true`; and one that logs in. None for a
/// server that remembers none.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join(".bash_profile"), PROFILE)?;
    let home = home.path().to_str().context("a temporary path in UTF-8")?;
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let info = connection.call("environment/info", "{}")?;
    if !String::from_utf8_lossy(&info).contains(r#""shellSnapshotV2":true"#) {
        return Ok(Vec::new());
    }
    let snapshot = r#","shellSnapshot":{"scopeId":"bench","shell":{"name":"bash","path":"/bin/bash"}}"#;
    let mut number = 0;
    let mut command = |connection: &mut Connection, flag: &str, more: &str| -> Result<f64> {
        number += 1;
        let params = format!(
            r#"{{"processId":"l{number}","argv":["/bin/bash","{flag}","true"],"cwd":"file:///","tty":false,"arg0":null,"env":{{"HOME":"{home}","PATH":"/usr/bin:/bin"}}{more}}}"#
        );
        let (seconds, _) = timed(|| {
            connection.send("process/start", &params)?;
            connection.drain(&format!("l{number}"))
        })?;
        Ok(seconds * 1e3)
    };
    // The login itself, and what is only done once.
    command(&mut connection, "-lc", snapshot)?;
    let (mut remembered, mut without, mut login) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..context.pick(300, 50) {
        remembered.push(command(&mut connection, "-lc", snapshot)?);
        without.push(command(&mut connection, "-c", "")?);
    }
    for _ in 0..context.pick(20, 5) {
        login.push(command(&mut connection, "-lc", "")?);
    }
    let more = median(&remembered) - median(&without);
    Ok(vec![
        Row::new(
            "bash -lc true, login remembered, more than bash -c true, p50",
            "ms",
            more,
            Bar::AtMost(1.0),
        ),
        Row::new("bash -lc true, login remembered, p50", "ms", median(&remembered), Bar::None)
            .against(median(&login)),
    ])
}
