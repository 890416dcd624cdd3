//! The block that a user pastes into an agent's configuration.

use serde_json::{Value, json};

/// An agent whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Claude Code and Claude Desktop: `.mcp.json`, `claude_desktop_config.json`.
    Claude,
    /// Codex: `config.toml`.
    Codex,
    /// Cursor: `.cursor/mcp.json`.
    Cursor,
    /// VS Code: `.vscode/mcp.json`.
    VsCode,
    /// Gemini CLI: `.gemini/settings.json`.
    Gemini,
    /// Windsurf: `~/.codeium/windsurf/mcp_config.json`.
    Windsurf,
}

/// How the agent reaches the tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It starts a program and talks to it over pipes.
    Program {
        /// The program, as a whole path.
        command: String,
        /// Its arguments.
        args: Vec<String>,
    },
    /// It connects to a server.
    Http {
        /// The address, with `/mcp`.
        url: String,
        /// The variable of the agent's environment that holds the server's token, if it wants one.
        token_variable: Option<&'static str>,
    },
}

/// The name under which agents show the tools.
const NAME: &str = "machine";

/// The block, with a line break at its end.
pub fn print_config(agent: Agent, way: &Way) -> String {
    match agent {
        Agent::Codex => toml(way),
        Agent::Claude | Agent::Cursor | Agent::Gemini | Agent::Windsurf => {
            pretty(&json!({"mcpServers": {NAME: entry(agent, way)}}))
        }
        Agent::VsCode => pretty(&json!({"servers": {NAME: entry(agent, way)}})),
    }
}

fn entry(agent: Agent, way: &Way) -> Value {
    let mut entry = match way {
        Way::Program { command, args } => json!({"command": command, "args": args}),
        Way::Http { url, token_variable } => {
            let place = match agent {
                Agent::Gemini => "httpUrl",
                Agent::Windsurf => "serverUrl",
                _ => "url",
            };
            let mut entry = json!({place: url});
            if let Some(variable) = token_variable {
                let variable = match agent {
                    Agent::Claude | Agent::Codex | Agent::Gemini => format!("${{{variable}}}"),
                    Agent::Cursor | Agent::VsCode | Agent::Windsurf => format!("${{env:{variable}}}"),
                };
                entry["headers"] = json!({"Authorization": format!("Bearer {variable}")});
            }
            entry
        }
    };
    // The others tell the two apart by themselves.
    if matches!(agent, Agent::Claude | Agent::VsCode) {
        entry["type"] = match way {
            Way::Program { .. } => "stdio".into(),
            Way::Http { .. } => "http".into(),
        };
    }
    entry
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn toml(way: &Way) -> String {
    // A JSON text is a basic string of TOML, too.
    let quoted = |text: &str| Value::from(text).to_string();
    match way {
        Way::Program { command, args } => {
            let args: Vec<_> = args.iter().map(|arg| quoted(arg)).collect();
            format!("[mcp_servers.{NAME}]\ncommand = {}\nargs = [{}]\n", quoted(command), args.join(", "))
        }
        Way::Http { url, token_variable } => {
            let token = token_variable.map(|name| format!("bearer_token_env_var = {}\n", quoted(name)));
            format!("[mcp_servers.{NAME}]\nurl = {}\n{}", quoted(url), token.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_gets_its_own_words() {
        let program =
            Way::Program { command: "/bin/codex".into(), args: vec!["exec-server".into(), "m\"p".into()] };
        let token_variable = Some("TOKEN");
        let http = Way::Http { url: "http://127.0.0.1:1/mcp".into(), token_variable };
        for (agent, way, key, wanted) in [
            (
                Agent::Claude,
                &program,
                "mcpServers",
                json!({"type": "stdio", "command": "/bin/codex", "args": ["exec-server", "m\"p"]}),
            ),
            (
                Agent::Cursor,
                &program,
                "mcpServers",
                json!({"command": "/bin/codex", "args": ["exec-server", "m\"p"]}),
            ),
            (
                Agent::VsCode,
                &http,
                "servers",
                json!({"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer ${env:TOKEN}"}}),
            ),
            (
                Agent::Claude,
                &http,
                "mcpServers",
                json!({"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}),
            ),
            (
                Agent::Gemini,
                &http,
                "mcpServers",
                json!({"httpUrl": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}),
            ),
            (
                Agent::Windsurf,
                &http,
                "mcpServers",
                json!({"serverUrl": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer ${env:TOKEN}"}}),
            ),
        ] {
            let block: Value = serde_json::from_str(&print_config(agent, way)).unwrap();
            assert_eq!(block[key][NAME], wanted, "{agent:?}");
        }
        assert_eq!(
            print_config(Agent::Codex, &program),
            "[mcp_servers.machine]\ncommand = \"/bin/codex\"\nargs = [\"exec-server\", \"m\\\"p\"]\n"
        );
        assert!(print_config(Agent::Codex, &http).contains("bearer_token_env_var = \"TOKEN\""));
    }
}
