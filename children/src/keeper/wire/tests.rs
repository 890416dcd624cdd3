//! Packets of keeper and server are read as they were written, by older and newer builds too; any other bytes are refused.

use proptest::prelude::*;

use super::*;

fn pids() -> impl Strategy<Value = Option<Pid>> {
    (0..=i32::MAX).prop_map(Pid::from_raw)
}

fn ends() -> impl Strategy<Value = Ending> {
    let micros = 0..u64::MAX / 2;
    (any::<i32>(), 0..3_u8, micros.clone(), micros, any::<u64>()).prop_map(
        |(number, how, user, system, max_rss_bytes)| Ending {
            how: if how == 0 { How::Exited(number) } else { How::Killed(number) },
            core_dumped: how == 2,
            cpu_user: Duration::from_micros(user),
            cpu_system: Duration::from_micros(system),
            max_rss_bytes,
        },
    )
}

fn programs() -> impl Strategy<Value = Kin> {
    (1..=i32::MAX, pids(), any::<u64>(), any::<u64>()).prop_map(|(pid, init, mark, started)| Kin {
        pid: Pid::from_raw(pid).expect("not 0"),
        init,
        mark: Mark::from_number(mark),
        started: StartTime(started),
    })
}

fn schemas() -> impl Strategy<Value = Schema> {
    (any::<u16>(), any::<u16>(), any::<u32>()).prop_map(|(writes, reads_from, features)| Schema {
        writes,
        reads_from,
        features,
    })
}

fn packet(message: &Message<'_>) -> Vec<u8> {
    [&message.head(), message.bytes()].concat()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        key in any::<u64>(),
        program in proptest::option::of(programs()),
        end in proptest::option::of(ends()),
        other_end in ends(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        schema in schemas(),
        numbers in (any::<u16>(), any::<u32>(), any::<u32>(), any::<u64>()),
    ) {
        let key = Key(key);
        let (wire, marks, next_mark, next_key) = numbers;
        let all = [
            Message::Hello { wire, schema },
            Message::Welcome(Welcome { wire, marks, next_mark, next_key }),
            Message::Entry { key, program, end, bytes: &bytes },
            Message::All,
            Message::Update { key, bytes: &bytes },
            Message::Forget { key },
            Message::Left { mark: next_key },
            Message::Serving,
            Message::Ending,
            Message::Ended { key, end: other_end },
            Message::Suspend,
            Message::Suspended,
            Message::GoOn,
        ];
        for message in all {
            let packet = packet(&message);
            prop_assert_eq!(Message::parse(&packet), Ok(message));
        }
    }

    #[test]
    fn whatever_comes_breaks_nothing(packet in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_packet(&packet);
    }

    /// A newer build says more, and an older one less.
    #[test]
    fn heads_with_more_and_fewer_fields_are_understood(
        program in programs(),
        end in ends(),
        more in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let message = Message::Entry { key: Key(7), program: Some(program), end: Some(end), bytes: b"left alone" };
        let mut head = message.head();
        head.extend_from_slice(&more);
        head[1] += u8::try_from(more.len()).expect("few");
        let newer = [&head, message.bytes()].concat();
        prop_assert_eq!(Message::parse(&newer), Ok(message));

        let message = Message::Entry { key: Key(7), program: Some(program), end: None, bytes: b"left alone" };
        let mut head = message.head();
        head.pop();
        head[1] -= 1;
        let older = [&head, message.bytes()].concat();
        prop_assert_eq!(Message::parse(&older), Ok(message));
    }

    #[test]
    fn a_packet_that_is_cut_short_is_refused(program in programs(), end in ends(), at in any::<prop::sample::Index>()) {
        let head = Message::Entry { key: Key(7), program: Some(program), end: Some(end), bytes: b"" }.head();
        prop_assert_eq!(Message::parse(&head[..at.index(head.len())]), Err(Malformed));
    }
}

#[test]
fn a_server_reads_what_is_no_newer_and_asks_for_nothing_unknown() {
    let schema = |writes, reads_from, features| Schema { writes, reads_from, features };
    let cases = [
        (schema(3, 1, 0b11), schema(3, 1, 0b11), true),
        (schema(3, 1, 0b11), schema(1, 1, 0), true),
        (schema(3, 2, 0b11), schema(1, 1, 0), false),
        (schema(3, 1, 0b11), schema(4, 1, 0), false),
        (schema(3, 1, 0b11), schema(3, 1, 0b100), false),
        (schema(3, 1, 0b11), schema(2, 2, 0b01), true),
    ];
    for (reader, writer, reads) in cases {
        assert_eq!(reader.reads(&writer), reads, "{reader:?} of {writer:?}");
    }
}

#[test]
fn a_word_of_another_build_is_no_fault() {
    assert_eq!(Message::parse(&[200, 0]), Ok(Message::Unknown));
    assert_eq!(Message::parse(&[200]), Err(Malformed));
    assert_eq!(Message::parse(&[]), Err(Malformed));
}
