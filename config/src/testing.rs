//! A machine of temporary directories for the tests of loading.

use std::path::{Path, PathBuf};

use crate::{Config, ConfigError, Overrides, Sources, load};

pub(crate) struct Machine {
    _dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) cwd: PathBuf,
    pub(crate) strict: bool,
}

impl Machine {
    /// With the directories `home`, `etc` and `work`; the last is the working directory.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["home", "etc", "work"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        Self { _dir: dir, cwd: root.join("work"), root, strict: false }
    }

    /// With a `config.toml` in the home directory.
    pub(crate) fn with(text: &str) -> Self {
        let machine = Self::new();
        machine.write("home/config.toml", text);
        machine
    }

    pub(crate) fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Writes a file, and its directories; `$` stands for the machine's root.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace('$', self.root.to_str().unwrap())).unwrap();
    }

    pub(crate) fn at(&mut self, cwd: &str) {
        self.cwd = self.root.join(cwd);
        std::fs::create_dir_all(&self.cwd).unwrap();
    }

    pub(crate) fn sources(&self, dash_c: &[&str]) -> Sources {
        let root = self.root.to_str().unwrap();
        let dash_c: Vec<String> = dash_c.iter().map(|text| text.replace('$', root)).collect();
        Sources {
            home: self.root.join("home"),
            system: self.root.join("etc"),
            cwd: self.cwd.clone(),
            overrides: Overrides::parse(&dash_c, &[], &[]).unwrap(),
            strict: self.strict,
        }
    }

    pub(crate) fn load(&self, dash_c: &[&str]) -> Result<Config, ConfigError> {
        load(&self.sources(dash_c))
    }

    pub(crate) fn config(&self) -> Config {
        self.load(&[]).unwrap()
    }

    /// The error's text, with `$` for the machine's root.
    pub(crate) fn error(&self, dash_c: &[&str]) -> String {
        let error = self.load(dash_c).expect_err("a configuration that can't be used");
        assert!(!error.one_line().contains('\n'), "{error:?}");
        error.to_string().replace(self.root.to_str().unwrap(), "$")
    }
}

/// Makes a named pipe that nobody writes to.
pub(crate) fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// Makes a repository's `.git` directory.
pub(crate) fn repository(dir: &Path) {
    std::fs::create_dir_all(dir.join(".git")).unwrap();
    std::fs::write(dir.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
}
