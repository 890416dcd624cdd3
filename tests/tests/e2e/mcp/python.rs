//! The official Python library as a client, over stdin and stdout and over HTTP.

use std::path::Path;
use std::process::Command;

use codex_e2e::mcp::McpServer;

/// The version that the test was written for.
const LIBRARY: &str = "mcp==2.3.0";

const SCRIPT: &str = r#"
import asyncio, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

async def use(read, write):
    async with ClientSession(read, write) as session:
        await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        assert "exec" in names and "grep" in names, names
        done = await session.call_tool("exec", {"command": "echo from python; exit 4"})
        data = getattr(done, "structured_content", None) or done.structuredContent
        assert data["output"] == "from python\n" and data["exit_code"] == 4, data
        wrong = await session.call_tool("exec_read", {"process": "nobody"})
        assert getattr(wrong, "is_error", None) or getattr(wrong, "isError", None), wrong

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=["exec-server", "mcp"])
    async with stdio_client(server) as (read, write):
        await use(read, write)
    async with streamable_http_client(sys.argv[2]) as streams:
        await use(streams[0], streams[1])
    print("fine")

asyncio.run(main())
"#;

/// A Python with the library, or why there is none. In CI there has to be one.
fn python(at: &Path) -> Result<std::path::PathBuf, String> {
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    run(Path::new("python3"), &["-m", "venv", at.to_str().unwrap()])?;
    let python = at.join("bin/python");
    run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", LIBRARY])?;
    Ok(python)
}

#[tokio::test]
async fn the_official_python_library_uses_the_tools() {
    let ground = tempfile::tempdir().unwrap();
    let python = match python(&ground.path().join("venv")) {
        Ok(python) => python,
        Err(why) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {LIBRARY} can't be installed: {why}");
            return;
        }
        Err(why) => panic!("{LIBRARY} can't be installed: {why}"),
    };
    let tools = McpServer::start(&[], &[]).await;
    let script = ground.path().join("client.py");
    std::fs::write(&script, SCRIPT).unwrap();
    let mut command = tokio::process::Command::new(python);
    command.arg(&script).arg(codex_e2e::binary::codex()).arg(&tools.url);
    let output = codex_e2e::client::guarded("the script", command.output()).await.unwrap();
    assert!(output.status.success() && output.stdout == b"fine\n", "{output:?}");
}
