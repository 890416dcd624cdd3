//! The skills and plugins that a client finds on a machine (12.2, 12.3).

use serde_json::{Value, json};

use crate::discovery::Machine;
use crate::sandbox::enforceable;

const DEPLOY: &str =
    "---\nname: deploy\ndescription: Ships it.\nmetadata:\n  short-description: Ships\n---\n# Deploy\n";

fn file(machine: &Machine, name: &str, contents: &str) -> Value {
    json!({"path": machine.uri(name), "contents": contents})
}

impl Machine {
    async fn root(&mut self, name: &str) -> Value {
        let asked = json!({"roots": [{"id": "a", "path": self.uri(name), "sandbox": null}]});
        self.client.ok("capabilityRoots/discoverV1", asked).await["roots"][0].take()
    }

    async fn installed(&mut self) -> Value {
        let asked = json!({"cwd": self.uri("work")});
        self.client.ok("capabilities/discoverV2", asked).await
    }
}

#[tokio::test]
async fn a_root_gives_its_skills_its_plugin_and_the_plugins_around_and_below() {
    let mut machine = Machine::start().await;
    let manifest = "{\"name\": \"tools\", \"apps\": \"./apps.json\"}";
    for (name, text) in [
        ("work/p/.codex-plugin/plugin.json", manifest),
        ("work/p/.claude-plugin/plugin.json", "{\"name\": \"later\"}"),
        ("work/p/.mcp.json", "{\"mcpServers\": {}}"),
        ("work/p/apps.json", "{}"),
        ("work/p/skills/b/SKILL.md", DEPLOY),
        ("work/p/.hidden/a/SKILL.md", "anything"),
        ("work/p/.hidden/a/agents/openai.yaml", "policy: {}\n"),
        ("work/p/sub/.cursor-plugin/plugin.json", "{\"name\": \"sub\"}"),
        ("work/p/skills/b/notes.md", "not read"),
    ] {
        machine.write(name, text);
    }
    let found = machine.root("work/p").await;
    assert_eq!(
        found,
        json!({
            "id": "a", "path": machine.uri("work/p"), "warnings": [], "error": null,
            "plugin": {
                "manifest": file(&machine, "work/p/.codex-plugin/plugin.json", manifest),
                "mcpConfig": file(&machine, "work/p/.mcp.json", "{\"mcpServers\": {}}"),
                "appsConfig": file(&machine, "work/p/apps.json", "{}"),
            },
            "skills": [
                {
                    "instructions": file(&machine, "work/p/.hidden/a/SKILL.md", "anything"),
                    "metadata": file(&machine, "work/p/.hidden/a/agents/openai.yaml", "policy: {}\n"),
                },
                {"instructions": file(&machine, "work/p/skills/b/SKILL.md", DEPLOY), "metadata": null},
            ],
            "namespaceManifests": [
                file(&machine, "work/p/.codex-plugin/plugin.json", manifest),
                file(&machine, "work/p/sub/.cursor-plugin/plugin.json", "{\"name\": \"sub\"}"),
            ],
        })
    );
    let below = machine.root("work/p/skills").await;
    assert_eq!(below["plugin"], Value::Null, "only the root itself is the plugin");
    assert_eq!(
        below["namespaceManifests"],
        json!([file(&machine, "work/p/.codex-plugin/plugin.json", manifest)]),
        "the nearest one above names it"
    );
}

#[tokio::test]
async fn each_root_keeps_its_place_and_what_cannot_be_read_is_told() {
    let mut machine = Machine::start().await;
    machine.write("work/ok/SKILL.md", DEPLOY);
    machine.write("work/plain", "no directory");
    machine.write("work/odd/large/SKILL.md", &"x".repeat((1 << 20) + 1));
    std::fs::create_dir_all(machine.path("work/odd/binary")).unwrap();
    std::fs::write(machine.path("work/odd/binary/SKILL.md"), b"\xff\xfe").unwrap();
    let root = |id: &str, path: String| json!({"id": id, "path": path});
    let roots = [
        root("a", machine.uri("work/missing")),
        root("b", machine.uri("work/ok")),
        root("a", machine.uri("work/plain")),
        root("b", machine.uri("work/ok")),
        root("c", "file:///C:/x".into()),
        root("d", machine.uri("work/odd")),
    ];
    let found = machine.client.ok("capabilityRoots/discoverV1", json!({"roots": roots})).await;
    let found = found["roots"].as_array().unwrap();
    let ids: Vec<&str> = found.iter().map(|root| root["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "a", "b", "c", "d"]);
    for (at, words) in [(0, "No such file"), (2, "not a directory"), (4, "another host")] {
        let error = found[at]["error"].as_str().unwrap_or_default();
        assert!(error.contains(words) && found[at]["plugin"].is_null(), "{}", found[at]);
    }
    assert_eq!(found[1], found[3]);
    assert_eq!((found[1]["skills"].as_array().unwrap().len(), &found[1]["error"]), (1, &Value::Null));
    let warnings = found[5]["warnings"].to_string();
    assert!(warnings.contains("large/SKILL.md exceeds 1048576 bytes"), "{warnings}");
    assert!(warnings.contains("binary/SKILL.md is not valid UTF-8"), "{warnings}");
    assert_eq!(found[5]["skills"], json!([]));
    for params in [json!({}), json!({"roots": [{"id": "a"}]}), json!({"roots": [{"path": "file:///"}]})] {
        assert_eq!(machine.client.refused("capabilityRoots/discoverV1", params).await, -32602);
    }
    let many = json!({"roots": vec![root("a", machine.uri("work/ok")); 65]});
    assert_eq!(machine.client.refused("capabilityRoots/discoverV1", many).await, -32602);
}

#[tokio::test]
async fn the_skills_of_the_servers_user_are_found_with_what_they_say_of_themselves() {
    let mut machine = Machine::start().await;
    let info = machine.client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["capabilityDiscoveryV2"], true);
    assert_eq!(machine.installed().await, json!({"plugins": [], "skills": [], "warnings": []}));
    for (name, text) in [
        ("home/.codex/skills/deploy/SKILL.md", DEPLOY),
        ("home/.codex/skills/more/deep/SKILL.md", "---\ndescription: >-\n  Two\n  lines.\n---\n"),
        (
            "home/.codex/skills/more/deep/agents/openai.yaml",
            "interface:\n  short_description: Deep\npolicy:\n  allow_implicit_invocation: false\n\
             dependencies:\n  tools:\n    - type: mcp\n      value: docs\n",
        ),
        ("home/.agents/skills/other/SKILL.md", "---\nname: \"other: one\"\ndescription: 'Other.'\n---\nbody"),
        ("home/.agents/skills/bad/SKILL.md", "no front matter"),
        ("home/.agents/skills/silent/SKILL.md", "---\nname: silent\n---\n"),
        ("work/.agents/skills/project/SKILL.md", DEPLOY),
    ] {
        machine.write(name, text);
    }
    let found = machine.installed().await;
    let codex = json!({"id": "codex-home-skills", "path": machine.uri("home/.codex/skills")});
    let agents = json!({"id": "user-agent-skills", "path": machine.uri("home/.agents/skills")});
    let skill = |name: &str, description: &str, short: Value, path: &str, root: &Value| {
        json!({
            "name": name, "description": description, "shortDescription": short, "path": machine.uri(path),
            "discoveryRoot": root, "dependencies": null, "policy": null,
        })
    };
    let mut deep =
        skill("deep", "Two lines.", "Deep".into(), "home/.codex/skills/more/deep/SKILL.md", &codex);
    deep["dependencies"] = json!({"tools": [{"type": "mcp", "value": "docs"}]});
    deep["policy"] = json!({"allowImplicitInvocation": false, "products": []});
    let expected = [
        skill("deploy", "Ships it.", "Ships".into(), "home/.codex/skills/deploy/SKILL.md", &codex),
        deep,
        skill("other: one", "Other.", Value::Null, "home/.agents/skills/other/SKILL.md", &agents),
    ];
    assert_eq!(found["skills"], json!(expected));
    let warnings = found["warnings"].to_string();
    assert!(
        warnings.contains("bad/SKILL.md is left out") && warnings.contains("silent/SKILL.md is left out")
    );
    assert!(!found.to_string().contains("# Deploy"), "instructions are not part of it");
    assert_eq!(machine.client.refused("capabilities/discoverV2", json!({})).await, -32602);
}

#[tokio::test]
async fn two_thousand_skills_are_found() {
    let mut machine = Machine::start().await;
    for number in 0..2000 {
        let text =
            format!("---\nname: skill-{number}\ndescription: Does {number}.\n---\n{}", "x".repeat(2000));
        machine.write(&format!("home/.codex/skills/s{number}/SKILL.md"), &text);
    }
    let found = machine.installed().await;
    assert_eq!(found["skills"].as_array().unwrap().len(), 2000);
    assert_eq!(found["warnings"], json!([]));
}

#[tokio::test]
async fn a_sandbox_hides_what_it_does_not_let_be_read() {
    if !enforceable() {
        return;
    }
    let mut machine = Machine::start().await;
    machine.write("work/p/open/SKILL.md", DEPLOY);
    machine.write("work/p/closed/SKILL.md", DEPLOY);
    machine.write("home/.codex/skills/deploy/SKILL.md", DEPLOY);
    let sandbox = |denied: &str| {
        json!({
            "permissions": {"type": "managed", "network": "restricted", "file_system": {"type": "restricted", "entries": [
                {"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"},
                {"path": {"type": "path", "path": denied}, "access": "deny"},
            ]}},
            "cwd": machine.uri("work"), "workspaceRoots": [], "windowsSandboxLevel": "disabled",
        })
    };
    let closed = sandbox(&machine.uri("work/p/closed"));
    let asked = json!({"roots": [
        {"id": "a", "path": machine.uri("work/p"), "sandbox": closed},
        {"id": "b", "path": machine.uri("work/p/closed"), "sandbox": closed},
    ]});
    let home = json!({"cwd": machine.uri("work"), "sandbox": sandbox(&machine.uri("home"))});
    let found = machine.client.ok("capabilityRoots/discoverV1", asked).await;
    let skills = found["roots"][0]["skills"].as_array().unwrap();
    assert_eq!(skills.len(), 1, "{found}");
    assert_eq!(skills[0]["instructions"]["path"], machine.uri("work/p/open/SKILL.md"));
    assert!(found["roots"][1]["error"].is_string() && found["roots"][1]["skills"] == json!([]), "{found}");
    let installed = machine.client.ok("capabilities/discoverV2", home).await;
    assert_eq!(installed["skills"], json!([]), "{installed}");
}
