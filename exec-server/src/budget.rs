//! Shares out memory among answers, so that those nobody takes can't pile up without end.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is claimed in units of this many bytes.
const UNIT: u64 = 1 << 10;

/// What an answer of `payload` bytes takes at most, while it is encoded: the payload and its base64.
pub(crate) const fn answer_bytes(payload: u64) -> u64 {
    payload.saturating_mul(7) / 3
}

/// A number of bytes that claims share. A claim for more than all of it gets all of it, and so is alone.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

/// A claimed part, free again when dropped.
#[derive(Debug)]
pub(crate) struct Claim(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let most = u64::try_from(Semaphore::MAX_PERMITS).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        let units = (bytes as u64).div_ceil(UNIT).clamp(1, most);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }

    /// Claims at once, or not at all.
    pub(crate) fn try_claim(&self, bytes: u64) -> Option<Claim> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(Claim(Some(permit)))
    }

    /// Claims in the order of the calls, when there is room.
    pub(crate) async fn claim(&self, bytes: u64) -> Claim {
        // Fails only once the semaphore is closed, which nobody does.
        Claim(Arc::clone(&self.free).acquire_many_owned(self.units(bytes)).await.ok())
    }

    /// Claims everything: for what has no known size.
    pub(crate) async fn claim_all(&self) -> Claim {
        self.claim(u64::MAX).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn claims_share_the_budget_and_one_larger_than_all_of_it_is_alone() {
        let budget = Budget::new(10 << 10);
        let small = budget.claim(4 << 10).await;
        let other = budget.claim(6 << 10).await;
        assert!(budget.try_claim(1).is_none());
        drop(other);
        assert!(budget.try_claim(1).is_some());
        assert!(budget.try_claim(u64::MAX).is_none());
        drop(small);
        let all = budget.claim(1 << 40).await;
        assert!(budget.try_claim(1).is_none());
        drop(all);
        assert!(budget.try_claim(0).is_some());
    }
}
