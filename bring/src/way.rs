//! The command that makes a way: one program for each hop, each run by the shell of the machine before.

use crate::target::{Hop, Target};

/// The command for this machine: runs `script`, a line of shell, at the end of the way. Each machine on the way says that it
/// was reached with `said(number)`, also a line of shell, from 1 on.
///
/// `asks`: somebody sits at a terminal and can be asked for passwords; a machine on the way never can.
pub(crate) fn command(
    target: &Target,
    script: &str,
    said: impl Fn(usize) -> String,
    asks: bool,
) -> Vec<String> {
    let mut line = script.to_owned();
    let mut words = Vec::new();
    for (number, hop) in target.hops().iter().enumerate().rev() {
        words = step(hop, &line, asks && number == 0);
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        line = format!("{}; exec {}", said(number), quoted.join(" "));
    }
    words
}

/// The words that run a line of shell on the other side of one hop.
fn step(hop: &Hop, line: &str, asks: bool) -> Vec<String> {
    let mut words: Vec<String> = vec![hop.program().into()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    match hop {
        Hop::Ssh { user, host, port } => {
            // No terminal over there, and no command of the configuration instead of ours. A lost network is noticed.
            add(&["-T", "-o", "RemoteCommand=none", "-o", "ServerAliveInterval=15"]);
            if !asks {
                add(&["-o", "BatchMode=yes"]);
            }
            if let Some(port) = port {
                add(&["-p", &port.to_string()]);
            }
            if let Some(user) = user {
                add(&["-l", user]);
            }
            // Whatever shell the user has, it only has to understand single quotes.
            add(&["--", host, &format!("exec sh -c {}", quote(line))]);
        }
        Hop::Docker { user, container } => {
            add(&["exec", "-i"]);
            if let Some(user) = user {
                add(&["-u", user]);
            }
            add(&[container, "sh", "-c", line]);
        }
        Hop::Kubectl { namespace, pod, container } => {
            add(&["exec", "-i", "-n", namespace, pod]);
            if let Some(container) = container {
                add(&["-c", container]);
            }
            add(&["--", "sh", "-c", line]);
        }
    }
    words
}

/// One word for any shell.
fn quote(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(target: &str, asks: bool) -> Vec<String> {
        command(&target.parse().unwrap(), "a \"$b\"", |number| format!("echo hop {number}"), asks)
    }

    #[test]
    fn each_program_gets_its_own_flags() {
        let ssh = ["ssh", "-T", "-o", "RemoteCommand=none", "-o", "ServerAliveInterval=15"];
        let line = "exec sh -c 'a \"$b\"'";
        assert_eq!(words("ssh://h", true), [&ssh[..], &["--", "h", line]].concat());
        let batch = ["-o", "BatchMode=yes", "-p", "22", "-l", "u", "--", "h", line];
        assert_eq!(words("ssh://u@h:22", false), [&ssh[..], &batch].concat());
        assert_eq!(words("docker://c", true), ["docker", "exec", "-i", "c", "sh", "-c", "a \"$b\""]);
        let kubectl = ["kubectl", "exec", "-i", "-n", "n", "p", "-c", "c", "--", "sh", "-c", "a \"$b\""];
        assert_eq!(words("kubectl://n/p/c", true), kubectl);
    }

    #[test]
    fn a_chain_arrives_at_its_end_as_it_was_written() {
        // The programs are stood in for by shells that do what the real ones do with their last words.
        let bin = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = bin.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).unwrap();
        };
        program("ssh", "while [ \"$1\" != -- ]; do shift; done; shift 2; exec sh -c \"$*\"");
        program("docker", "shift 3; exec \"$@\"");
        let target = "ssh://a|docker://b|ssh://c".parse().unwrap();
        let script = r#"x="it's \$a"; echo "$x" 'two  words' "$0""#;
        let made = command(&target, script, |number| format!("echo hop {number}"), false);
        let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
        let output =
            std::process::Command::new(&made[0]).args(&made[1..]).env("PATH", path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "hop 1\nhop 2\nit's $a two  words sh\n", "{output:?}");
    }
}
