//! Packets of a program's network device (21.3): no packet, in whatever order, ends the stack.
#![cfg_attr(fuzzing, no_main)]

use arbitrary::Arbitrary;
use codex_fuzz::target;
use codex_tcp_stack::fuzzing::{Step, play};

const SYN: u8 = 2;

#[derive(Debug, Arbitrary)]
enum Event<'a> {
    /// Of one of three connections; its numbers fit those that the stack knows, but for these distances.
    Tcp {
        from: u8,
        flags: u8,
        seq: i8,
        ack: i8,
        window: u16,
        options: &'a [u8],
        payload: &'a [u8],
    },
    /// Its first packet, and the consent.
    Begin {
        from: u8,
    },
    Raw(&'a [u8]),
    Answer(bool),
    Sent(&'a [u8]),
    Gone,
}

/// What the stack expects of a connection next.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    seq: u32,
    ack: u32,
}

fn packet(from: u8, numbers: Numbers, flags: u8, window: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let options = &options[..options.len().min(40) / 4 * 4];
    let length = 40 + options.len() + payload.len().min(2000);
    let mut bytes = vec![0x45, 0];
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    bytes.extend([0x9c, from, 1, 187]);
    bytes.extend(numbers.seq.to_be_bytes());
    bytes.extend(numbers.ack.to_be_bytes());
    bytes.extend([((20 + options.len()) as u8) << 2, flags]);
    bytes.extend(window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.extend(&payload[..payload.len().min(2000)]);
    bytes
}

/// Takes the numbers out of what the stack sent.
fn learn(told: &[u8], known: &mut [Numbers; 3]) {
    if told.len() < 40 || told[0] != 0x45 || told[9] != 6 {
        return;
    }
    let number = |at: usize| u32::from_be_bytes([told[at], told[at + 1], told[at + 2], told[at + 3]]);
    let payload = told.len() - 20 - usize::from(told[32] >> 4) * 4;
    let flags = told[33];
    if let Some(known) = known.get_mut(usize::from(told[23])) {
        let extra = u32::from(flags & SYN != 0) + u32::from(flags & 1);
        *known =
            Numbers { seq: number(28), ack: number(24).wrapping_add(payload as u32).wrapping_add(extra) };
    }
}

target!(|events: Vec<Event<'_>>| {
    let mut known = [Numbers { seq: 1000, ack: 0 }; 3];
    let mut waiting: Vec<Step> = Vec::new();
    let mut events = events.into_iter().take(200);
    play(|told| {
        told.iter().for_each(|told| learn(told, &mut known));
        if let Some(step) = waiting.pop() {
            return Some(step);
        }
        Some(match events.next()? {
            Event::Tcp { from, flags, seq, ack, window, options, payload } => {
                let from = from % 3;
                let numbers = known[usize::from(from)];
                let numbers = Numbers {
                    seq: numbers.seq.wrapping_add_signed(seq.into()),
                    ack: numbers.ack.wrapping_add_signed(ack.into()),
                };
                Step::Packet(packet(from, numbers, flags, window, options, payload))
            }
            Event::Begin { from } => {
                let from = from % 3;
                let numbers = Numbers { ack: 0, ..known[usize::from(from)] };
                waiting.push(Step::Answer(true));
                Step::Packet(packet(from, numbers, SYN, 60_000, &[], &[]))
            }
            Event::Raw(bytes) => Step::Packet(bytes.iter().copied().take(3000).collect()),
            Event::Answer(yes) => Step::Answer(yes),
            Event::Sent(bytes) => Step::Sent(bytes.to_vec()),
            Event::Gone => Step::Gone,
        })
    })
    .expect("a stack goes on");
});
