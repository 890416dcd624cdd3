//! `run --forward`: ports of the environment's machine that are open here while the program runs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use codex_exec_server::client::Client;
use codex_exec_server::protocol::ProcessId;
use codex_exec_server::protocol::process::{List, ListParams};
use tokio::task::JoinHandle;

use crate::console::io;
use crate::port_forward::{Hub, Words, forward_quietly};
use crate::probe::{self, Listening, Snapshot};

/// Between two looks for ports. Our own pace: nothing outside depends on it.
const PAUSE: Duration = Duration::from_millis(500);

/// What `--forward` asks for.
#[derive(Debug, Clone)]
pub(crate) enum Forward {
    /// Whatever the program listens on.
    Auto,
    /// These ports.
    Ports(Words),
}

/// `auto`, or ports as `port-forward` takes them.
pub(super) fn forward(text: &str) -> Result<Forward, String> {
    match text {
        "auto" => Ok(Forward::Auto),
        ports => ports.parse().map(Forward::Ports).map_err(|problem| format!("{problem}, or `auto`")),
    }
}

/// Forwards that last as long as this.
pub(super) struct Forwards(Vec<JoinHandle<()>>);

impl Drop for Forwards {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Forwards {
    /// Begins what was asked for.
    pub(super) fn begin(asked: &[Forward], hub: Hub, client: &Client, program: &ProcessId) -> Self {
        let hub = Arc::new(hub);
        let mut begun = Vec::new();
        for forward in asked {
            begun.push(match forward {
                Forward::Auto => tokio::spawn(follow(Arc::clone(&hub), client.clone(), program.clone())),
                Forward::Ports(words) => tokio::spawn(one(Arc::clone(&hub), words.clone())),
            });
        }
        Self(begun)
    }
}

async fn one(hub: Arc<Hub>, words: Words) {
    let ended = forward_quietly(hub, words, |line| io::say("run", &format!("forwarding {line}"))).await;
    if let Some(sentence) = ended.sentence {
        io::say("run", &sentence);
    }
}

/// Opens and closes ports as the program does.
async fn follow(hub: Arc<Hub>, client: Client, program: ProcessId) {
    let mut open = BTreeMap::<Listening, JoinHandle<()>>::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        let Ok(listed) = client.call::<List>(&ListParams::default()).await else { break };
        let info = listed.processes.into_iter().find(|info| info.process_id == program);
        let Some(root) = info.and_then(|info| info.pid) else { break };
        let Ok(snapshot) = Snapshot::take(&client).await else { break };
        let pids: Vec<u32> = snapshot.of_program(root).iter().map(|process| process.pid).collect();
        let found = match pids.is_empty() {
            true => Default::default(),
            false => match probe::listening(&client, &pids).await {
                Ok(found) => found,
                Err(_) => break,
            },
        };
        open.retain(|port, task| {
            let stays = found.contains(port);
            if !stays {
                task.abort();
            }
            stays
        });
        for port in found {
            let hub = Arc::clone(&hub);
            let words = Words::of_port(here(port.port), port.host, port.port);
            open.entry(port).or_insert_with(|| tokio::spawn(one(hub, words)));
        }
    }
    open.into_values().for_each(|task| task.abort());
}

/// The same port here, if it is free, else any.
fn here(port: u16) -> u16 {
    TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port)
}
