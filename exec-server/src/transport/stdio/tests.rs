//! Every kind of descriptor that stdin and stdout may be.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::fs::fcntl_getfl;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::transport::PeerEvent;

const LINES: &[u8] = b"{\"id\":1}\n{\"id\":2}";

fn is_non_blocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

async fn expect_lines(carrier: &mut Carrier) {
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::Message(b"{\"id\":1}"));
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::Message(b"{\"id\":2}"));
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::End);
}

#[tokio::test]
async fn pipes_are_read_and_written_without_touching_their_flags() {
    let (input, mut to_input) = std::io::pipe().unwrap();
    let (mut from_output, output) = std::io::pipe().unwrap();
    let mut carrier = over(input.as_fd(), output.as_fd(), &Limits::default()).unwrap();
    to_input.write_all(LINES).unwrap();
    drop(to_input);
    expect_lines(&mut carrier).await;
    carrier.sink.write_all(b"answer\n").await.unwrap();
    assert!(!is_non_blocking(&input) && !is_non_blocking(&output));
    drop((carrier, output));
    let mut answer = String::new();
    from_output.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer\n");
}

#[tokio::test]
async fn one_socket_can_be_both_ends_and_keeps_its_flags() {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let mut carrier = over(ours.as_fd(), ours.as_fd(), &Limits::default()).unwrap();
    let waits = tokio::time::timeout(std::time::Duration::from_millis(10), carrier.reader.next()).await;
    assert!(waits.is_err());
    peer.write_all(LINES).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    expect_lines(&mut carrier).await;
    // More than the socket holds, so that the writer has to wait for the reader.
    let answer = vec![b'x'; 4 << 20];
    let expected = answer.len();
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got.len()
    });
    carrier.sink.write_all(&answer).await.unwrap();
    assert!(!is_non_blocking(&ours));
    drop((carrier, ours));
    assert_eq!(reading.join().unwrap(), expected);
}

#[tokio::test]
async fn files_serve_as_stdin_and_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, LINES).unwrap();
    let (read, write) = (File::open(&input).unwrap(), File::create(&output).unwrap());
    let mut carrier = over(read.as_fd(), write.as_fd(), &Limits::default()).unwrap();
    expect_lines(&mut carrier).await;
    carrier.sink.write_all(b"answer\n").await.unwrap();
    carrier.sink.flush().await.unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), b"answer\n");
}

#[tokio::test]
async fn dev_null_is_an_end_at_once() {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut carrier = over(null.as_fd(), null.as_fd(), &Limits::default()).unwrap();
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::End);
    carrier.sink.write_all(b"gone\n").await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_read_line_by_line_and_keeps_its_flags() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let user = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut carrier = over(user.as_fd(), user.as_fd(), &Limits::default()).unwrap();
    let mut controller = File::from(controller);
    controller.write_all(b"{\"id\":1}\n").unwrap();
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::Message(b"{\"id\":1}"));
    carrier.sink.write_all(b"answer\n").await.unwrap();
    assert!(!is_non_blocking(&user));
    let mut seen = String::new();
    let mut part = [0; 64];
    while !seen.contains("answer") {
        let read = controller.read(&mut part).unwrap();
        seen.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    drop(controller);
    assert_eq!(carrier.reader.next().await.unwrap(), PeerEvent::End);
}

#[tokio::test]
async fn the_in_process_pair_carries_lines_both_ways() {
    let (mut carrier, mut client) = crate::transport::memory::pair();
    client.write_all(LINES).await.unwrap();
    client.shutdown().await.unwrap();
    expect_lines(&mut carrier).await;
    carrier.sink.write_all(b"answer\n").await.unwrap();
    drop(carrier);
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client, &mut answer).await.unwrap();
    assert_eq!(answer, "answer\n");
}
