//! A real Secret Service on a private bus, with a keyring of its own that is unlocked; installed when it is missing.

use crate::GUARD;
use crate::turn::Turn;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the tests need on this machine.
const PROGRAMS: [&str; 4] = ["dbus-daemon", "dbus-send", "gnome-keyring-daemon", "secret-tool"];
/// Where Debian and its kin have them.
const PACKAGES: [&str; 3] = ["dbus", "gnome-keyring", "libsecret-tools"];
/// A bus that starts nothing by itself.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir=DIRECTORY</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A private bus, with or without a keyring on it. Both end with this value.
pub struct SecretService {
    keyring: Option<Child>,
    bus: Child,
    address: String,
    directory: TempDir,
}

impl SecretService {
    /// Starts a bus with an unlocked, empty keyring. None on a machine that can't have one, which is said aloud; a
    /// failure when the variable `CI` is set.
    pub fn start() -> Option<Self> {
        let mut service = Self::start_without_keyring()?;
        match service.start_keyring() {
            Ok(()) => Some(service),
            Err(reason) => missing(&reason),
        }
    }

    /// Starts a bus that nobody serves secrets on. None as in [`SecretService::start`].
    pub fn start_without_keyring() -> Option<Self> {
        match install().and_then(|()| Self::start_bus()) {
            Ok(service) => Some(service),
            Err(reason) => missing(&reason),
        }
    }

    fn start_bus() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let config = directory.path().join("bus.conf");
        let text = BUS.replace("DIRECTORY", &directory.path().display().to_string());
        std::fs::write(&config, text).map_err(|error| error.to_string())?;
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("dbus-daemon: {error}"))?;
        let mut address = String::new();
        if let Some(stdout) = bus.stdout.take() {
            BufReader::new(stdout).read_line(&mut address).map_err(|error| error.to_string())?;
        }
        let address = address.trim().to_owned();
        let service = Self { keyring: None, bus, address, directory };
        if service.address.is_empty() { Err("dbus-daemon gave no address".into()) } else { Ok(service) }
    }

    fn start_keyring(&mut self) -> Result<(), String> {
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--unlock", "--components=secrets"]);
        let mut keyring = self
            .on(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("gnome-keyring-daemon: {error}"))?;
        if let Some(mut stdin) = keyring.stdin.take() {
            stdin.write_all(b"\n").map_err(|error| format!("gnome-keyring-daemon: {error}"))?;
        }
        let keyring = self.keyring.insert(keyring);
        let (start, directory, address) = (Instant::now(), &self.directory, &self.address);
        while !is_served(directory, address) {
            if let Some(status) = keyring.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("gnome-keyring-daemon ended: {status}"));
            }
            if start.elapsed() > GUARD {
                return Err("gnome-keyring-daemon does not serve secrets".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Makes `command` use this bus, and a home of its own.
    pub fn on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        on(command, &self.directory, &self.address)
    }

    /// The bus' address, for `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for SecretService {
    fn drop(&mut self) {
        for child in self.keyring.iter_mut().chain([&mut self.bus]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn on<'a>(command: &'a mut Command, directory: &TempDir, address: &str) -> &'a mut Command {
    command
        .env("DBUS_SESSION_BUS_ADDRESS", address)
        .env("HOME", directory.path())
        .env("XDG_RUNTIME_DIR", directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .env("XDG_CACHE_HOME", directory.path())
        .env("XDG_CONFIG_HOME", directory.path())
}

/// Whether somebody serves secrets, and has an unlocked collection for them.
fn is_served(directory: &TempDir, address: &str) -> bool {
    let ask = |args: &[&str]| {
        let mut command = Command::new("dbus-send");
        command.args(["--session", "--print-reply"]).args(args).stdin(Stdio::null());
        on(&mut command, directory, address).output().is_ok_and(|output| {
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success()
                && (answer.contains("boolean true") || answer.contains("/collection/login"))
        })
    };
    ask(&[
        "--dest=org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus.NameHasOwner",
        "string:org.freedesktop.secrets",
    ]) && ask(&[
        "--dest=org.freedesktop.secrets",
        "/org/freedesktop/secrets",
        "org.freedesktop.Secret.Service.ReadAlias",
        "string:default",
    ])
}

/// Installs what is missing, once for all test processes.
fn install() -> Result<(), String> {
    if PROGRAMS.into_iter().all(is_installed) {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!("{PROGRAMS:?} are not all installed, and only root can: install {PACKAGES:?}"));
    }
    let _turn = Turn::wait("install");
    if !PROGRAMS.into_iter().all(is_installed) {
        let options = ["-q", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=300"];
        apt_get(&options, &["update"])?;
        apt_get(&options, &[&["install", "-y", "--no-install-recommends"][..], &PACKAGES].concat())?;
    }
    if PROGRAMS.into_iter().all(is_installed) { Ok(()) } else { Err(format!("{PACKAGES:?} lack a program")) }
}

fn apt_get(options: &[&str], args: &[&str]) -> Result<(), String> {
    let output = Command::new("apt-get")
        .args(options)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("apt-get: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("apt-get {args:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Says aloud that a test is skipped. Straight to stderr: the test harness hides what passing tests print.
fn missing<T>(reason: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "no Secret Service to test with: {reason}");
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: no Secret Service to test with: {reason}");
    None
}
