//! What a client learns of a machine's configuration (section 12).

use codex_e2e::{Server, TestClient};
use serde_json::{Value, json};

/// A server with a home directory of its own.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    _server: Server,
    pub(crate) client: TestClient,
}

impl Machine {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home/.codex", "work"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name).to_str().unwrap().to_owned();
        let server =
            Server::builder().env("HOME", &at("home")).env("CODEX_HOME", &at("home/.codex")).start().await;
        let client = server.client().await;
        Self { dir, _server: server, client }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    async fn config(&mut self, keys: Value) -> Value {
        let asked = json!({"cwd": self.uri("work"), "configPaths": keys, "requirementsPaths": keys});
        self.client.ok("environmentConfig/read", asked).await
    }
}

#[tokio::test]
async fn a_client_finds_the_mcp_servers_that_the_machines_config_has_and_nothing_else() {
    let mut machine = Machine::start().await;
    let info = machine.client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["environmentConfigRead"], true);
    let nothing = machine.config(json!([["mcp_servers"]])).await;
    assert_eq!(nothing["config"], json!({"layers": [], "cloudInsertionIndex": 0}));

    machine.write(
        "home/.codex/config.toml",
        "model = 'x'\n[mcp_servers.docs]\nurl = 'http://127.0.0.1:8080'\n[model_providers.own]\nhttp_headers = {a = 'never told'}\n",
    );
    let read = machine.config(json!([["mcp_servers"]])).await;
    assert!(!read.to_string().contains("never told"), "{read}");
    assert_eq!(read["userHomeDir"], machine.uri("home"));
    assert_eq!(read["codexHomeDir"], machine.uri("home/.codex"));
    assert!(!read["hostname"].as_str().unwrap().is_empty());
    let file = machine.uri("home/.codex/config.toml");
    let layer = json!({
        "source": format!("user ({})", file.strip_prefix("file://").unwrap()),
        "baseDir": machine.uri("home/.codex"),
        "toml": "[mcp_servers.docs]\nurl = \"http://127.0.0.1:8080\"\n",
    });
    assert_eq!(read["config"], json!({"layers": [layer], "cloudInsertionIndex": 0}));
    assert_eq!(read["requirements"], json!({"layers": [], "cloudInsertionIndex": 0}));
}

#[tokio::test]
async fn a_project_is_read_once_it_is_trusted() {
    let mut machine = Machine::start().await;
    machine.write("work/.codex/config.toml", "[mcp_servers.own]\ncommand = './tool'\n");
    assert_eq!(machine.config(json!([["mcp_servers"]])).await["config"]["layers"], json!([]));
    let work = machine.dir.path().canonicalize().unwrap().join("work");
    let trust = format!("[projects.'{}']\ntrust_level = 'trusted'\n", work.display());
    machine.write("home/.codex/config.toml", &trust);
    let layers = machine.config(json!([["mcp_servers"]])).await["config"]["layers"].take();
    assert_eq!(layers[0]["baseDir"], machine.uri("work/.codex"), "{layers}");
    assert_eq!(layers[0]["toml"], "[mcp_servers.own]\ncommand = \"./tool\"\n");
    assert_eq!(layers.as_array().unwrap().len(), 1, "{layers}");
}

#[tokio::test]
async fn what_asks_for_no_key_or_cannot_be_read_is_refused_in_the_released_words() {
    let mut machine = Machine::start().await;
    let cwd = machine.uri("work");
    for (config, requirements, text) in [
        (json!([]), json!([]), "at least one config or requirements path is required"),
        (json!([[]]), json!([]), "TOML paths must contain at least one key segment"),
        (json!([["a"]]), json!([[]]), "TOML paths must contain at least one key segment"),
        (json!(vec![["a"]; 65]), json!([]), "at most 64 TOML selectors are allowed"),
    ] {
        let asked = json!({"cwd": cwd, "configPaths": config, "requirementsPaths": requirements});
        let refusal = machine.client.call("environmentConfig/read", asked).await.unwrap_err();
        assert_eq!(refusal, (-32602, text.to_owned()));
    }
    for asked in [
        json!({}),
        json!({"cwd": cwd, "configPaths": [["a"]]}),
        json!({"cwd": cwd, "requirementsPaths": [["a"]]}),
        json!({"configPaths": [["a"]], "requirementsPaths": []}),
        json!({"cwd": cwd, "configPaths": ["a"], "requirementsPaths": []}),
        json!({"cwd": "file:///C:/x", "configPaths": [["a"]], "requirementsPaths": []}),
    ] {
        assert_eq!(machine.client.refused("environmentConfig/read", asked).await, -32602);
    }
    machine.write("home/.codex/config.toml", "a = 'never told'\nmodel = \n");
    let asked = json!({"cwd": cwd, "configPaths": [["a"]], "requirementsPaths": []});
    let (code, text) = machine.client.call("environmentConfig/read", asked).await.unwrap_err();
    assert!(code == -32603 && text.starts_with("failed to load executor-local config: "), "{text}");
    assert!(text.contains("config.toml:2:9") && !text.contains("never told"), "{text}");
    machine.write("home/.codex/config.toml", &format!("a = '{}'\n", "x".repeat(1 << 20)));
    let asked = json!({"cwd": cwd, "configPaths": [["a"]], "requirementsPaths": []});
    let (code, text) = machine.client.call("environmentConfig/read", asked).await.unwrap_err();
    assert!(code == -32603 && text.contains("exceeds the 1048576-byte limit"), "{text}");
}
