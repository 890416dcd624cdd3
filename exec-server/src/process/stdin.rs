//! A program's input: written at once where the kernel takes it, queued in order where it doesn't.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::survival::Safe;

/// The write end of a program's input.
pub(super) struct Stdin {
    /// Gone once the end was said or nobody reads any more.
    fd: Mutex<Option<Arc<AsyncFd<OwnedFd>>>>,
    queue: Mutex<Queue>,
    wake: Notify,
    max_bytes: usize,
    max_writes: usize,
    /// Notes what is written, for the next server.
    safe: Option<Arc<Safe>>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// The drain task runs or is about to.
    draining: bool,
    ended: bool,
    /// What still waits is refused, not accepted and lost.
    refused: bool,
}

struct Item {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
    /// Told when this write came within the bound.
    waiting: Option<Accepted>,
}

/// Told once what became of a write: true when it was accepted, false when the program was terminated first.
pub(super) type Accepted = Box<dyn FnOnce(bool) + Send>;

impl Stdin {
    pub(super) fn new(
        fd: Arc<AsyncFd<OwnedFd>>,
        max_bytes: usize,
        max_writes: usize,
        safe: Option<Arc<Safe>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            fd: Mutex::new(Some(fd)),
            queue: Mutex::default(),
            wake: Notify::new(),
            max_bytes,
            max_writes,
            safe,
        })
    }

    /// Goes on with what an earlier server has accepted and not written.
    pub(super) fn resume(self: &Arc<Self>, bytes: Vec<u8>, ended: bool) {
        let mut queue = self.queue.lock();
        if !bytes.is_empty() {
            queue.bytes = bytes.len();
            queue.items.push_back(Item { bytes, written: 0, waiting: None });
            self.start_draining(&mut queue);
        }
        drop(queue);
        if ended {
            self.end();
        }
    }

    /// Writes in order, and tells `accepted` in that order: at once, or when the write comes within the bound. `id` is what the write
    /// is known by.
    pub(super) fn write(self: &Arc<Self>, id: Option<&str>, bytes: Vec<u8>, accepted: Accepted) {
        let fd = self.fd();
        let mut queue = self.queue.lock();
        let Some(fd) = fd.filter(|_| !queue.ended) else { return accepted(true) };
        if let Some(safe) = &self.safe {
            safe.accept(id, &bytes);
        }
        let mut written = 0;
        if queue.items.is_empty() {
            match write_now(&fd, &bytes, self.safe.as_deref()) {
                Ok(all) if all == bytes.len() => return accepted(true),
                Ok(some) => written = some,
                Err(_) => {
                    self.shut();
                    return accepted(true);
                }
            }
        }
        let rest = bytes.len() - written;
        let over =
            queue.bytes > 0 && (queue.bytes + rest > self.max_bytes || queue.items.len() >= self.max_writes);
        queue.bytes += rest;
        let waiting = if over {
            Some(accepted)
        } else {
            accepted(true);
            None
        };
        queue.items.push_back(Item { bytes, written, waiting });
        self.start_draining(&mut queue);
    }

    /// Writes, unless other input waits already: then these bytes are dropped.
    pub(super) fn type_unless_full(self: &Arc<Self>, bytes: Vec<u8>) {
        if self.queue.lock().items.is_empty() {
            self.write(None, bytes, Box::new(|_| {}));
        }
    }

    /// Closes the input once everything queued is written.
    pub(super) fn end(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        queue.ended = true;
        if let Some(safe) = &self.safe {
            safe.end_input();
        }
        if queue.items.is_empty() {
            self.shut();
        }
    }

    /// The program was terminated: lets go of the input at once, and refuses the writes that wait.
    pub(super) fn refuse(&self) {
        self.queue.lock().refused = true;
        self.shut();
    }

    /// Nobody reads any more: lets go of the input at once; what is queued is accepted and lost (8.4).
    pub(super) fn shut(&self) {
        self.fd.lock().take();
        if let Some(safe) = &self.safe {
            safe.close_input();
        }
        self.wake.notify_one();
    }

    fn fd(&self) -> Option<Arc<AsyncFd<OwnedFd>>> {
        self.fd.lock().clone()
    }

    fn start_draining(self: &Arc<Self>, queue: &mut Queue) {
        if !queue.draining {
            queue.draining = true;
            // Ends with the queue or the fd; `shut` is called when the process ends.
            tokio::spawn(Arc::clone(self).drain());
        }
    }

    async fn drain(self: Arc<Self>) {
        loop {
            let Some(fd) = self.fd() else { return self.give_up() };
            tokio::select! {
                ready = fd.ready(Interest::WRITABLE) => {
                    let Ok(mut ready) = ready else { return self.give_up() };
                    let mut queue = self.queue.lock();
                    match queue.flush(&fd, self.safe.as_deref()) {
                        Ok(true) => {}
                        // A terminal that the program has let go of takes nothing more, and says so for ever.
                        Ok(false) if !ready.ready().is_write_closed() => ready.clear_ready(),
                        Ok(false) | Err(_) => {
                            drop(queue);
                            self.shut();
                            return self.give_up();
                        }
                    }
                    queue.accept(self.max_bytes, self.max_writes);
                    if queue.items.is_empty() {
                        queue.draining = false;
                        if queue.ended {
                            self.shut();
                        }
                        return;
                    }
                }
                () = self.wake.notified() => {}
            }
        }
    }

    fn give_up(&self) {
        let mut queue = self.queue.lock();
        let lost = std::mem::replace(&mut *queue, Queue { ended: true, ..Queue::default() });
        let refused = lost.refused;
        for waiting in lost.items.into_iter().filter_map(|item| item.waiting) {
            waiting(!refused);
        }
    }
}

impl Queue {
    /// Writes what the kernel takes; true when everything went.
    fn flush(&mut self, fd: &AsyncFd<OwnedFd>, safe: Option<&Safe>) -> Result<bool, Errno> {
        while let Some(item) = self.items.front_mut() {
            let written = write_now(fd, item.bytes.get(item.written..).unwrap_or_default(), safe)?;
            self.bytes -= written;
            item.written += written;
            if item.written < item.bytes.len() {
                return Ok(false);
            }
            if let Some(waiting) = self.items.pop_front().and_then(|item| item.waiting) {
                waiting(true);
            }
        }
        Ok(true)
    }

    /// Tells the writers that came within the bound.
    fn accept(&mut self, max_bytes: usize, max_writes: usize) {
        let mut sum = 0;
        for (index, item) in self.items.iter_mut().enumerate() {
            sum += item.bytes.len() - item.written;
            if index > 0 && (sum > max_bytes || index >= max_writes) {
                break;
            }
            if let Some(waiting) = item.waiting.take() {
                waiting(true);
            }
        }
    }
}

/// Writes until the kernel takes no more; how much it took.
fn write_now(fd: &AsyncFd<OwnedFd>, bytes: &[u8], safe: Option<&Safe>) -> Result<usize, Errno> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let wrote = match safe {
            Some(safe) => safe.write(fd.get_ref(), rest),
            None => rustix::io::write(fd.get_ref(), rest),
        };
        match wrote {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
