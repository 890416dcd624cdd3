//! The words that name ports: `[LOCAL:]REMOTE`.

use std::str::FromStr;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an address, without brackets.
    pub(super) host: String,
    /// 0 only where a free one will do.
    pub(super) port: u16,
}

/// What is forwarded: where to listen, and where connections lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(super) listen: Place,
    pub(super) target: Place,
}

/// The address that is meant where none is named.
pub(super) const LOOPBACK: &str = "127.0.0.1";

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} names no ports: expected PORT, HOST:PORT, LOCAL:PORT, LOCAL:HOST:PORT or ADDRESS:LOCAL:HOST:PORT"
            )
        };
        let parts = parts(text).ok_or_else(wrong)?;
        let is_port = |part: &str| part.parse::<u16>().is_ok();
        let port = |part: &str| part.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let free =
            |part: &str| if part.is_empty() { Ok(0) } else { part.parse::<u16>().map_err(|_| wrong()) };
        let (address, local, host, remote) = match parts.as_slice() {
            [remote] => (LOOPBACK, port(remote)?, LOOPBACK, remote),
            [local, remote] if local.is_empty() || is_port(local) => {
                (LOOPBACK, free(local)?, LOOPBACK, remote)
            }
            [host, remote] => (LOOPBACK, port(remote)?, *host, remote),
            [local, host, remote] if local.is_empty() || is_port(local) => {
                (LOOPBACK, free(local)?, *host, remote)
            }
            [address, local, remote] => (*address, free(local)?, LOOPBACK, remote),
            [address, local, host, remote] => (*address, free(local)?, *host, remote),
            _ => return Err(wrong()),
        };
        if address.is_empty() || host.is_empty() {
            return Err(wrong());
        }
        let place = |host: &str, port| Place { host: host.to_owned(), port };
        Ok(Self { listen: place(address, local), target: place(host, port(remote)?) })
    }
}

impl Words {
    /// A port of this host there, at this port here; 0 for any.
    pub(crate) fn of_port(here: u16, host: &str, port: u16) -> Self {
        let place = |host: &str, port| Place { host: host.to_owned(), port };
        Self { listen: place(LOOPBACK, here), target: place(host, port) }
    }
}

/// The local end alone: `[ADDRESS:]PORT`, for a proxy.
pub(super) fn listen_only(text: &str) -> Result<Place, String> {
    let wrong = || format!("{text:?} names no port: with --socks expected PORT or ADDRESS:PORT");
    match parts(text).ok_or_else(wrong)?.as_slice() {
        [port] => Ok(Place { host: LOOPBACK.to_owned(), port: port.parse().map_err(|_| wrong())? }),
        [host, port] if !host.is_empty() => {
            Ok(Place { host: (*host).to_owned(), port: port.parse().map_err(|_| wrong())? })
        }
        _ => Err(wrong()),
    }
}

/// Cuts at colons, but not within brackets, which go away.
fn parts(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let (part, behind) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (part, behind) = inner.split_once(']')?;
                (part, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
            }
            None => rest.split_once(':').map_or((rest, None), |(part, behind)| (part, Some(behind))),
        };
        found.push(part);
        match behind {
            Some(behind) => rest = behind,
            None => return Some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_as_ssh_docker_and_kubectl_name_them() {
        for (text, listen, target) in [
            ("80", "127.0.0.1:80", "127.0.0.1:80"),
            ("8080:80", "127.0.0.1:8080", "127.0.0.1:80"),
            (":80", "127.0.0.1:0", "127.0.0.1:80"),
            ("0:80", "127.0.0.1:0", "127.0.0.1:80"),
            ("db:5432", "127.0.0.1:5432", "db:5432"),
            ("8080:db:5432", "127.0.0.1:8080", "db:5432"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080", "127.0.0.1:80"),
            ("0.0.0.0::80", "0.0.0.0:0", "127.0.0.1:80"),
            ("[::1]:8080:[fe80::1]:80", "[::1]:8080", "[fe80::1]:80"),
            ("localhost:1:h:2", "localhost:1", "h:2"),
        ] {
            let words: Words = text.parse().unwrap();
            assert_eq!(
                (words.listen.to_string(), words.target.to_string()),
                (listen.into(), target.into()),
                "{text}"
            );
        }
        for wrong in ["", "0", "x", "8080:0", "65536", "1:2:3:4:5", "[::1:80", "80:", "[::1]80"] {
            assert!(wrong.parse::<Words>().unwrap_err().contains("expected PORT"), "{wrong}");
        }
        assert_eq!(listen_only("1080").unwrap().to_string(), "127.0.0.1:1080");
        assert_eq!(listen_only("[::]:0").unwrap().to_string(), "[::]:0");
        assert!(listen_only("1080:h:1").is_err());
    }
}
