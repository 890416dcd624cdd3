//! Slots for the proxied connections of all programs, so that they never use up the descriptors that the server needs.

use std::sync::{Arc, LazyLock};

use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

/// The number of slots is this fraction of the descriptors that the server may open. A slot takes two.
const PART: u64 = 8;
/// This many slots always exist. A safeguard, far from any real use.
const LEAST: usize = 16;

static SLOTS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(count(getrlimit(Resource::Nofile).current))));

/// Those of the whole server.
pub(super) fn of_all() -> Arc<Semaphore> {
    Arc::clone(&SLOTS)
}

/// The slots of one program that may have `wanted`: at most half of all, so that others find some.
pub(super) fn of_one(wanted: usize) -> Arc<Semaphore> {
    let most = count(getrlimit(Resource::Nofile).current) / 2;
    Arc::new(Semaphore::new(wanted.clamp(1, most)))
}

/// `bound` is the soft limit of descriptors, if there is one.
fn count(bound: Option<u64>) -> usize {
    let part = usize::try_from(bound.unwrap_or(u64::MAX) / PART).unwrap_or(usize::MAX);
    part.clamp(LEAST, Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_the_descriptors_are_places_and_never_too_few() {
        for (bound, slots) in [
            (Some(0), 16),
            (Some(128), 16),
            (Some(1024), 128),
            (Some(1 << 20), 1 << 17),
            (None, Semaphore::MAX_PERMITS),
        ] {
            assert_eq!(count(bound), slots, "{bound:?}");
        }
        assert_eq!(of_one(1).available_permits(), 1);
        assert!(of_one(usize::MAX).available_permits() < of_all().available_permits() + 1);
    }
}
