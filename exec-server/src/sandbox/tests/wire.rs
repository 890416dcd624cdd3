//! The wire to launchers: what is sent arrives, and nothing else does.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use rustix::io::Errno;

use super::super::task::{
    Bound, Confinement, Failure, FileWalls, Granted, LauncherTask, Link, Means, Namespaces, NetworkWalls,
    Run, Stage, Walls, Word, Work,
};
use super::super::wire::{self, Received};
use super::super::{Access, Region};

/// Any bytes, as names on a disk are.
fn text() -> impl Strategy<Value = OsString> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(OsString::from_vec)
}

fn files() -> impl Strategy<Value = FileWalls> {
    let access = || prop::sample::select(vec![Access::Hidden, Access::Denied, Access::Read, Access::Write]);
    let region = (text(), access()).prop_map(|(path, access)| Region { path: path.into(), access });
    let link = (text(), text()).prop_map(|(at, text)| Link { at: at.into(), text: text.into() });
    let granted = (access(), prop::collection::vec(region, 0..4), prop::collection::vec(link, 0..3))
        .prop_map(|(base, regions, links)| FileWalls::Granted(Granted { base, regions, links }));
    prop_oneof![Just(FileWalls::All), granted]
}

fn confinement() -> impl Strategy<Value = Confinement> {
    let network = prop_oneof![
        Just(NetworkWalls::Closed),
        (prop::collection::vec(any::<u16>(), 0..4), any::<Option<u16>>(), any::<bool>()).prop_map(
            |(listen, datagrams, transparent)| NetworkWalls::Own { listen, datagrams, transparent }
        ),
        Just(NetworkWalls::Open),
    ];
    let namespaces = prop::sample::select(vec![Namespaces::None, Namespaces::Privileged, Namespaces::User]);
    let walls = (namespaces, 0..7_u8, files(), network, any::<bool>()).prop_map(
        |(namespaces, landlock, files, network, own_pids)| {
            Confinement::Walls(Walls { namespaces, landlock, files, network, own_pids })
        },
    );
    prop_oneof![Just(Confinement::Off), walls]
}

fn work() -> impl Strategy<Value = Work> {
    let list = || prop::collection::vec(text(), 0..4);
    let variables = prop::collection::vec((text(), text()), 0..4);
    let of = vec![Means::Memory, Means::Processes, Means::Cpu, Means::Files, Means::FileSize];
    let bound = (prop::sample::select(of), any::<u64>()).prop_map(|(of, most)| Bound { of, most });
    let bounds = prop::collection::vec(bound, 0..5);
    let (arg0, group) = (prop::option::of(text()), prop::option::of(text()));
    let run = (list(), arg0, variables, text(), bounds, group, any::<bool>()).prop_map(
        |(argv, arg0, env, cwd, bounds, group, has_passed)| {
            Work::Run(Run { argv, arg0, env, cwd: cwd.into(), bounds, group, has_passed })
        },
    );
    prop_oneof![Just(Work::Probe), run, Just(Work::Files)]
}

fn task() -> impl Strategy<Value = LauncherTask> {
    (confinement(), work()).prop_map(|(confinement, work)| LauncherTask { confinement, work })
}

/// What the launcher's end of a wire receives when these bytes are sent, and then nothing more.
fn received(bytes: &[u8]) -> io::Result<Option<Received>> {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.write_all(bytes).expect("there is room");
    drop(ours);
    wire::receive(&theirs)
}

/// The bytes that a message is on the wire.
fn sent(task: &LauncherTask) -> Vec<u8> {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    wire::send(&ours, task, &[]).expect("there is room");
    drop(ours);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).expect("readable");
    bytes
}

fn read(bytes: &[u8]) -> io::Result<LauncherTask> {
    received(bytes)?.ok_or(Errno::PIPE)?.message()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_task_arrives_as_it_was_sent(task in task()) {
        prop_assert_eq!(read(&sent(&task)).expect("it arrives"), task);
    }

    #[test]
    fn what_is_cut_or_has_more_is_no_task(task in task(), cut in any::<prop::sample::Index>()) {
        let whole = sent(&task);
        prop_assert!(read(&whole[..cut.index(whole.len())]).is_err());
        // The length says so as well.
        let mut longer = whole;
        longer.push(0);
        let length = u32::try_from(longer.len() - 4).expect("small");
        longer[..4].copy_from_slice(&length.to_le_bytes());
        prop_assert!(read(&longer).is_err());
    }

    #[test]
    fn no_bytes_are_read_as_something_that_is_written_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut framed = u32::try_from(bytes.len()).expect("small").to_le_bytes().to_vec();
        framed.extend(bytes);
        if let Ok(task) = read(&framed) {
            prop_assert_eq!(read(&sent(&task)).expect("it arrives"), task);
        }
    }
}

#[test]
fn a_message_that_would_be_too_large_is_refused_before_it_is_read() {
    let error = received(&u32::MAX.to_le_bytes()).err().expect("refused");
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn an_end_between_messages_is_no_error_and_one_within_is() {
    assert!(received(&[]).expect("no error").is_none());
    let error = received(&[9, 0, 0, 0, 1]).err().expect("refused");
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_large_message_and_its_descriptors_arrive_together() {
    let (ours, theirs) = wire::pair().expect("a pair");
    let what = "x".repeat(3 << 20);
    let failure = || Failure::new(Stage::Find, what.clone(), &io::Error::from_raw_os_error(libc::ENOENT));
    let given: Vec<OwnedFd> = (0..3).map(|_| wire::spare(&ours).expect("a descriptor")).collect();
    let arrived = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
            wire::send(&ours, &Word::Failed(failure()), &given)
        });
        let arrived = wire::receive(&theirs).expect("received").expect("a message");
        sending.join().expect("no panic").expect("sent");
        arrived
    });
    assert_eq!(arrived.message::<Word>().expect("a word"), Word::Failed(failure()));
    assert_eq!(arrived.descriptors.len(), 3);
    for descriptor in arrived.descriptors {
        let flags = rustix::io::fcntl_getfd(&descriptor).expect("open");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "it would be inherited");
    }
}

#[test]
fn too_many_descriptors_are_not_sent() {
    let (ours, _theirs) = wire::pair().expect("a pair");
    let error = wire::send(&ours, &Word::Ready, &[ours.as_fd(); 33]).expect_err("refused");
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
}
