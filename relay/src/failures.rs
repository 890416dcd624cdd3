//! Failed handshakes, counted against the harness that made them.

use std::collections::VecDeque;
use std::time::Instant;

use codex_exec_protocol::registry::PublicKey;

use crate::limits::RelayLimits;

/// Harnesses whose failures are remembered; then the one that failed longest ago is forgotten. Its next failures count
/// from the start, and each costs it a new identity or 255 others'.
const REMEMBERED: usize = 256;

/// Counts failures over the life of a websocket. A message that can't be read names nobody: it is refused, and costs
/// neither a question to the registry nor anybody else's handshake. Which socket it came from only the rendezvous knows.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// Harnesses that failed lately, the latest last.
    harnesses: VecDeque<Failing>,
}

#[derive(Debug)]
struct Failing {
    key: [u8; 32],
    count: u32,
    paused_until: Option<Instant>,
}

impl Failures {
    /// A handshake of this harness failed.
    pub(crate) fn add(&mut self, harness: &PublicKey, now: Instant, limits: &RelayLimits) {
        let known = self.harnesses.iter().position(|failing| failing.key == harness.x25519);
        let mut failing = known.and_then(|at| self.harnesses.remove(at)).unwrap_or(Failing {
            key: harness.x25519,
            count: 0,
            paused_until: None,
        });
        failing.count += 1;
        if failing.count >= limits.failures {
            failing.count = 0;
            failing.paused_until = Some(now + limits.failure_pause);
            tracing::warn!(
                pause = ?limits.failure_pause,
                "too many failed handshakes of a harness: it is refused for a while"
            );
        }
        if self.harnesses.len() >= REMEMBERED {
            self.harnesses.pop_front();
        }
        self.harnesses.push_back(failing);
    }

    /// Whether this harness is refused without a question.
    pub(crate) fn paused(&self, harness: &PublicKey, now: Instant) -> bool {
        let failing = self.harnesses.iter().find(|failing| failing.key == harness.x25519);
        failing.and_then(|failing| failing.paused_until).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Identity;

    #[test]
    fn as_many_harnesses_as_there_are_leave_a_bounded_memory() {
        let (mut failures, limits, now) = (Failures::default(), RelayLimits::default(), Instant::now());
        let mut key = Identity::generate().unwrap().public_key().clone();
        for number in 0..1000_u32 {
            key.x25519[..4].copy_from_slice(&number.to_be_bytes());
            (0..limits.failures).for_each(|_| failures.add(&key, now, &limits));
        }
        assert_eq!(failures.harnesses.len(), REMEMBERED);
        assert!(failures.paused(&key, now) && !failures.paused(&key, now + limits.failure_pause));
    }
}
