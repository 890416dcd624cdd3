//! The store without a second process: what a server puts, as the keeper keeps it, and as the next server gets it.

use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;

use rustix::process::{Pid, getpid};

use super::shelf::Shelf;
use super::socket::{Buffer, Received, Socket};
use super::store::{self, Bell};
use super::wire::Message;
use super::*;
use crate::reap::{Ending, How};
use crate::{child_mark, procfs};

/// A keeper's end, and what it holds.
struct Above {
    socket: Socket,
    shelf: Shelf,
    buffer: Buffer,
}

fn pair() -> (Above, Store) {
    let (ours, theirs) = Socket::pair().expect("a pair");
    let bell = Bell::new().expect("a bell");
    let above = Above { socket: ours, shelf: Shelf::default(), buffer: Buffer::default() };
    (above, Store::new(theirs, bell))
}

impl Above {
    /// Keeps what it was told to. How many could not be kept.
    fn hear(&mut self) -> usize {
        let mut refused = 0;
        while let Received::Packet(packet) = self.socket.receive(&mut self.buffer).expect("received") {
            let message = Message::parse(packet.bytes).expect("well formed");
            refused += usize::from(self.shelf.apply(&message, packet).is_err());
        }
        refused
    }

    /// What the next server gets.
    fn hand_over(&mut self) -> (Store, Vec<Entry>) {
        let (ours, theirs) = Socket::pair().expect("a pair");
        let store = Store::new(theirs, Bell::new().expect("a bell"));
        let mut server = Server::new(store.clone(), true);
        let entries = std::thread::scope(|scope| {
            scope.spawn(|| self.shelf.hand_over(child_mark::Server::own(), &ours).expect("handed over"));
            server.take_over(Schema::default()).expect("taken over")
        });
        self.socket = ours;
        (store, entries)
    }
}

fn put<'a>(bytes: &'a [u8], descriptors: &'a [std::os::fd::BorrowedFd<'a>]) -> Put<'a> {
    Put { program: None, bytes, descriptors }
}

fn kin(pid: Pid) -> Kin {
    Kin { pid, init: None, mark: None, started: procfs::StartTime::now() }
}

#[test]
fn the_next_server_gets_what_was_put_with_its_descriptors() {
    let (mut above, store) = pair();
    let (mut reader, writer) = pipe().expect("a pipe");
    let (first, second, third) = (store.new_key(), store.new_key(), store.new_key());
    store.put(first, &put(b"a pipe", &[writer.as_fd()])).expect("put");
    store.put(second, &put(b"forgotten", &[])).expect("put");
    store.put(third, &put(b"old", &[])).expect("put");
    store.update(third, b"new").expect("updated");
    store.forget(second);
    drop(writer);
    assert_eq!(above.hear(), 0);

    let (next, entries) = above.hand_over();
    let seen: Vec<(Key, &[u8], usize)> =
        entries.iter().map(|entry| (entry.key, &entry.bytes[..], entry.descriptors.len())).collect();
    assert_eq!(seen, [(first, &b"a pipe"[..], 1), (third, &b"new"[..], 0)]);
    assert!(next.new_key() > third, "keys are used once");

    // The last writer is the next server's, once the keeper has forgotten its own.
    let mut pipe = std::fs::File::from(entries.into_iter().next().unwrap().descriptors.remove(0));
    next.forget_now(first);
    above.hear();
    pipe.write_all(b"still open").expect("written");
    drop(pipe);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("read to the end");
    assert_eq!(read, "still open");
}

#[test]
fn an_entry_of_the_largest_size_passes_and_no_larger_one() {
    let (mut above, store) = pair();
    let (reader, _writer) = pipe().expect("a pipe");
    let bytes = vec![7; MOST_BYTES + 1];
    let descriptors = vec![reader.as_fd(); MOST_DESCRIPTORS + 1];
    let key = store.new_key();
    store.put(key, &put(&bytes[1..], &descriptors[1..])).expect("put");
    assert!(store.put(key, &put(&bytes, &[])).is_err());
    assert!(store.put(key, &put(b"", &descriptors)).is_err());
    assert_eq!(above.hear(), 0);
    let (_, entries) = above.hand_over();
    let [entry] = &entries[..] else { panic!("{}", entries.len()) };
    assert_eq!((&entry.bytes[..], entry.descriptors.len()), (&bytes[1..], MOST_DESCRIPTORS));
}

#[test]
fn more_than_there_is_room_for_is_refused_and_forgotten() {
    let (mut above, store) = pair();
    let bytes = vec![7; MOST_BYTES];
    let key = store.new_key();
    let refused = (0..2000).find(|_| {
        store.put(store.new_key(), &put(&bytes, &[])).expect("sent");
        above.hear() > 0
    });
    assert_eq!(refused, Some(1024), "64 MiB in all");
    store.put(key, &put(&bytes, &[])).expect("sent");
    assert_eq!(above.hear(), 1);
    let (_, entries) = above.hand_over();
    assert_eq!(entries.len(), 1024);
}

#[test]
fn an_end_is_kept_with_its_program() {
    let (mut above, store) = pair();
    let end = Ending { how: How::Exited(7), ..Ending::unknown() };
    let (program, other) = (store.new_key(), store.new_key());
    // Any number will do for one; the other is no child of this process.
    let pid = Pid::from_raw(i32::MAX).expect("a number");
    store.put(program, &Put { program: Some(kin(pid)), bytes: b"", descriptors: &[] }).expect("put");
    store.put(other, &Put { program: Some(kin(getpid())), bytes: b"", descriptors: &[] }).expect("put");
    assert_eq!(above.hear(), 0);
    assert_eq!(above.shelf.ended(pid, end), Some(program));
    assert_eq!(above.shelf.ended(pid, end), None, "it ends once");
    assert_eq!(above.shelf.settle(), [(other, Ending::unknown())], "who is no child can't be waited for");

    let (_, entries) = above.hand_over();
    let ends: Vec<_> = entries.iter().map(|entry| (entry.key, entry.end)).collect();
    assert_eq!(ends, [(program, Some(end)), (other, Some(Ending::unknown()))]);
    for mut entry in entries {
        let adopted = entry.adopt().expect("adopted").expect("a program");
        assert_eq!(crate::reap::peek(adopted.pid).expect("told"), entry.end);
        assert_eq!(crate::reap::try_reap(adopted.pid).expect("told"), entry.end);
        assert!(crate::reap::try_reap(adopted.pid).is_err(), "it is reaped once");
    }
}

#[test]
fn an_end_that_the_keeper_tells_later_wakes_whoever_waits() {
    let (mut above, store) = pair();
    let key = Key::from_number(store.new_key().number() + 1_000_000);
    let pid = Pid::from_raw(i32::MAX - 1).expect("a number");
    store.put(key, &Put { program: Some(kin(pid)), bytes: b"", descriptors: &[] }).expect("put");
    above.hear();
    let (_, mut entries) = above.hand_over();
    let adopted = entries[0].adopt().expect("adopted").expect("a program");
    assert_eq!(crate::reap::try_reap(pid).expect("none yet"), None);
    let is_told = || rustix::io::read(&adopted.exit, &mut [0_u8; 8]).is_ok();
    assert!(!is_told());
    let end = Ending { how: How::Killed(9), ..Ending::unknown() };
    store::ended(key, end);
    assert!(is_told());
    assert_eq!(crate::reap::try_reap(pid).expect("told"), Some(end));
}

#[test]
fn a_peek_leaves_the_child_to_be_reaped() {
    let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().expect("started");
    let pid = Pid::from_child(&child);
    let end = loop {
        if let Some(end) = crate::reap::peek(pid).expect("a child") {
            break end;
        }
        std::thread::yield_now();
    };
    assert_eq!(end.how, How::Exited(3));
    assert!(end.max_rss_bytes > 0);
    // Its times may still grow a little.
    assert_eq!(crate::reap::peek(pid).expect("a child").map(|again| again.how), Some(end.how));
    assert_eq!(child.wait().expect("it was left").code(), Some(3));
    assert!(crate::reap::peek(pid).is_err());
}
