//! What agents and programs in other languages get: a tool's call, and the clients in Python and TypeScript.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Context;
use crate::machine::timed;
use crate::report::{Bar, Row, median};

/// The websocket library that the Python client is measured with: that of its tests.
const WEBSOCKETS: &str = "websockets==17.4";

/// `exec` of `/bin/true` as a tool's call, against `process/start` of it to `closed`, in turn. None for servers without tools.
pub fn mcp(context: &Context<'_>) -> Result<Vec<Row>> {
    if !context.server.ours {
        return Ok(Vec::new());
    }
    let server = context.server.start(&[])?;
    let mut connection = server.connect()?;
    let mut tools = Tools::start(context, &server.url)?;
    let (mut called, mut bare) = (Vec::new(), Vec::new());
    for index in 0..context.pick(500, 100) {
        let process = format!("one-{index}");
        let params = connection.start_params(&process, &["/bin/true"], false);
        let (seconds, _) = timed(|| {
            connection.send("process/start", &params)?;
            connection.drain(&process)
        })?;
        bare.push(seconds * 1e3);
        let (seconds, ()) = timed(|| tools.exec_true())?;
        called.push(seconds * 1e3);
    }
    let more = median(&called) - median(&bare);
    Ok(vec![
        Row::new("exec of true by MCP, more than process/start, p50", "ms", more, Bar::AtMost(2.0)),
        Row::new("exec of true by MCP, p50", "ms", median(&called), Bar::None).against(median(&bare)),
    ])
}

/// The tools over pipes.
struct Tools {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    last: u64,
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tools {
    fn start(context: &Context<'_>, url: &str) -> Result<Self> {
        let mut command = context.server.command(&["mcp", "--url", url]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the tools")?;
        let input = child.stdin.take().context("the tools' stdin")?;
        let output = BufReader::new(child.stdout.take().context("the tools' stdout")?);
        let mut tools = Self { child, input, output, last: 0 };
        let client = json!({"name": "codex-bench", "version": "1"});
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        tools.call("initialize", &hello)?;
        writeln!(tools.input, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#)?;
        tools.exec_true()?;
        Ok(tools)
    }

    fn exec_true(&mut self) -> Result<()> {
        let result =
            self.call("tools/call", &json!({"name": "exec", "arguments": {"argv": ["/bin/true"]}}))?;
        match result["structuredContent"]["exit_code"].as_i64() {
            Some(0) => Ok(()),
            _ => bail!("exec of true gave {result}"),
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.last += 1;
        writeln!(
            self.input,
            "{}",
            json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        )?;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the tools ended at {method}");
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if answer["id"] == self.last {
                return match answer.get("error") {
                    Some(error) => bail!("{method}: {error}"),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }
}

/// Output and small requests of the clients in other languages, each on one connection. Needs Python with venv, Node and npm,
/// and the packages that the clients name.
pub fn sdk(context: &Context<'_>) -> Result<Vec<Row>> {
    if !context.server.ours {
        return Ok(Vec::new());
    }
    let ground = tempfile::tempdir()?;
    let (python, typescript) = (python_client(&ground)?, typescript_client(&ground)?);
    let socket = format!("unix://{}", ground.path().join("socket").display());
    let websocket = context.server.start(&[])?;
    let _unix = context.server.start(&["--listen", &socket])?;
    let megabytes = context.pick(2000, 400).to_string();
    let requests = context.pick(40_000, 8_000).to_string();
    let measured = |command: &mut Command, place: &str| -> Result<[f64; 3]> {
        let output = command.args([place, &megabytes, &requests]).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("{command:?} gave {}", output.status);
        }
        let said: Value = serde_json::from_slice(&output.stdout).context("what a client says")?;
        let value = |name: &str| said[name].as_f64().with_context(|| format!("{name} in {said}"));
        Ok([value("mb_per_s")?, value("requests_per_s")?, value("one_by_one_per_s")?])
    };
    let [far, many, single] = measured(&mut python(), &websocket.url)?;
    let [near, ..] = measured(&mut python(), &socket)?;
    let [node, node_many, node_single] = measured(&mut typescript(), &socket)?;
    Ok(vec![
        Row::new("Python client, output, websocket", "MB/s", far, Bar::AtLeast(150.0)),
        Row::new("the same over a Unix socket", "MB/s", near, Bar::AtLeast(150.0)),
        Row::new("Python client, small requests, 16 in flight", "/s", many, Bar::AtLeast(3000.0)),
        Row::new("the same one by one", "/s", single, Bar::None),
        Row::new("TypeScript client, output, Unix socket", "MB/s", node, Bar::AtLeast(300.0)),
        Row::new("TypeScript client, small requests, 16 in flight", "/s", node_many, Bar::None),
        Row::new("the same one by one", "/s", node_single, Bar::None),
    ])
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} gave {status}");
    }
    Ok(())
}

fn python_client(ground: &TempDir) -> Result<impl Fn() -> Command + use<>> {
    let venv = ground.path().join("venv");
    let python = venv.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WEBSOCKETS];
    run(Command::new(&python).args(install))?;
    Ok(move || {
        let mut command = Command::new(&python);
        command.arg("-B").arg(repository().join("bench/sdk/throughput.py"));
        command.env("PYTHONPATH", repository().join("sdk/python"));
        command
    })
}

fn typescript_client(ground: &TempDir) -> Result<impl Fn() -> Command + use<>> {
    // What is built lies beside a copy of the sources.
    let here = ground.path().join("typescript");
    run(Command::new("cp").arg("-r").arg(repository().join("sdk/typescript")).arg(&here))?;
    std::fs::copy(repository().join("bench/sdk/throughput.mjs"), here.join("throughput.mjs"))?;
    run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&here))?;
    run(Command::new("npx").args(["--no-install", "tsc"]).current_dir(&here))?;
    Ok(move || {
        let mut command = Command::new("node");
        command.arg("throughput.mjs").current_dir(&here);
        command
    })
}
