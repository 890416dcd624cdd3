//! Unix sockets that lead to a server's, each of which cuts its first connection behind a message of its own number.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The sockets; dropping it closes them all.
pub struct MessageCutter {
    directory: TempDir,
    /// The highest number that was cut behind.
    last: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl MessageCutter {
    /// Sockets `1` to `most`, each named by the number of messages, of both directions together, that its first connection
    /// carries. The ones behind it are not cut.
    pub fn start(server: &Path, most: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (last, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for number in 1..=most {
            let listener =
                UnixListener::bind(directory.path().join(number.to_string())).expect("a free name");
            tasks.spawn(serve(listener, server.to_owned(), number, Arc::clone(&last)));
        }
        Self { directory, last, _tasks: tasks }
    }

    /// Where the sockets are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The highest number of messages that there was a cut behind: beyond it, conversations were shorter.
    pub fn last_cut(&self) -> usize {
        self.last.load(Ordering::Relaxed)
    }
}

async fn serve(listener: UnixListener, server: PathBuf, number: usize, last: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    let mut first = true;
    while let Ok((mut client, _)) = listener.accept().await {
        let mut there = UnixStream::connect(&server).await.expect("the server listens");
        if std::mem::take(&mut first) {
            let last = Arc::clone(&last);
            connections.spawn(async move {
                if carry(client, there, number).await {
                    last.fetch_max(number, Ordering::Relaxed);
                }
            });
        } else {
            connections.spawn(async move {
                let _ = copy_bidirectional(&mut client, &mut there).await;
            });
        }
    }
}

/// Carries so many messages, whichever way each goes; whether there were as many.
async fn carry(client: UnixStream, there: UnixStream, messages: usize) -> bool {
    let (mut from_client, mut to_client) = halves(client);
    let (mut from_server, mut to_server) = halves(there);
    for _ in 0..messages {
        let sent = tokio::select! {
            line = from_client.next_line() => pass(line, &mut to_server).await,
            line = from_server.next_line() => pass(line, &mut to_client).await,
        };
        if !sent {
            return false;
        }
    }
    true
}

fn halves(stream: UnixStream) -> (Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf) {
    let (read, write) = stream.into_split();
    (BufReader::new(read).lines(), write)
}

async fn pass(line: std::io::Result<Option<String>>, to: &mut OwnedWriteHalf) -> bool {
    match line {
        Ok(Some(line)) => to.write_all(format!("{line}\n").as_bytes()).await.is_ok(),
        _ => false,
    }
}
