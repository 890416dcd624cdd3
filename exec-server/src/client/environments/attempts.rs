//! When a failed start is tried again, and what is said meanwhile. No I/O, no clock.

use std::time::{Duration, Instant};

use super::error::EnvironmentError;
use crate::backoff::Backoff;

/// Who asks again sooner than this after a failure hears that failure: the world has not changed since. Our own pace: nothing
/// outside depends on it.
const FRESH: Duration = Duration::from_secs(1);
/// For as long after somebody asked, a failed start is tried again without being asked (15.2). Our own pace: nothing outside
/// depends on it.
const UNASKED: Duration = Duration::from_secs(300);

/// The attempts to reach one environment since it was last reached.
#[derive(Debug)]
pub(super) struct Attempts {
    pauses: Backoff,
    asked: Option<Instant>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    error: EnvironmentError,
    fresh_until: Option<Instant>,
    next: Option<Instant>,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { pauses: Backoff::of_environment(), asked: None, failed: None }
    }

    /// Somebody asks, so an attempt is due.
    ///
    /// # Errors
    /// The last failure, if it is fresh.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), EnvironmentError> {
        self.asked = Some(now);
        match &self.failed {
            Some(failed) if failed.fresh_until.is_some_and(|until| now < until) => Err(failed.error.clone()),
            _ => Ok(()),
        }
    }

    /// An attempt failed. One that time may cure is tried again, later each time, while somebody may still want it.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        error: EnvironmentError,
        curable: bool,
        jitter: &mut dyn FnMut() -> f64,
    ) {
        let until = self.asked.map_or(now, |asked| asked + UNASKED);
        let next = curable.then(|| now + self.pauses.next(jitter)).filter(|next| *next < until);
        self.failed = Some(Failed { error, fresh_until: Some(now + FRESH), next });
    }

    /// It was reached, or is to begin anew.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }

    /// When it is tried again without being asked.
    pub(super) fn next(&self) -> Option<Instant> {
        self.failed.as_ref()?.next
    }

    /// Nobody tries it again without being asked, and who asks the next time has it tried at once.
    pub(super) fn stop(&mut self) {
        if let Some(failed) = &mut self.failed {
            (failed.next, failed.fresh_until) = (None, None);
        }
    }

    /// Why it can't be reached, as far as was seen.
    pub(super) fn reason(&self) -> Option<String> {
        self.failed.as_ref().map(|failed| failed.error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> EnvironmentError {
        EnvironmentError::Dial(text.into())
    }

    /// The seconds after the first failure at which it is tried unasked, each attempt failing at once.
    fn tried(attempts: &mut Attempts, start: Instant, curable: bool) -> Vec<u64> {
        let (mut now, mut tried) = (start, Vec::new());
        loop {
            attempts.failed(now, error("away"), curable, &mut || 0.0);
            let Some(next) = attempts.next() else { return tried };
            assert!(next > now, "time must move on");
            now = next;
            tried.push((now - start).as_secs());
        }
    }

    #[test]
    fn a_failed_start_is_tried_later_each_time_for_five_minutes_after_somebody_asked() {
        let (start, mut attempts) = (Instant::now(), Attempts::new());
        attempts.ask(start).unwrap();
        assert_eq!(
            tried(&mut attempts, start, true),
            [1, 3, 7, 15, 31, 61, 91, 121, 151, 181, 211, 241, 271]
        );
        let later = start + Duration::from_secs(900);
        attempts.ask(later).unwrap();
        assert_eq!(
            tried(&mut attempts, later, true).len(),
            9,
            "who asks sets it going again, at its last pace"
        );
        attempts.ask(later + UNASKED).unwrap();
        assert_eq!(tried(&mut attempts, later + UNASKED, false), [0; 0], "a refusal is not tried unasked");
    }

    #[test]
    fn a_failure_is_told_while_it_is_fresh_and_never_for_ever() {
        let (start, mut attempts) = (Instant::now(), Attempts::new());
        attempts.ask(start).unwrap();
        attempts.failed(start, error("away"), true, &mut || 0.0);
        assert_eq!(attempts.ask(start + FRESH / 2).unwrap_err().to_string(), "away");
        assert_eq!(attempts.reason().as_deref(), Some("away"));
        attempts.ask(start + FRESH).unwrap();
        attempts.failed(start + FRESH, error("still away"), true, &mut || 0.0);
        attempts.stop();
        attempts.ask(start + FRESH).unwrap();
        assert_eq!((attempts.next(), attempts.reason().as_deref()), (None, Some("still away")));
        attempts.forget();
        assert_eq!((attempts.reason(), attempts.next()), (None, None));
        attempts.ask(start).unwrap();
    }
}
