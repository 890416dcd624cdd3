//! What a client learns of a machine before its first command: configuration, skills.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::Context;
use crate::client::Connection;
use crate::machine::timed;
use crate::report::{Bar, Row, median};

const SKILLS: usize = 2000;

/// `environmentConfig/read` of one key, against reading the file; `capabilities/discoverV2` over 2,000 skills, against reading
/// them. None for a server without the methods.
pub fn run(context: &Context<'_>) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join(".codex");
    let config = home.join("config.toml");
    for number in 0..SKILLS {
        let skill = home.join(format!("skills/s{number}"));
        std::fs::create_dir_all(&skill)?;
        let head = format!("---\nname: skill-{number}\ndescription: Does {number}.\n---\n");
        std::fs::write(skill.join("SKILL.md"), head + &"x".repeat(2000))?;
    }
    std::fs::write(&config, "model = \"m\"\n[mcp_servers.docs]\ncommand = \"docs\"\nargs = [\"--stdio\"]\n")?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a temporary path in UTF-8");
    let variables = [("CODEX_HOME", text(&home)?), ("HOME", text(folder.path())?)];
    let server = context.server.start_with(&[], &variables)?;
    let mut connection = server.connect()?;
    let cwd = format!("file://{}", text(folder.path())?);
    let asked =
        format!(r#"{{"cwd":"{cwd}","configPaths":[["mcp_servers"]],"requirementsPaths":[["mcp_servers"]]}}"#);
    let wanted = format!(r#"{{"cwd":"{cwd}"}}"#);
    let has =
        |connection: &mut Connection, method: &str, params: &str| connection.call(method, params).is_ok();
    if !has(&mut connection, "environmentConfig/read", &asked)
        || !has(&mut connection, "capabilities/discoverV2", &wanted)
    {
        return Ok(Vec::new());
    }
    let (mut read, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(200, 50) {
        read.push(timed(|| connection.call("environmentConfig/read", &asked))?.0 * 1e3);
        bare.push(timed(|| Ok(std::fs::read(&config)?.len()))?.0 * 1e3);
    }
    let (mut found, mut walked) = (Vec::new(), Vec::new());
    for _ in 0..context.pick(20, 5) {
        found.push(timed(|| connection.call("capabilities/discoverV2", &wanted))?.0 * 1e3);
        walked.push(timed(|| walk(&home.join("skills")))?.0 * 1e3);
    }
    Ok(vec![
        Row::new("environmentConfig/read, p50", "ms", median(&read), Bar::AtMost(1.0)).against(median(&bare)),
        Row::new("capabilities/discoverV2, 2,000 skills, p50", "ms", median(&found), Bar::AtMost(50.0))
            .against(median(&walked)),
    ])
}

/// Reads every skill, and nothing more.
fn walk(skills: &Path) -> Result<usize> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(skills)? {
        bytes += std::fs::read(entry?.path().join("SKILL.md"))?.len();
    }
    Ok(bytes)
}
