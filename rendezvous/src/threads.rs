//! Spreads sockets over threads. Those of one environment stay on one, so that a frame's way crosses no thread.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Most threads of one node: beyond it they wait for each other. A safeguard, far from any real use.
pub const MOST_THREADS: usize = 64;

/// Threads besides the first. Dropping them ends what runs there.
#[derive(Debug)]
pub(crate) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// Dropped to end it.
    life: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many, each with an event loop of its own.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        (1..=count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (life, end) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name(format!("rendezvous-{number}"));
        let thread = thread.spawn(move || {
            // Nothing is ever sent.
            let _ = runtime.block_on(end);
        })?;
        Ok(Self { handle, life: Some(life), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.life.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and ends as soon as what it does waits.
            let _ = thread.join();
        }
    }
}

/// Which socket goes to which thread.
#[derive(Debug)]
pub(crate) struct Threads {
    handles: Vec<Handle>,
    places: Arc<Mutex<Places>>,
}

impl Threads {
    /// The thread of the caller, which accepts connections, and these.
    pub(crate) fn new(workers: &Workers) -> Self {
        let further = workers.0.iter().map(|worker| worker.handle.clone());
        let handles: Vec<_> = std::iter::once(Handle::current()).chain(further).collect();
        let places = Arc::new(Mutex::new(Places::new(handles.len())));
        Self { handles, places }
    }

    /// A place for a socket of this environment.
    pub(crate) fn seat(&self, environment: &str) -> Seat {
        let several = self.handles.len() > 1;
        let at = if several { self.places.lock().enter(environment) } else { 0 };
        let held = several.then(|| (environment.into(), Arc::clone(&self.places)));
        Seat { handle: self.handles[at].clone(), held }
    }
}

/// A socket's place on a thread; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Seat {
    handle: Handle,
    held: Option<(Box<str>, Arc<Mutex<Places>>)>,
}

impl Seat {
    /// Where the socket's task is to run.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((environment, places)) = &self.held {
            places.lock().leave(environment);
        }
    }
}

/// Who sits where.
#[derive(Debug)]
struct Places {
    /// Sockets of each thread.
    sockets: Vec<usize>,
    environments: HashMap<Box<str>, Place>,
}

#[derive(Debug)]
struct Place {
    thread: usize,
    sockets: usize,
}

impl Places {
    fn new(threads: usize) -> Self {
        Self { sockets: vec![0; threads], environments: HashMap::new() }
    }

    /// The environment's thread; a new environment goes to the thread with the fewest sockets. Of several such the last one is
    /// taken, because the first thread has connections to accept besides.
    fn enter(&mut self, environment: &str) -> usize {
        if let Some(place) = self.environments.get_mut(environment) {
            place.sockets += 1;
            self.sockets[place.thread] += 1;
            return place.thread;
        }
        let least = self.sockets.iter().enumerate().rev().min_by_key(|(_, sockets)| **sockets);
        let thread = least.map_or(0, |(thread, _)| thread);
        self.environments.insert(environment.into(), Place { thread, sockets: 1 });
        self.sockets[thread] += 1;
        thread
    }

    fn leave(&mut self, environment: &str) {
        let Some(place) = self.environments.get_mut(environment) else { return };
        place.sockets -= 1;
        self.sockets[place.thread] -= 1;
        if place.sockets == 0 {
            self.environments.remove(environment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_stays_on_its_thread_and_new_ones_go_where_there_is_least() {
        let mut places = Places::new(3);
        assert_eq!(["a", "b", "c"].map(|id| places.enter(id)), [2, 1, 0]);
        assert_eq!(["a", "a", "b"].map(|id| places.enter(id)), [2, 2, 1], "they stay");
        assert_eq!(places.enter("d"), 0);
        assert_eq!(places.sockets, [2, 2, 3]);
        for id in ["a", "a", "a", "b", "b", "c", "d", "nobody"] {
            places.leave(id);
        }
        assert_eq!(places.sockets, [0, 0, 0]);
        assert!(places.environments.is_empty());
    }
}
