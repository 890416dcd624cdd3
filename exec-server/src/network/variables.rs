//! The environment variables by which programs find their proxy (13).

use std::ffi::OsString;

/// Variables of an HTTP proxy in upper case; most tools know the lower-case form too.
const HTTP: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "WS_PROXY",
    "WSS_PROXY",
    "FTP_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY",
    "PIP_PROXY",
    "DOCKER_HTTP_PROXY",
    "DOCKER_HTTPS_PROXY",
];
/// Variables of an HTTP proxy with exact names: npm reads its own in lower case.
const NPM: [&str; 6] = [
    "npm_config_proxy",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
];
/// Hosts that are not to be asked of the proxy: none, or those that may be reached without.
const EXCEPT: [&str; 7] = [
    "NO_PROXY",
    "no_proxy",
    "npm_config_noproxy",
    "NPM_CONFIG_NOPROXY",
    "YARN_NO_PROXY",
    "BUNDLE_NO_PROXY",
    "DOCKER_NO_PROXY",
];

/// What may be reached without the proxy where local addresses are allowed: loopback, which in a network of its own is the
/// program's, and private ranges. Not every tool knows ranges.
const LOCAL: &str = "localhost,127.0.0.1,::1,127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";

/// Points a program at its proxy on loopback, whatever its variables said before. `local` says whether local addresses are
/// allowed.
pub(crate) fn point_at(env: &mut Vec<(OsString, OsString)>, port: u16, socks: bool, local: bool) {
    let http = format!("http://127.0.0.1:{port}");
    let all = if socks { format!("socks5h://127.0.0.1:{port}") } else { http.clone() };
    let mut ours: Vec<(String, String)> = Vec::new();
    for name in HTTP {
        ours.push((name.to_owned(), http.clone()));
        ours.push((name.to_lowercase(), http.clone()));
    }
    ours.extend(NPM.map(|name| (name.to_owned(), http.clone())));
    ours.extend(["ALL_PROXY", "all_proxy"].map(|name| (name.to_owned(), all.clone())));
    let except = if local { LOCAL } else { "" };
    ours.extend(EXCEPT.map(|name| (name.to_owned(), except.to_owned())));
    ours.push(("CODEX_NETWORK_PROXY_ACTIVE".to_owned(), "1".to_owned()));
    let local = if local { "1" } else { "0" };
    ours.push(("CODEX_NETWORK_ALLOW_LOCAL_BINDING".to_owned(), local.to_owned()));
    env.retain(|(name, _)| !ours.iter().any(|(our, _)| name == our.as_str()));
    env.extend(ours.into_iter().map(|(name, value)| (name.into(), value.into())));
    env.sort();
}
