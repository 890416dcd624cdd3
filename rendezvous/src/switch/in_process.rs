//! The switch of a single process: a table of routes, each with its executor, its harnesses and their streams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_relay::frame;
use codex_relay::header::{self, BodyKind, Header};
use parking_lot::Mutex;

use super::{Dropped, HarnessSocket, Load, Passed, Port, Switch};
use crate::outlet::{Closing, Outlet, PushError};
use crate::quota::Share;

/// The reason of the resets sent for a harness that has gone.
const HARNESS_GONE: &str = "harness_disconnected";
/// The reason of the reset that answers a stream too many.
const TOO_MANY_STREAMS: &str = "too_many_streams";
/// The reason of the reset that answers a handshake of a socket whose handshakes fail.
const TOO_MANY_FAILURES: &str = "too_many_failed_handshakes";
/// So many handshakes of a socket may fail; then its handshakes go no further for [`FAILURE_PAUSE`]. They cost the
/// executor the keys' work, and only here is it known who makes them. Our own pace: nothing outside depends on it.
const FAILURES: u32 = 8;
/// Our own pace: nothing outside depends on it.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

type Routes = Mutex<HashMap<Box<str>, Arc<Line>>>;

/// Passes frames within this process.
#[derive(Debug, Default)]
pub struct InProcess {
    routes: Arc<Routes>,
}

/// One attached executor and the harnesses that use it.
#[derive(Debug)]
struct Line {
    executor: Arc<Outlet>,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// The executor has gone; nobody joins any more.
    closed: bool,
    next: u64,
    harnesses: HashMap<u64, Harness>,
    streams: HashMap<Arc<str>, Stream>,
}

#[derive(Debug)]
struct Harness {
    socket: HarnessSocket,
    streams: HashSet<Arc<str>>,
    /// Handshakes that the executor answered by a reset.
    failures: u32,
    paused_until: Option<Instant>,
}

/// A stream and the socket that owns it.
#[derive(Debug)]
struct Stream {
    owner: u64,
    /// Its handshake has no answer yet.
    handshaking: bool,
    outlet: Arc<Outlet>,
    _share: Share,
}

impl InProcess {
    /// A switch without routes.
    pub fn new() -> Self {
        Self::default()
    }

    fn line(&self, route: &str) -> Option<Arc<Line>> {
        self.routes.lock().get(route).cloned()
    }
}

impl Switch for InProcess {
    fn attach_executor(&self, route: &str, outlet: Arc<Outlet>) -> Box<dyn Port> {
        let line = Arc::new(Line { executor: outlet, members: Mutex::default() });
        let older = self.routes.lock().insert(route.into(), Arc::clone(&line));
        if let Some(older) = older {
            older.executor.close(Closing::Superseded);
            older.dismiss();
        }
        Box::new(ExecutorPort { line, routes: Arc::clone(&self.routes), route: route.into() })
    }

    fn attach_harness(&self, route: &str, socket: HarnessSocket) -> Option<Box<dyn Port>> {
        let line = self.line(route)?;
        let id = {
            let mut members = line.members.lock();
            if members.closed {
                return None;
            }
            let id = members.next;
            members.next += 1;
            members
                .harnesses
                .insert(id, Harness { socket, streams: HashSet::new(), failures: 0, paused_until: None });
            id
        };
        Some(Box::new(HarnessPort { line, id }))
    }

    fn is_attached(&self, route: &str) -> bool {
        self.routes.lock().contains_key(route)
    }

    fn load(&self, route: &str) -> Load {
        let Some(line) = self.line(route) else { return Load::default() };
        let members = line.members.lock();
        Load { harnesses: members.harnesses.len(), streams: members.streams.len() }
    }

    fn close(&self, route: &str, closing: Closing) {
        let line = self.routes.lock().remove(route);
        if let Some(line) = line {
            line.executor.close(closing);
            line.dismiss();
        }
    }
}

impl Line {
    /// Closes the harnesses: their executor has gone.
    fn dismiss(&self) {
        let members = {
            let mut members = self.members.lock();
            let closed = Members { closed: true, next: members.next, ..Members::default() };
            std::mem::replace(&mut *members, closed)
        };
        for harness in members.harnesses.values() {
            harness.socket.outlet.close(Closing::ExecutorGone);
        }
    }
}

impl Members {
    /// Lets a harness use a stream: its own, or one that nobody owns.
    fn claim(&mut self, id: u64, stream_id: &str) -> Result<(), Dropped> {
        if let Some(stream) = self.streams.get(stream_id) {
            return if stream.owner == id { Ok(()) } else { Err(Dropped::ForeignStream) };
        }
        let harness = self.harnesses.get_mut(&id).ok_or(Dropped::Gone)?;
        if stream_id.len() > harness.socket.stream_id_bytes {
            return Err(Dropped::LongStreamId);
        }
        if harness.streams.len() >= harness.socket.socket_streams {
            return Err(Dropped::TooManyStreams);
        }
        let share = harness.socket.streams.take().ok_or(Dropped::TooManyStreams)?;
        let name: Arc<str> = stream_id.into();
        let outlet = Arc::clone(&harness.socket.outlet);
        harness.streams.insert(Arc::clone(&name));
        self.streams.insert(name, Stream { owner: id, handshaking: false, outlet, _share: share });
        Ok(())
    }

    /// A handshake of this socket failed.
    fn failed(&mut self, id: u64) {
        let Some(harness) = self.harnesses.get_mut(&id) else { return };
        harness.failures += 1;
        if harness.failures >= FAILURES {
            harness.failures = 0;
            harness.paused_until = Some(Instant::now() + FAILURE_PAUSE);
            tracing::info!(
                "too many handshakes of a harness's socket failed: they go no further for a while"
            );
        }
    }

    /// Notes a handshake on its way, unless its socket has to wait with those.
    fn shakes_hands(&mut self, id: u64, stream_id: &str) -> Result<(), Dropped> {
        let harness = self.harnesses.get(&id).ok_or(Dropped::Gone)?;
        if harness.paused_until.is_some_and(|until| Instant::now() < until) {
            let _ = harness.socket.outlet.try_push(frame::reset(stream_id, TOO_MANY_FAILURES));
            self.release(stream_id);
            return Err(Dropped::FailedHandshakes);
        }
        if let Some(stream) = self.streams.get_mut(stream_id) {
            stream.handshaking = true;
        }
        Ok(())
    }

    /// Ends a stream; the id may be used again by anybody.
    fn release(&mut self, stream_id: &str) -> Option<Stream> {
        let stream = self.streams.remove(stream_id)?;
        if let Some(harness) = self.harnesses.get_mut(&stream.owner) {
            harness.streams.remove(stream_id);
        }
        Some(stream)
    }
}

fn routable(frame: &Bytes) -> Result<Header<'_>, Dropped> {
    header::scan(frame).filter(Header::is_routable).ok_or(Dropped::Malformed)
}

fn push(outlet: &Arc<Outlet>, frame: Bytes, shared: bool) -> Passed {
    match outlet.try_push(frame) {
        Ok(()) => Passed::Sent,
        Err(PushError::Closed) => Passed::Dropped(Dropped::Gone),
        Err(PushError::Full(frame)) => Passed::Full { frame, outlet: Arc::clone(outlet), shared },
    }
}

struct ExecutorPort {
    line: Arc<Line>,
    routes: Arc<Routes>,
    route: Box<str>,
}

impl ExecutorPort {
    /// The harness that owns the frame's stream, and whether there are other harnesses.
    fn owner(&self, frame: &Bytes) -> Result<(Arc<Outlet>, bool), Dropped> {
        let header = routable(frame)?;
        let mut members = self.line.members.lock();
        let outlet = if header.ends_stream() {
            members.release(header.stream_id).map(|stream| {
                if stream.handshaking {
                    members.failed(stream.owner);
                }
                stream.outlet
            })
        } else {
            members.streams.get_mut(header.stream_id).map(|stream| {
                stream.handshaking &= header.body != Some(BodyKind::Handshake);
                Arc::clone(&stream.outlet)
            })
        };
        Ok((outlet.ok_or(Dropped::NoOwner)?, members.harnesses.len() > 1))
    }
}

impl Port for ExecutorPort {
    fn pass(&self, frame: Bytes) -> Passed {
        match self.owner(&frame) {
            Ok((outlet, shared)) => push(&outlet, frame, shared),
            Err(dropped) => Passed::Dropped(dropped),
        }
    }
}

impl Drop for ExecutorPort {
    fn drop(&mut self) {
        let mut routes = self.routes.lock();
        // A newer executor may have taken the place.
        if routes.get(&self.route).is_some_and(|line| Arc::ptr_eq(line, &self.line)) {
            routes.remove(&self.route);
        }
        drop(routes);
        self.line.dismiss();
    }
}

struct HarnessPort {
    line: Arc<Line>,
    id: u64,
}

impl HarnessPort {
    fn admit(&self, frame: &Bytes) -> Result<(), Dropped> {
        let header = routable(frame)?;
        let mut members = self.line.members.lock();
        if header.ends_stream() {
            return match members.streams.get(header.stream_id) {
                Some(stream) if stream.owner != self.id => Err(Dropped::ForeignStream),
                Some(_) => {
                    members.release(header.stream_id);
                    Ok(())
                }
                // Nobody's: harmless, and the executor may know more.
                None => Ok(()),
            };
        }
        let claimed = members.claim(self.id, header.stream_id);
        if claimed == Err(Dropped::TooManyStreams)
            && let Some(harness) = members.harnesses.get(&self.id)
        {
            // A socket that does not even read its resets gets no further ones.
            let _ = harness.socket.outlet.try_push(frame::reset(header.stream_id, TOO_MANY_STREAMS));
        }
        claimed?;
        if header.body == Some(BodyKind::Handshake) {
            members.shakes_hands(self.id, header.stream_id)?;
        }
        Ok(())
    }
}

impl Port for HarnessPort {
    fn pass(&self, frame: Bytes) -> Passed {
        match self.admit(&frame) {
            Ok(()) => push(&self.line.executor, frame, false),
            Err(dropped) => Passed::Dropped(dropped),
        }
    }
}

impl Drop for HarnessPort {
    fn drop(&mut self) {
        let mut members = self.line.members.lock();
        let Some(harness) = members.harnesses.remove(&self.id) else { return };
        for stream_id in &harness.streams {
            members.streams.remove(stream_id);
            // Under the lock, so that no socket claims the id before the reset is queued.
            self.line.executor.push_control(frame::reset(stream_id, HARNESS_GONE));
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
