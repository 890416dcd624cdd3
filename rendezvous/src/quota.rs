//! Counts what is held at once, up to a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of a thing are held, and how many may be.
#[derive(Debug)]
pub struct Quota {
    held: AtomicUsize,
    bound: usize,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Share(Arc<Quota>);

impl Quota {
    /// A quota of this many places.
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), bound })
    }

    /// Takes one, unless the bound is reached.
    pub fn take(self: &Arc<Self>) -> Option<Share> {
        let more = |held| (held < self.bound).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Share(Arc::clone(self)))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back_when_dropped() {
        let quota = Quota::new(2);
        let (first, second) = (quota.take().unwrap(), quota.take().unwrap());
        assert!(quota.take().is_none());
        drop(first);
        assert!(quota.take().is_some());
        drop(second);
        assert_eq!(quota.held(), 0);
    }
}
