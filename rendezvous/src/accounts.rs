//! The tokens in force, and what each has used up of its limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota as Rate, RateLimiter};
use parking_lot::RwLock;
use subtle::{Choice, ConstantTimeEq};

use crate::limits::Limits;
use crate::outlet::Budget;
use crate::quota::Quota;
use crate::tokens::{Grant, Role, TokenHash};

/// A token in force.
#[derive(Debug, Clone)]
pub struct Account {
    /// What the token allows.
    pub grant: Arc<Grant>,
    /// What it has used.
    pub usage: Arc<Usage>,
}

/// What all bearers of one token use together.
pub struct Usage {
    requests: DefaultDirectRateLimiter,
    /// Bytes queued for its sockets.
    pub budget: Arc<Budget>,
    /// Places for harness sockets.
    pub sockets: Arc<Quota>,
    /// The streams of its harness sockets.
    pub streams: Arc<Quota>,
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").field("sockets", &self.sockets).field("streams", &self.streams).finish()
    }
}

impl Usage {
    fn new(limits: &Limits) -> Self {
        let per_second = NonZeroU32::new(limits.callers.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(limits.callers.request_burst).unwrap_or(NonZeroU32::MIN);
        Self {
            requests: RateLimiter::direct(Rate::per_second(per_second).allow_burst(burst)),
            budget: Arc::new(Budget::new(limits.queues.token_queue_bytes)),
            sockets: Quota::new(limits.callers.sockets),
            streams: Quota::new(limits.callers.streams),
        }
    }

    /// Counts a request, unless there were too many.
    ///
    /// # Errors
    /// When the token made too many requests; how long to wait.
    pub fn request(&self) -> Result<(), Duration> {
        self.requests.check().map_err(|not_until| {
            not_until.wait_time_from(governor::clock::Clock::now(&governor::clock::DefaultClock::default()))
        })
    }
}

/// All tokens in force.
#[derive(Debug)]
pub struct Accounts {
    limits: Arc<Limits>,
    all: RwLock<Vec<Account>>,
}

impl Accounts {
    /// These tokens, nothing used.
    pub fn new(grants: Vec<Grant>, limits: Arc<Limits>) -> Self {
        let accounts = Self { limits, all: RwLock::default() };
        accounts.replace(grants);
        accounts
    }

    /// Puts other tokens in force; those that stay keep what they used.
    pub fn replace(&self, grants: Vec<Grant>) {
        let mut all = self.all.write();
        let renewed = grants
            .into_iter()
            .map(|grant| {
                let kept = all.iter().find(|account| account.grant.hash == grant.hash);
                let usage =
                    kept.map_or_else(|| Arc::new(Usage::new(&self.limits)), |kept| Arc::clone(&kept.usage));
                Account { grant: Arc::new(grant), usage }
            })
            .collect();
        *all = renewed;
    }

    fn select(&self, matches: impl Fn(&Grant) -> Choice) -> Option<Account> {
        let all = self.all.read();
        // All are looked at, so that the time tells nothing.
        let mut found = None;
        for account in all.iter() {
            if matches(&account.grant).into() {
                found = Some(account.clone());
            }
        }
        found
    }

    /// The account that this token belongs to.
    pub fn by_token(&self, token: &str) -> Option<Account> {
        let hash = TokenHash::of(token);
        self.select(|grant| grant.matches(&hash))
    }

    /// The token with this short name (`TokenHash::short`).
    pub fn by_short(&self, short: &str) -> Option<Account> {
        self.select(|grant| grant.hash.short().as_bytes().ct_eq(short.as_bytes()))
    }

    /// Whether the token with this hash may still do this.
    pub fn still_allows(&self, hash: &TokenHash, role: Role, environment: &str) -> bool {
        self.select(|grant| grant.matches(hash))
            .is_some_and(|account| account.grant.allows(role, environment))
    }

    /// Bytes queued for all sockets.
    pub fn queued(&self) -> usize {
        self.all.read().iter().map(|a| a.usage.budget.queued()).sum()
    }

    /// Streams of all harness sockets.
    pub fn streams(&self) -> usize {
        self.all.read().iter().map(|a| a.usage.streams.held()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{mint, scope};

    #[test]
    fn tokens_are_found_and_those_that_stay_keep_what_they_used() {
        let limits = Arc::new(Limits::default().with(|limits| {
            limits.callers.requests_per_second = 1;
            limits.callers.request_burst = 2;
        }));
        let make = |role| mint([role].into(), scope("a").unwrap(), "");
        let ((first, first_grant), (second, second_grant)) = (make(Role::Executor), make(Role::Harness));
        let accounts = Accounts::new(vec![first_grant.clone(), second_grant.clone()], limits);
        let account = accounts.by_token(first.expose()).unwrap();
        assert!(account.usage.request().is_ok() && account.usage.request().is_ok());
        assert!(account.usage.request().unwrap_err() > Duration::ZERO);
        assert!(accounts.by_token("cxr_no").is_none() && accounts.by_token("").is_none());
        assert_eq!(accounts.by_short(&second_grant.hash.short()).unwrap().grant.hash, second_grant.hash);
        accounts.replace(vec![first_grant.clone()]);
        assert!(accounts.by_token(first.expose()).unwrap().usage.request().is_err());
        assert!(accounts.by_token(second.expose()).is_none());
        assert!(accounts.still_allows(&first_grant.hash, Role::Executor, "a"));
        assert!(!accounts.still_allows(&second_grant.hash, Role::Harness, "a"));
    }
}
