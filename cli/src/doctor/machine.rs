//! What is looked at on this machine.

use std::time::{Duration, Instant, SystemTime};

use codex_exec_server::process::Groups;
use codex_exec_server::sandbox::Confiner;
use codex_login::SignInKind;
use codex_outgoing::{Outgoing, ca_certificates};
use rustix::fs::{Access, access};

use super::report::{Check, Report, Status};
use crate::login::Context;
use crate::setup::Setup;

/// A clock that is this much behind the program's own file is wrong. A safeguard, far from any real use.
const LEAST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// The variables that name proxies.
const PROXIES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// Which sandboxes the machine can enforce, and which bounds it can keep.
pub(super) fn sandbox(confiner: &Confiner, report: &mut Report) {
    let since = Instant::now();
    for finding in confiner.abilities().findings() {
        let id = format!("sandbox.{}", slug(finding.what));
        let check = Check::ok(&id, "sandbox", finding.what, finding.said, since);
        report.add(if finding.good { check } else { check.but(Status::Warning, finding.commands) });
    }
    let since = Instant::now();
    // It is asked for by few, and refused up front without, so it is no fault either.
    let transparent = match confiner.network_devices() {
        Ok(()) => "programs that know of no proxy reach what they may".to_owned(),
        Err(why) => format!("refused where it is asked for, since there are no network devices: {why}"),
    };
    report.add(Check::ok("sandbox.transparent-tcp", "sandbox", "transparent TCP", transparent, since));
    let since = Instant::now();
    // Of this command's cgroup, since which server is meant can't be known. Resource limits do as well, so they are no fault.
    report.add(Check::ok("limits.groups", "limits", "limits", Groups::describe().to_string(), since));
}

fn slug(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// Home, configuration, credentials, clock, proxy, certificates.
pub(super) fn surroundings(setup: &Setup, report: &mut Report) {
    for check in [home(setup), configuration(setup), credentials(setup), clock(), proxy(), certificates()] {
        report.add(check);
    }
}

fn home(setup: &Setup) -> Check {
    let since = Instant::now();
    let check = |summary| Check::ok("home.directory", "home", "home directory", summary, since);
    match setup.own_home() {
        None => check(
            "there is none of this user's own, so nothing is kept or configured; CODEX_HOME may name one"
                .into(),
        ),
        Some(home) if !home.exists() => {
            check(format!("{} does not exist yet; it is made when something is kept", home.display()))
        }
        Some(home) => match access(&home, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => check(format!("{} can be used", home.display())),
            Err(error) => check(format!("{} can't be written: {error}", home.display()))
                .but(Status::Warning, vec![format!("chown -R \"$(id -un)\" {}", home.display())]),
        },
    }
}

fn configuration(setup: &Setup) -> Check {
    let since = Instant::now();
    let check = |summary| Check::ok("config.load", "config", "configuration", summary, since);
    match setup.load() {
        Ok((_, config)) if config.warnings.is_empty() => check("it can be read".into()),
        Ok((_, config)) => check(config.warnings.join("; "))
            .but(Status::Warning, vec!["mend config.toml in the home directory".into()]),
        Err(error) => check(error.to_string()).but(
            Status::Fail,
            vec!["mend config.toml in the home directory, or the -c of this command".into()],
        ),
    }
}

fn credentials(setup: &Setup) -> Check {
    let since = Instant::now();
    let check = |summary: &str| Check::ok("auth.stored", "auth", "credentials", summary.to_owned(), since);
    let sign_in = || vec!["codex login".to_owned()];
    let Ok(context) = Context::load_unlogged(setup) else {
        return check("not looked at, since the configuration can't be read");
    };
    let stored = match context.settings.store.load() {
        Ok(Some(stored)) => stored,
        // An exec-server needs none, nor does who uses one by its own token.
        Ok(None) => return check("nobody is signed in, which only registries of the service need"),
        Err(error) => return check(&format!("they can't be read: {error}")).but(Status::Fail, sign_in()),
    };
    let kind = match stored.kind() {
        SignInKind::ApiKey => "an API key",
        SignInKind::PersonalAccessToken => "a personal access token",
        _ => "a sign-in with ChatGPT",
    };
    let Some(tokens) = stored.tokens() else { return check(&format!("there is {kind}")) };
    match tokens.access_expiry() {
        // It is renewed when it is used.
        Some(expiry) if expiry <= jiff::Timestamp::now() && tokens.refresh_token().is_blank() => {
            check(&format!("{kind}, which expired at {expiry}")).but(Status::Fail, sign_in())
        }
        Some(expiry) => check(&format!("there is {kind}")).with("accessTokenExpires", expiry.to_string()),
        None => check(&format!("there is {kind}")),
    }
}

/// Tokens and certificates hold for a time. Nobody is asked what time it is, so only a clock that must be wrong is found.
fn clock() -> Check {
    let since = Instant::now();
    let check = |summary: &str| Check::ok("clock.plausible", "clock", "clock", summary.to_owned(), since);
    let built = std::env::current_exe().and_then(|own| own.metadata()).and_then(|own| own.modified());
    match built.ok().and_then(|built| built.duration_since(SystemTime::now()).ok()) {
        Some(behind) if behind > LEAST_DELAY => check("it is behind the time at which this program was made")
            .but(Status::Fail, vec!["sudo timedatectl set-ntp true".into()]),
        _ => check("it is plausible"),
    }
}

fn proxy() -> Check {
    let since = Instant::now();
    let either = |name: &str| {
        let text = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase())).ok()?;
        (!text.trim().is_empty()).then_some(text)
    };
    let check = |summary: String| Check::ok("network.proxy", "network", "proxy", summary, since);
    let set: Vec<_> = PROXIES.iter().filter_map(|name| Some((*name, either(name)?))).collect();
    // A proxy's address may hold a password, so no value is shown.
    let wrong: Vec<_> = set.iter().filter(|(_, value)| !is_proxy(value)).map(|(name, _)| *name).collect();
    if !wrong.is_empty() {
        let remedy = wrong.iter().map(|name| format!("export {name}=http://HOST:PORT")).collect();
        return check(format!("{} can't be used: it is no address", wrong.join(", ")))
            .but(Status::Fail, remedy);
    }
    match set.as_slice() {
        [] => check("none is set".into()),
        set => check(format!("{} is used", set.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))),
    }
}

fn is_proxy(value: &str) -> bool {
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    url::Url::parse(&whole).is_ok_and(|url| {
        url.has_host() && ["http", "https", "socks4", "socks4a", "socks5", "socks5h"].contains(&url.scheme())
    })
}

fn certificates() -> Check {
    let since = Instant::now();
    let lookup = |name: &str| std::env::var(name).ok();
    let check =
        |summary: String| Check::ok("network.certificates", "network", "certificates", summary, since);
    let file = ca_certificates(&lookup);
    match (Outgoing::from_lookup(lookup).http(), file) {
        (Ok(_), None) => check("those of the machine are trusted".into()),
        (Ok(_), Some(file)) => check(format!("those of the machine and of {} are trusted", file.display())),
        (Err(error), _) => check(error.to_string())
            .but(Status::Fail, vec!["unset CODEX_CA_CERTIFICATE SSL_CERT_FILE".into()]),
    }
}
