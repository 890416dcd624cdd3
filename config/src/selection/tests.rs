//! Which layers a client gets to see, and how little of them.

use super::*;
use crate::testing::{Machine, repository};

fn paths(dotted: &[&str]) -> Vec<Vec<String>> {
    dotted.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
}

/// What is told of a machine, with `$` for its root: each layer as its source and its text.
fn told(machine: &Machine, config: &[&str], requirements: &[&str]) -> (Vec<String>, Vec<String>, [usize; 2]) {
    let (config, requirements) = (paths(config), paths(requirements));
    let root = machine.root.to_str().unwrap();
    let (home, system) = (machine.root.join("home"), machine.root.join("etc"));
    let selected = select(&Selector {
        home: &home,
        system: &system,
        cwd: &machine.cwd,
        config: &config,
        requirements: &requirements,
    })
    .unwrap();
    let indexes = [selected.config.cloud_insertion_index, selected.requirements.cloud_insertion_index];
    let lines = |layers: SelectedLayers| {
        let line = |layer: SelectedLayer| format!("{}: {}", layer.source, layer.text.trim_end());
        layers.layers.into_iter().map(|layer| line(layer).replace(root, "$")).collect()
    };
    (lines(selected.config), lines(selected.requirements), indexes)
}

#[test]
fn a_layer_shows_the_keys_that_were_asked_for_and_nothing_else() {
    let machine = Machine::with(
        "model = 'x'\nsecret = 'never told'\nlist = [1, 2]\n[a]\nb = 1\nc = { d = 2, e = 3 }\n[empty]\n'dotted.key' = 4\n",
    );
    for (asked, text) in [
        (&["model"][..], "model = \"x\""),
        (&["a.b"], "[a]\nb = 1"),
        (&["a.c.d", "a.b"], "[a]\nb = 1\n\n[a.c]\nd = 2"),
        (&["a", "a.b"], "[a]\nb = 1\n\n[a.c]\nd = 2\ne = 3"),
        // What stands in the way replaces a lower layer's table, so it is told.
        (&["list.x", "model.y.z"], "list = [1, 2]\nmodel = \"x\""),
        (&["a.b.x"], "[a]\nb = 1"),
    ] {
        let (config, requirements, indexes) = told(&machine, asked, &[]);
        assert_eq!(config, [format!("user ($/home/config.toml): {text}")], "{asked:?}");
        assert!(requirements.is_empty() && indexes == [0, 0], "{asked:?}");
    }
    for asked in [&["nosuch"][..], &["a.nosuch"], &["a.c.nosuch", "empty.dotted"]] {
        assert_eq!(told(&machine, asked, &["model"]).0, [""; 0], "{asked:?}");
    }
    let key = [vec!["empty".to_owned(), "dotted.key".to_owned()]];
    assert_eq!(piece(&toml::from_str("empty.'dotted.key' = 4").unwrap(), &key[0]).unwrap().len(), 1);
}

#[test]
fn layers_come_lowest_first_and_a_project_only_if_it_is_trusted() {
    let mut machine = Machine::with("m.a = 'user'\n[projects.'$/work']\ntrust_level = 'untrusted'");
    machine.at("work/sub");
    repository(&machine.root.join("work"));
    machine.write("etc/config.toml", "m.a = 'system'\nother = 1");
    machine.write("etc/managed_config.toml", "m.a = 'managed'");
    machine.write("etc/requirements.toml", "m.a = 'demand'\nother = 2");
    machine.write("work/.codex/config.toml", "m.a = 'project'\nmodel_provider = 'no'");
    machine.write("work/sub/.codex/config.toml", "m.b = 'sub'");
    let line = |source: &str, text: &str| format!("{source}: [m]\n{text}");
    let (system, user) = (
        line("system ($/etc/config.toml)", "a = \"system\""),
        line("user ($/home/config.toml)", "a = \"user\""),
    );
    let managed = line("legacy managed_config.toml ($/etc/managed_config.toml)", "a = \"managed\"");
    let (config, requirements, indexes) = told(&machine, &["m"], &["m"]);
    assert_eq!(config, [system.clone(), user.clone(), managed.clone()]);
    assert_eq!(requirements, [line("system ($/etc/requirements.toml)", "a = \"demand\"")]);
    assert_eq!(indexes, [1, 1], "behind the system's own");

    machine.write("home/config.toml", "m.a = 'user'\n[projects.'$/work']\ntrust_level = 'trusted'");
    let project = line("project ($/work/.codex/config.toml)", "a = \"project\"");
    let sub = line("project ($/work/sub/.codex/config.toml)", "b = \"sub\"");
    assert_eq!(told(&machine, &["m"], &[]).0, [system, user, project, sub, managed]);
    assert_eq!(told(&machine, &["model_provider"], &[]).0, [""; 0], "no project sets this");
    assert_eq!(told(&machine, &["m.b"], &[]).2, [0, 0], "the system has nothing of it");
}

#[test]
fn a_file_that_is_no_toml_is_an_error_that_names_it() {
    let machine = Machine::with("model = \n");
    let (home, config) = (machine.root.join("home"), paths(&["mcp_servers"]));
    let selector =
        Selector { home: &home, system: &home, cwd: &machine.cwd, config: &config, requirements: &[] };
    let error = select(&selector).unwrap_err().one_line();
    assert!(error.contains("home/config.toml:1:9: "), "{error}");
    assert!(select(&Selector { config: &[], ..selector }).is_ok(), "a file that nobody asks for is not read");
}
