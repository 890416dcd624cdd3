//! `environmentConfig/read` (12.1): what is given is TOML, has nothing but what was asked for, and all of that.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use codex_config::selection::{Selector, select};
use codex_fuzz::target;
use toml::{Table, Value};

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(codex_fuzz::directory);

fn at<'v>(table: &'v Table, path: &[String]) -> Option<&'v Value> {
    let (last, outer) = path.split_last()?;
    let mut table = table;
    for part in outer {
        table = table.get(part)?.as_table()?;
    }
    table.get(last)
}

target!(|input: (Vec<Vec<String>>, &str)| {
    let (mut paths, text) = input;
    paths.retain(|path| !path.is_empty());
    let (root, nothing) = (DIR.path(), Vec::new());
    std::fs::create_dir_all(root.join("home")).expect("a directory");
    std::fs::write(root.join("home/config.toml"), text).expect("a file");
    let asked = Selector {
        home: &root.join("home"),
        system: &root.join("system"),
        cwd: &root.join("work"),
        config: &paths,
        requirements: &nothing,
    };
    let Ok(found) = select(&asked) else { return };
    let Ok(whole) = text.trim_start_matches('\u{feff}').parse::<Table>() else { return };
    let told = found.config.layers.first().map(|layer| layer.text.parse::<Table>().expect("TOML"));
    for path in &paths {
        let expected = at(&whole, path).map(ToString::to_string);
        let given = told.as_ref().and_then(|told| at(told, path)).map(ToString::to_string);
        assert_eq!(given, expected, "{path:?}");
    }
    for name in told.iter().flat_map(Table::keys) {
        assert!(paths.iter().any(|path| path[0] == *name), "{name:?} was not asked for");
    }
});
