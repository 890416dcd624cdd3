//! `config.toml`, `managed_config.toml`, `requirements.toml` and `-c` (login.md 12): a fault has its place, and a server
//! never goes on without what says who may connect.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use codex_config::{ConfigError, Overrides, Sources, load, load_exec_server};
use codex_fuzz::target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    strict: bool,
    which: u8,
    dash_c: Vec<&'a str>,
    enable: Vec<&'a str>,
    text: &'a str,
}

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(codex_fuzz::directory);

target!(|input: Input<'_>| {
    let root = DIR.path();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let Ok(overrides) = Overrides::parse(&owned(&input.dash_c), &owned(&input.enable), &[]) else { return };
    let files = ["home/config.toml", "system/managed_config.toml", "system/requirements.toml"];
    let file = root.join(files[usize::from(input.which) % files.len()]);
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
    std::fs::write(&file, input.text).expect("a file");
    let sources = Sources {
        home: root.join("home"),
        system: root.join("system"),
        cwd: root.join("work"),
        overrides,
        strict: input.strict,
    };
    let loaded = load(&sources);
    if let Err(ConfigError::File { line, column, .. }) = &loaded {
        let lines: Vec<&str> =
            input.text.strip_prefix('\u{feff}').unwrap_or(input.text).split('\n').collect();
        assert!((1..=lines.len()).contains(line), "line {line}");
        assert!((1..=lines[line - 1].chars().count() + 1).contains(column), "column {column}");
    }
    let server = load_exec_server(&sources);
    if let (Ok(whole), Some(part)) = (&loaded, &server) {
        assert_eq!(whole.exec_server, *part, "what is good is read alike");
    }
    if loaded.is_err() && input.text.contains("exec_server") && input.text.contains("ws_auth") {
        let settings = server.map(|settings| format!("{settings:?}"));
        let known = toml::from_str::<toml::Table>(input.text).is_ok();
        assert!(
            known
                || files[usize::from(input.which) % files.len()].ends_with("requirements.toml")
                || settings.is_none()
        );
    }
    std::fs::remove_file(&file).expect("the file goes");
});
