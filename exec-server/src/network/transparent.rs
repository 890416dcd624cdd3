//! Transparent TCP (21.3): a program's connections come out of its network device, and are judged like those that ask the
//! proxy. Whatever is done with the packets is done in a process of its own, which may open nothing.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use codex_exec_protocol::network::Protocol;
use codex_tcp_stack::{Ask, answer, next_question};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection_slots;
use super::host::HostName;
use super::judge::Judge;
use super::policy::Wish;
use codex_children::descriptor::register;

/// A stack that has its device, and waits for answers.
pub(crate) struct Stack {
    /// Our end of the link to it.
    pub(crate) link: OwnedFd,
    /// Its process, which ends when this is dropped.
    pub(crate) process: Box<dyn Any + Send>,
}

/// Opens the connections that a stack asks for, until it ends. Only those that are not open yet take a place here: whatever
/// is carried over them later concerns the stack's process alone.
pub(super) async fn serve(stack: Stack, judge: Arc<Judge>, slots: Arc<Semaphore>) {
    let Stack { link, process } = stack;
    let link = match register(link, Interest::READABLE | Interest::WRITABLE) {
        Ok(link) => Arc::new(link),
        Err(error) => {
            tracing::warn!(%error, "a program's connections can't be opened");
            return;
        }
    };
    let all = connection_slots::of_all();
    let mut opening = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let Ok(mut ready) = link.readable().await else { break };
        let Ok(place) = Arc::clone(&all).acquire_owned().await else { break };
        let asked = match ready.try_io(|link| next_question(link.as_fd())) {
            Ok(Ok(Some(asked))) => asked,
            Ok(ended) => {
                tracing::debug!(?ended, "the stack of a program's network has ended");
                break;
            }
            Err(_would_block) => continue,
        };
        while opening.try_join_next().is_some() {}
        let (link, judge) = (Arc::clone(&link), Arc::clone(&judge));
        opening.spawn(async move {
            let stream = open(&judge, &asked).await;
            if let Err(error) = tell(&link, asked.id, stream).await {
                tracing::debug!(%error, "the stack of a program's network takes no answer");
            }
            drop((slot, place));
        });
    }
    drop(process);
}

/// The connection that is asked for; none if it may not be, or can't.
async fn open(judge: &Judge, asked: &Ask) -> Option<TcpStream> {
    let host = HostName::parse(&asked.host).ok()?;
    let wish = Wish { protocol: Protocol::Socks5Tcp, host, port: asked.port, method: None, has_body: false };
    judge.admit(&wish, Some(&asked.client.to_string())).await.ok()
}

async fn tell(link: &AsyncFd<OwnedFd>, id: u64, stream: Option<TcpStream>) -> io::Result<()> {
    let stream = stream.as_ref().map(AsFd::as_fd);
    loop {
        let mut ready = link.writable().await?;
        if let Ok(told) = ready.try_io(|link| answer(link.as_fd(), id, stream)) {
            return told;
        }
    }
}
