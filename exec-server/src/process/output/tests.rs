//! When output is awaited, and when it is looked at in intervals.

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

const CHUNK: usize = 64 << 10;

/// Our end as an output, and the program's.
fn pipe() -> (Output, OwnedFd) {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::io::ioctl_fionbio(&ours, true).expect("non-blocking");
    (Output::new(ours, Stream::Stdout).expect("it can be watched"), theirs)
}

fn is_flooded(output: &Output) -> bool {
    matches!(output.source, Source::Flooded(_))
}

/// A turn of the pump: waits, reads once and settles; what was read.
async fn turn(output: &mut Output, at: Instant, inputs: u64) -> Vec<u8> {
    output.ready().await;
    let (bytes, more) = match output.read(CHUNK, When::Ready, Place::Here) {
        Ok(chunk) => (chunk.bytes.to_vec(), !chunk.emptied),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            (Vec::new(), false)
        }
    };
    output.settle(at, inputs, bytes.len(), more);
    bytes
}

fn write(fd: &OwnedFd, bytes: &[u8]) {
    assert_eq!(rustix::io::write(fd, bytes).expect("room"), bytes.len());
}

/// Lets so many pieces come, one in each pause.
async fn pieces(
    output: &mut Output,
    theirs: &OwnedFd,
    from: Instant,
    count: u32,
    pause: Duration,
    inputs: bool,
) {
    for number in 1..=count {
        write(theirs, b"piece");
        let inputs = if inputs { u64::from(number) } else { 0 };
        assert_eq!(turn(output, from + pause * number, inputs).await, b"piece");
    }
}

#[tokio::test]
async fn only_a_flood_is_looked_at_in_intervals() {
    for (what, count, pause, inputs, expected) in [
        ("pieces that follow at once", FLOOD, Duration::from_micros(100), false, true),
        ("too few of them", FLOOD - 1, Duration::from_micros(100), false, false),
        ("pieces with pauses", FLOOD * 2, SOON, false, false),
        ("answers to input", FLOOD * 2, Duration::from_micros(100), true, false),
    ] {
        let (mut output, theirs) = pipe();
        let start = output.pace.last;
        pieces(&mut output, &theirs, start, count, pause, inputs).await;
        assert_eq!(is_flooded(&output), expected, "{what}");
    }
}

#[tokio::test]
async fn a_flood_loses_nothing_and_ends_by_itself() {
    let (mut output, theirs) = pipe();
    let start = output.pace.last;
    pieces(&mut output, &theirs, start, FLOOD, Duration::from_micros(100), false).await;
    assert!(is_flooded(&output));
    write(&theirs, b"first");
    write(&theirs, b" second");
    assert_eq!(turn(&mut output, start, 0).await, b"first second", "what gathers comes at once");
    let mut looks = 0;
    while is_flooded(&output) {
        assert_eq!(turn(&mut output, start, 0).await, b"");
        looks += 1;
    }
    assert_eq!(looks, LOOKS_IN_VAIN);
    write(&theirs, b"later");
    assert_eq!(turn(&mut output, start, 0).await, b"later", "it wakes us again");
}

#[tokio::test]
async fn what_a_flood_ends_with_is_read_after_its_writer_has_gone() {
    let (mut output, theirs) = pipe();
    let start = output.pace.last;
    pieces(&mut output, &theirs, start, FLOOD, Duration::from_micros(100), false).await;
    write(&theirs, b"last");
    drop(theirs);
    assert_eq!(turn(&mut output, start, 0).await, b"last");
    output.ready().await;
    let end = output.read(CHUNK, When::Ready, Place::Here).expect("the end");
    assert!(end.bytes.is_empty());
}

#[tokio::test]
async fn a_pipe_that_fills_up_gets_larger() {
    let (mut output, theirs) = pipe();
    let start = output.pace.last;
    for _ in 0..FULL_READS {
        write(&theirs, &[7; CHUNK]);
        assert_eq!(turn(&mut output, start, 0).await.len(), CHUNK);
    }
    assert_eq!(rustix::pipe::fcntl_getpipe_size(&theirs).expect("a pipe"), LARGE_PIPE);
}

#[tokio::test]
async fn a_flooding_terminal_tells_much_at_once_and_all_of_it_in_the_end() {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::io::ioctl_fionbio(&ours, true).expect("non-blocking");
    let mut output = Output::terminal(ours, true).expect("it can be watched");
    let start = output.pace.last;
    let ms = |ms| start + Duration::from_millis(ms);
    let told = |output: &mut Output, bytes: &[u8], at| output.gather(Bytes::copy_from_slice(bytes), at);
    assert_eq!(told(&mut output, b"a line", start), "a line", "no flood: at once");
    pieces(&mut output, &theirs, start, FLOOD, Duration::from_micros(100), false).await;
    assert!(is_flooded(&output));
    assert_eq!(told(&mut output, b"one ", ms(10)), "");
    assert_eq!((told(&mut output, b"two ", ms(12)), output.due(ms(13))), (Bytes::new(), Bytes::new()));
    assert_eq!(output.due(ms(14)), "one two ", "after a moment, though nothing more comes");
    assert_eq!(told(&mut output, b"three ", ms(20)), "");
    assert_eq!(output.rest(), "three ", "at the program's end");
    assert_eq!(told(&mut output, b"four ", ms(30)), "");
    while is_flooded(&output) {
        assert_eq!(output.due(ms(31)), "");
        assert_eq!(turn(&mut output, ms(31), 0).await, b"");
    }
    assert_eq!(output.due(ms(31)), "four ", "with the flood's end");
    assert_eq!(told(&mut output, b"five", ms(32)), "five");
}
