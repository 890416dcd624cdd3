//! Cursors, bounds, holds and losses of an output log.

use super::*;

fn bytes(n: usize) -> Bytes {
    Bytes::from(vec![b'x'; n])
}

fn exit() -> Exit {
    Exit { code: 0, details: ExitDetails::default(), sandbox_denied: false }
}

#[test]
fn events_come_in_the_order_of_their_numbers() {
    let mut log = OutputLog::new(100);
    log.attach();
    log.append(Stream::Stdout, bytes(1));
    log.exited(exit());
    log.append(Stream::Stderr, bytes(2));
    log.closed();
    let seqs: Vec<Seq> = log
        .unsent()
        .map(|event| match event {
            LogEvent::Output(chunk) => chunk.seq,
            LogEvent::Exited(seq, _) | LogEvent::Closed(seq) => seq,
        })
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4].map(Seq));
    log.sent(Seq(4));
    assert!(log.all_sent());
}

#[test]
fn a_follower_that_lags_a_whole_log_behind_stalls_the_program() {
    let mut log = OutputLog::new(10);
    log.attach();
    log.append(Stream::Stdout, bytes(10));
    assert!(log.has_room(), "as much again may be on its way");
    log.append(Stream::Stdout, bytes(10));
    assert!(!log.has_room());
    log.sent(Seq(2));
    assert!(!log.has_room(), "what is sent may still be lost on its way");
    log.received(Seq(1));
    assert!(log.has_room());
    log.append(Stream::Stdout, bytes(10));
    assert_eq!((log.lost_after(Seq(0)), log.lost_after(Seq(1))), (10, 0));
    log.received(Seq(9));
    assert_eq!(log.lost_after(Seq(0)), 20, "nothing is received that was not sent");
}

#[test]
fn with_nobody_attached_the_oldest_output_goes() {
    let mut log = OutputLog::new(10);
    for _ in 0..1000 {
        assert!(log.has_room());
        log.append(Stream::Stdout, bytes(5));
    }
    assert_eq!(log.read(Seq::NONE, None).0.len(), 2);
    assert_eq!(log.lost_after(Seq(0)), 998 * 5);
    assert_eq!(log.lost_after(Seq(998)), 0);
    assert_eq!(log.lost_after(Seq(997)), 5);
}

#[test]
fn a_hold_keeps_every_byte_until_it_is_read_or_released() {
    let mut log = OutputLog::new(10);
    log.attach();
    log.append(Stream::Stdout, bytes(6));
    log.sent(Seq(1));
    log.detach(false);
    log.append(Stream::Stdout, bytes(6));
    assert!(!log.has_room(), "the log is full and held");
    log.attach();
    assert!(!log.has_room(), "the newcomer has not read yet");
    assert_eq!(log.read(Seq::NONE, None).0.len(), 2);
    log.append(Stream::Stdout, bytes(1));
    log.was_read(Seq(1));
    assert!(log.is_held(), "half of what it missed is missing still");
    log.was_read(Seq(2));
    assert!(log.has_room() && !log.is_held(), "the rest comes as notifications");
    log.detach(false);
    log.release();
    assert!(log.has_room());
}

#[test]
fn a_read_returns_whole_chunks_and_at_least_one() {
    let mut log = OutputLog::new(100);
    for _ in 0..3 {
        log.append(Stream::Pty, bytes(4));
    }
    for (after, max, count, next) in [
        (0, None, 3, 4),
        (0, Some(0), 1, 2),
        (0, Some(8), 2, 3),
        (0, Some(11), 2, 3),
        (1, Some(99), 2, 4),
        (3, Some(1), 0, 4),
        (9, None, 0, 4),
    ] {
        let (chunks, got) = log.read(Seq(after), max);
        assert_eq!((chunks.len(), got), (count, Seq(next)), "after {after} max {max:?}");
    }
}

#[test]
fn news_after_a_number_is_a_chunk_an_exit_or_the_close() {
    let mut log = OutputLog::new(100);
    assert!(!log.has_news_after(Seq(0)));
    log.append(Stream::Stdout, bytes(1));
    assert!(log.has_news_after(Seq(0)) && !log.has_news_after(Seq(1)));
    log.exited(exit());
    assert!(log.has_news_after(Seq(1)) && !log.has_news_after(Seq(2)));
    log.closed();
    assert!(log.has_news_after(Seq(99)));
}

#[test]
fn what_the_last_follower_saw_is_known_after_its_connection() {
    for (orderly, confirmed, missed, unseen) in
        [(true, 0, false, false), (false, 0, false, true), (false, 2, false, false), (true, 2, true, true)]
    {
        let mut log = OutputLog::new(100);
        log.attach();
        log.append(Stream::Stdout, Bytes::from_static(b"one"));
        if missed {
            log.detach(false);
            log.attach();
        }
        log.append(Stream::Stdout, Bytes::from_static(b"two"));
        log.sent(Seq(2));
        log.received(Seq(confirmed));
        log.detach(orderly);
        assert_eq!(log.has_unseen(), unseen, "orderly {orderly}, confirmed {confirmed}, missed {missed}");
        log.append(Stream::Stdout, Bytes::from_static(b"three"));
        assert!(log.has_unseen(), "nobody has seen what came later");
    }
}

#[test]
fn output_that_is_gone_is_news_for_who_has_not_read_it() {
    let mut log = OutputLog::new(10);
    log.append(Stream::Stdout, bytes(20));
    assert!(log.read(Seq::NONE, None).0.is_empty(), "one piece was more than the log retains");
    assert!(log.has_news_after(Seq::NONE) && log.lost_after(Seq::NONE) == 20);
    assert!(!log.has_news_after(Seq(1)));
}
