//! Places for programs that run: whoever waits for the longest time gets the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A place that is taken. It is free again when this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// All places, and those who wait for one.
#[derive(Debug)]
pub(super) struct Places {
    /// Serves those who wait in their order.
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// One who waits; dropped with the wait, however it ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    /// So many places, and so many who may wait at once.
    pub(super) fn new(places: usize, most_waiting: usize) -> Self {
        let free = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { free, waiting: AtomicUsize::new(0), most_waiting }
    }

    /// A place; none if too many wait, or when none came free within `patience`.
    pub(super) async fn get(&self, patience: Duration) -> Option<Place> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.most_waiting {
            return None;
        }
        timeout(patience, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test(start_paused = true)]
    async fn who_came_first_goes_first_and_who_gave_up_is_in_nobodys_way() {
        let places = Places::new(1, 3);
        let taken = places.get(Duration::ZERO).await.unwrap();
        assert!(places.get(Duration::ZERO).await.is_none());
        let [mut first, mut second, mut third] = [(); 3].map(|()| Box::pin(places.get(LONG)));
        for wait in [&mut first, &mut second, &mut third] {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        assert!(places.get(LONG).await.is_none(), "three may wait");
        drop(first);
        drop(taken);
        assert!(third.as_mut().now_or_never().is_none(), "it came later");
        let next = second.as_mut().now_or_never().flatten().unwrap();
        drop(next);
        assert!(third.as_mut().now_or_never().flatten().is_some());
        let taken = places.get(Duration::ZERO).await.unwrap();
        assert!(places.get(LONG).await.is_none(), "patience ends");
        drop(taken);
        assert!(places.get(LONG).await.is_some());
    }
}
