//! Where the program is brought: `ssh://user@host`, `docker://container`, `kubectl://namespace/pod`, and chains of them.

use std::fmt;
use std::str::FromStr;

/// A way to a machine: one hop, or several, each made from the machine before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    hops: Vec<Hop>,
}

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// By `ssh`.
    Ssh {
        /// Who logs in; ssh's configuration decides when absent.
        user: Option<String>,
        /// A name that ssh knows, from its configuration too, or an address.
        host: String,
        /// ssh's configuration decides when absent.
        port: Option<u16>,
    },
    /// By `docker exec`.
    Docker {
        /// The user inside; the container's own when absent.
        user: Option<String>,
        /// The container's name or id.
        container: String,
    },
    /// By `kubectl exec`.
    Kubectl {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// Which of the pod's containers; its default when absent.
        container: Option<String>,
    },
}

/// Why a text names no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no way to a machine: {problem}")]
pub struct TargetError {
    text: String,
    problem: String,
}

/// Each hop doubles the quotes of the ones behind it. A safeguard, far from any real use.
const MOST_HOPS: usize = 5;

/// The schemes that a target begins with.
const SCHEMES: [&str; 3] = ["ssh", "docker", "kubectl"];

impl Target {
    /// Whether a text is meant as a way of this kind; it may be wrong all the same.
    pub fn is_meant_by(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
    }

    /// The hops, from here to there; at least one.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The programs of the first hop's machine that this way uses, by name: always the first hop's.
    pub fn program(&self) -> &'static str {
        self.hops.first().map_or("ssh", Hop::program)
    }
}

impl Hop {
    /// The program that makes this step.
    pub const fn program(&self) -> &'static str {
        match self {
            Self::Ssh { .. } => "ssh",
            Self::Docker { .. } => "docker",
            Self::Kubectl { .. } => "kubectl",
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = |problem: String| TargetError { text: text.to_owned(), problem };
        let hops: Vec<Hop> =
            text.split('|').map(|hop| parse(hop.trim())).collect::<Result<_, _>>().map_err(wrong)?;
        if hops.len() > MOST_HOPS {
            return Err(wrong(format!("it has {} hops, and {MOST_HOPS} are the most", hops.len())));
        }
        Ok(Self { hops })
    }
}

fn parse(text: &str) -> Result<Hop, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("expected ssh://USER@HOST:PORT, docker://CONTAINER or kubectl://NAMESPACE/POD".into());
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(word("a user", user, "._-+@\\")?), place),
        None => (None, rest),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    match scheme {
        "ssh" => {
            let (host, port) = host_and_port(place)?;
            Ok(Hop::Ssh { user, host, port })
        }
        "docker" => Ok(Hop::Docker { user, container: word("a container", place, "._-")? }),
        "kubectl" => {
            if user.is_some() {
                return Err("a pod has no user to log in as; leave out what stands before @".into());
            }
            let mut parts = place.split('/');
            let (Some(namespace), Some(pod), container, None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err("expected kubectl://NAMESPACE/POD or kubectl://NAMESPACE/POD/CONTAINER".into());
            };
            Ok(Hop::Kubectl {
                namespace: word("a namespace", namespace, ".-")?,
                pod: word("a pod", pod, ".-")?,
                container: container.map(|name| word("a container", name, ".-")).transpose()?,
            })
        }
        other => Err(format!("nobody knows {other}://; there are ssh://, docker:// and kubectl://")),
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| format!("{text:?} is no port; expected 1 to 65535"))
    };
    if let Some(inside) = text.strip_prefix('[') {
        let Some((address, rest)) = inside.split_once(']') else {
            return Err("the address lacks its closing bracket".into());
        };
        let host = word("an address", address, ":.%")?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((host, Some(port(number)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("{rest:?} after the address is no port")),
        };
    }
    match text.split_once(':') {
        Some((host, number)) => Ok((word("a host", host, "._-")?, Some(port(number)?))),
        None => Ok((word("a host", text, "._-")?, None)),
    }
}

/// A word that the programs take for what it is: not for a flag, and not for anything of a shell.
fn word(what: &str, text: &str, also: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_alphanumeric() || also.contains(letter);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(fits) {
        return Err(format!("{text:?} is no name of {what}"));
    }
    Ok(text.to_owned())
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |user: &Option<String>| user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        match self {
            Self::Ssh { user, host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{}{host}{port}", at(user))
            }
            Self::Docker { user, container } => write!(f, "docker://{}{container}", at(user)),
            Self::Kubectl { namespace, pod, container } => {
                let container = container.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
                write!(f, "kubectl://{namespace}/{pod}{container}")
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, hop) in self.hops.iter().enumerate() {
            let between = if number == 0 { "" } else { "|" };
            write!(f, "{between}{hop}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "ssh://box",
            "ssh://me@box.example:2222",
            "ssh://me@[::1]:22",
            "docker://web_1",
            "docker://root@web_1",
            "kubectl://default/web-0",
            "kubectl://default/web-0/side",
            "ssh://a|docker://b",
            "ssh://a|ssh://b:22|kubectl://c/d",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
            assert!(Target::is_meant_by(text));
        }
        assert_eq!(" ssh://a/ | docker://b ".parse::<Target>().unwrap().to_string(), "ssh://a|docker://b");
        assert!(!Target::is_meant_by("wss://box") && !Target::is_meant_by("sshbox://x"));
    }

    #[test]
    fn what_a_program_or_a_shell_could_take_for_something_else_is_refused() {
        for (text, words) in [
            ("box", "expected ssh://"),
            ("ssh://", "no name of a host"),
            ("ssh://-oProxyCommand=x", "no name of a host"),
            ("ssh://a b", "no name of a host"),
            ("ssh://a;b", "no name of a host"),
            ("ssh://$x@a", "no name of a user"),
            ("ssh://@a", "no name of a user"),
            ("ssh://a:0", "is no port"),
            ("ssh://a:65536", "is no port"),
            ("ssh://[::1", "closing bracket"),
            ("ssh://[::1]x", "is no port"),
            ("docker://-x", "no name of a container"),
            ("docker://a/b", "no name of a container"),
            ("kubectl://pod", "expected kubectl://NAMESPACE/POD"),
            ("kubectl://a/b/c/d", "expected kubectl://NAMESPACE/POD"),
            ("kubectl://me@a/b", "no user"),
            ("podman://a", "nobody knows podman://"),
            ("ssh://a|", "expected ssh://"),
            ("ssh://a|ssh://a|ssh://a|ssh://a|ssh://a|ssh://a", "6 hops"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("is no way to a machine"), "{text}: {error}");
        }
    }
}
