//! Environments on machines that have a shell and nothing else: the flags, how they are written down, and the way to them.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use codex_bring::{BringError, Event, Request, Served, Target, Tell, ask, connect, refuse_directory};
use codex_exec_server::client::{Connector, Endpoint, FromServer, ToServer};

use super::TargetError;
use crate::output;

/// How long a released client waits for the first answer, since the program may have to be brought first: over a slow link for
/// minutes. Our own clients look at the way itself.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(300);

/// This program's own file, also when another one has taken its place meanwhile.
const OWN: &str = "/proc/self/exe";

/// The flags of environments that this program is brought to.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct FarArgs {
    /// Leave the server running there, for programs and sessions that outlive the connection; for ssh://, docker:// and
    /// kubectl://.
    #[arg(long, hide_short_help = true)]
    resident: bool,
    /// The program to bring, in place of this one: built for that machine's architecture, or statically for an older system.
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    binary: Option<PathBuf>,
    /// The directory there to put the program into, in place of the user's cache; absolute, and one whose programs may be
    /// executed.
    #[arg(long, value_name = "DIR", hide_short_help = true, value_parser = directory)]
    remote_dir: Option<String>,
}

fn directory(text: &str) -> Result<String, String> {
    refuse_directory(text).map(|()| text.to_owned())
}

impl FarArgs {
    /// The first of its flags that was given.
    pub(crate) const fn given(&self) -> Option<&'static str> {
        match self {
            Self { resident: true, .. } => Some("--resident"),
            Self { binary: Some(_), .. } => Some("--binary"),
            Self { remote_dir: Some(_), .. } => Some("--remote-dir"),
            _ => None,
        }
    }
}

/// What there is to tell of a server that stays, from the program there to the one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Staying {
    /// Whether there is one.
    pub(crate) is_there: bool,
    /// How many programs run in it.
    pub(crate) programs: usize,
    /// Whether it was ended just now.
    pub(crate) is_stopped: bool,
}

impl Staying {
    /// As a sentence begins.
    pub(crate) fn running(self) -> String {
        match self.programs {
            0 => "nothing runs".to_owned(),
            1 => "a program runs".to_owned(),
            more => format!("{more} programs run"),
        }
    }
}

/// A way to a machine, and what is to run there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Far {
    pub(crate) target: Target,
    args: FarArgs,
}

/// What stands before the address where an environment of this kind is written down.
const WORDS: [&str; 4] = ["exec-server", "connect", "--stdio", "--url"];

impl Far {
    /// What an address with its flags means.
    ///
    /// # Errors
    /// It is no way to a machine.
    pub(crate) fn new(url: &str, args: &FarArgs) -> Result<Self, TargetError> {
        let target =
            url.parse().map_err(|error: codex_bring::TargetError| TargetError::Usage(error.to_string()))?;
        Ok(Self { target, args: args.clone() })
    }

    /// The arguments by which this program, started by any client, leads there.
    ///
    /// # Errors
    /// The path of the program to bring is not UTF-8.
    pub(crate) fn to_words(&self) -> anyhow::Result<Vec<String>> {
        let mut words: Vec<String> = WORDS.map(String::from).into();
        words.push(self.target.to_string());
        if self.args.resident {
            words.push("--resident".into());
        }
        if let Some(binary) = &self.args.binary {
            let binary = std::path::absolute(binary)?;
            let Some(text) = binary.to_str() else {
                anyhow::bail!("{} is not UTF-8 and can't be written down", binary.display());
            };
            words.extend(["--binary".into(), text.into()]);
        }
        if let Some(directory) = &self.args.remote_dir {
            words.extend(["--remote-dir".into(), directory.clone()]);
        }
        Ok(words)
    }

    /// What [`Self::to_words`] wrote, if it did: then no other program has to be started for it.
    pub(crate) fn of_words(program: &Path, words: &[String]) -> Option<Self> {
        let is_ours = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("codex"));
        let (start, rest) = words.split_at_checked(WORDS.len())?;
        if !is_ours || start != WORDS {
            return None;
        }
        let mut rest = rest.iter();
        let target = rest.next()?.parse().ok()?;
        let mut args = FarArgs::default();
        while let Some(flag) = rest.next() {
            match flag.as_str() {
                "--resident" => args.resident = true,
                "--binary" => args.binary = Some(rest.next()?.into()),
                "--remote-dir" => args.remote_dir = Some(directory(rest.next()?).ok()?),
                _ => return None,
            }
        }
        Some(Self { target, args })
    }

    /// The kind of machine at the way's end.
    pub(crate) fn kind(&self) -> &'static str {
        self.target.hops().last().map_or("ssh", codex_bring::Hop::program)
    }

    /// Whether the server there outlives a connection.
    pub(crate) const fn outlives_connection(&self) -> bool {
        self.args.resident
    }

    /// The way there.
    pub(crate) fn endpoint(self) -> Endpoint {
        Endpoint::Connector(Arc::new(self))
    }

    /// Goes the way.
    ///
    /// # Errors
    /// Which step broke.
    pub(crate) async fn open(&self) -> Result<codex_bring::Connection, BringError> {
        let served = if self.args.resident { Served::Resident } else { Served::Attached };
        connect(&self.request(served, std::io::stdin().is_terminal()), self.tell()).await
    }

    /// What is to be told of the server that stays there, if one does. `asks` tells whether somebody may be asked for a password.
    ///
    /// # Errors
    /// Which step broke, or what the program there can't do.
    pub(crate) async fn staying(&self, served: Served, asks: bool) -> anyhow::Result<Option<Staying>> {
        let Some(said) = ask(&self.request(served, asks), self.tell()).await? else { return Ok(None) };
        let staying: Staying = serde_json::from_str(said.trim()).with_context(|| {
            format!("{}: the program there says nothing of its server: {said:?}", self.target)
        })?;
        Ok(Some(staying).filter(|staying| staying.is_there))
    }

    fn request(&self, served: Served, asks: bool) -> Request {
        Request {
            target: self.target.clone(),
            binary: self.args.binary.clone().unwrap_or_else(|| OWN.into()),
            served,
            directory: self.args.remote_dir.clone(),
            asks,
        }
    }

    fn tell(&self) -> Tell {
        let target = self.target.to_string();
        Arc::new(move |event| match event {
            Event::Said(line) => output::note(line),
            // Once for each machine and version, and it may take a while; a script does not want to know.
            Event::Sends(bytes) if std::io::stderr().is_terminal() => {
                let size = indicatif::HumanBytes(bytes as u64);
                output::note(&format!("sending this program to {target}, once ({size})"));
            }
            Event::Sends(_) => {}
        })
    }
}

#[async_trait]
impl Connector for Far {
    fn target(&self) -> String {
        self.target.to_string()
    }

    fn is_resumable(&self) -> bool {
        self.outlives_connection()
    }

    async fn connect(&self) -> Result<(FromServer, ToServer), String> {
        let made = self.open().await.map_err(|error| error.to_string())?;
        Ok((Box::new(made.input), Box::new(made.output)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_understood_again_and_nothing_else_is() {
        for args in [
            FarArgs::default(),
            FarArgs {
                resident: true,
                binary: Some("/x/codex-static".into()),
                remote_dir: Some("/srv/x".into()),
            },
        ] {
            let far = Far::new("ssh://me@box:22|docker://web", &args).unwrap();
            let words = far.to_words().unwrap();
            assert_eq!(Far::of_words(Path::new("/usr/bin/codex"), &words), Some(far));
            assert_eq!(Far::of_words(Path::new("/usr/bin/python3"), &words), None);
            let more = [words, vec!["--other".into()]].concat();
            assert_eq!(Far::of_words(Path::new("codex"), &more), None);
        }
        let others = ["exec-server", "connect", "--stdio", "--url", "ws://127.0.0.1:1"].map(String::from);
        assert_eq!(Far::of_words(Path::new("codex"), &others), None);
        assert!(Far::new("ssh://-x", &FarArgs::default()).is_err());
    }
}
