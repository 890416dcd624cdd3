//! Random schedules of harnesses and an executor against a model of who owns which stream.

use std::collections::HashMap;

use proptest::prelude::*;

use super::tests::{data, received, socket};
use super::*;
use crate::limits::Limits;
use crate::outlet::Budget;

const HARNESSES: usize = 3;
const STREAMS: [&str; 3] = ["A", "B", "C"];

/// One thing that somebody does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Harness { at: usize, stream: usize },
    HarnessResets { at: usize, stream: usize },
    HarnessLeaves { at: usize },
    Executor { stream: usize },
    ExecutorResets { stream: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (at, stream) = (0..HARNESSES, 0..STREAMS.len());
    prop_oneof![
        4 => (at.clone(), stream.clone()).prop_map(|(at, stream)| Step::Harness { at, stream }),
        1 => (at.clone(), stream.clone()).prop_map(|(at, stream)| Step::HarnessResets { at, stream }),
        1 => at.prop_map(|at| Step::HarnessLeaves { at }),
        4 => stream.clone().prop_map(|stream| Step::Executor { stream }),
        1 => stream.prop_map(|stream| Step::ExecutorResets { stream }),
    ]
}

fn outlet() -> Arc<Outlet> {
    Outlet::new(&Limits::default(), Arc::new(Budget::new(usize::MAX)))
}

fn said(stream: usize, what: &str) -> (String, String) {
    (STREAMS[stream].to_owned(), what.to_owned())
}

/// A harness socket with its own number, so that a successor at the same place is another one.
struct Socket {
    number: usize,
    outlet: Arc<Outlet>,
    port: Box<dyn Port>,
    expected: Vec<(String, String)>,
}

proptest! {
    #[test]
    fn frames_go_to_and_come_from_the_owner_whatever_happens(steps in prop::collection::vec(step(), 0..60)) {
        let switch = InProcess::new();
        let executor = outlet();
        let port = switch.attach_executor("r", Arc::clone(&executor));
        let mut numbers = 0..;
        let mut join = || {
            let outlet = outlet();
            let port = switch.attach_harness("r", socket(&outlet, 9)).unwrap();
            Socket { number: numbers.next().unwrap(), outlet, port, expected: Vec::new() }
        };
        let mut sockets: Vec<_> = (0..HARNESSES).map(|_| join()).collect();
        let mut owners: HashMap<usize, usize> = HashMap::new();
        for (time, step) in steps.into_iter().enumerate() {
            let text = time.to_string();
            // What the executor hears of this step.
            let mut heard = Vec::new();
            match step {
                Step::Harness { at, stream } => {
                    let socket = &sockets[at];
                    let owner = *owners.entry(stream).or_insert(socket.number);
                    let passed = socket.port.pass(data(STREAMS[stream], &text));
                    prop_assert_eq!(matches!(passed, Passed::Sent), owner == socket.number);
                    if owner == socket.number {
                        heard.push(said(stream, &text));
                    }
                }
                Step::HarnessResets { at, stream } => {
                    let number = sockets[at].number;
                    let foreign = owners.get(&stream).is_some_and(|owner| *owner != number);
                    let passed = sockets[at].port.pass(frame::reset(STREAMS[stream], "done"));
                    prop_assert_eq!(matches!(passed, Passed::Sent), !foreign);
                    if !foreign {
                        owners.remove(&stream);
                        heard.push(said(stream, "reset"));
                    }
                }
                Step::HarnessLeaves { at } => {
                    let gone = std::mem::replace(&mut sockets[at], join());
                    prop_assert_eq!(received(&gone.outlet), gone.expected);
                    let mut left: Vec<_> =
                        owners.iter().filter(|(_, owner)| **owner == gone.number).map(|(stream, _)| *stream).collect();
                    left.sort_unstable();
                    owners.retain(|_, owner| *owner != gone.number);
                    heard.extend(left.into_iter().map(|stream| said(stream, "reset")));
                    drop(gone.port);
                }
                Step::Executor { stream } | Step::ExecutorResets { stream } => {
                    let resets = matches!(step, Step::ExecutorResets { .. });
                    let what = if resets { "reset" } else { &text };
                    let bytes =
                        if resets { frame::reset(STREAMS[stream], "no") } else { data(STREAMS[stream], &text) };
                    let passed = port.pass(bytes);
                    let owner = owners.get(&stream).copied();
                    prop_assert_eq!(matches!(passed, Passed::Sent), owner.is_some());
                    if let Some(socket) = sockets.iter_mut().find(|socket| Some(socket.number) == owner) {
                        socket.expected.push(said(stream, what));
                    }
                    if resets {
                        owners.remove(&stream);
                    }
                }
            }
            let mut arrived = received(&executor);
            arrived.sort();
            prop_assert_eq!(arrived, heard);
        }
        for socket in sockets {
            prop_assert_eq!(received(&socket.outlet), socket.expected);
        }
    }
}
