//! All links and sessions that are good.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_secret::Secret;
use parking_lot::Mutex;

use super::grant::{Grant, Role, Scope};
use super::key::{self, KeyHash};

/// What somebody asks a link to allow.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) scope: Scope,
    /// How long it, and the session it is exchanged for, are good.
    pub(crate) life: Duration,
}

/// Why there is no link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoGrant {
    /// As many are good as may be.
    #[error("{0} links and sessions are good already; revoke one first")]
    TooMany(usize),
}

/// A grant as it is listed.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) grant: Arc<Grant>,
    /// Somebody has exchanged its link.
    pub(crate) used: bool,
}

/// All links and sessions that are good.
#[derive(Debug)]
pub(crate) struct Book {
    most: usize,
    /// How long whoever used an owner's link stays signed in.
    session_life: Duration,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    links: HashMap<KeyHash, u64>,
    sessions: HashMap<KeyHash, u64>,
}

#[derive(Debug)]
struct Entry {
    grant: Arc<Grant>,
    /// Of the link, and once that is used, of the session.
    key: KeyHash,
    used: bool,
}

impl Book {
    pub(crate) fn new(most: usize, session_life: Duration) -> Self {
        Self { most, session_life, pages: Mutex::default() }
    }

    /// Makes a link; its key is shown this once.
    ///
    /// # Errors
    /// As many are good as may be.
    pub(crate) fn link(&self, wish: Wish, now: Instant) -> Result<(Secret, Arc<Grant>), NoGrant> {
        let mut pages = self.pages.lock();
        pages.forget_expired(now);
        if pages.entries.len() >= self.most {
            return Err(NoGrant::TooMany(self.most));
        }
        pages.next += 1;
        let id = pages.next;
        let grant = Arc::new(Grant::new(id, wish.name, wish.role, wish.scope, now + wish.life));
        let key = key::mint();
        let hash = KeyHash::of(key.expose());
        pages.links.insert(hash, id);
        pages.entries.insert(id, Entry { grant: Arc::clone(&grant), key: hash, used: false });
        Ok((key, grant))
    }

    /// Exchanges a link's key for that of a session, once.
    pub(crate) fn exchange(&self, key: &str, now: Instant) -> Option<(Secret, Arc<Grant>)> {
        let mut pages = self.pages.lock();
        pages.forget_expired(now);
        let id = pages.links.remove(&KeyHash::of(key))?;
        let session = key::mint();
        let hash = KeyHash::of(session.expose());
        let entry = pages.entries.get_mut(&id)?;
        if entry.grant.role == Role::Own {
            entry.grant = Arc::new(entry.grant.until(now + self.session_life));
        }
        (entry.key, entry.used) = (hash, true);
        let grant = Arc::clone(&entry.grant);
        pages.sessions.insert(hash, id);
        Some((session, grant))
    }

    /// What the session with this key allows.
    pub(crate) fn caller(&self, key: &str, now: Instant) -> Option<Arc<Grant>> {
        let pages = self.pages.lock();
        let id = pages.sessions.get(&KeyHash::of(key))?;
        let grant = &pages.entries.get(id)?.grant;
        (now < grant.expires).then(|| Arc::clone(grant))
    }

    /// Ends a link or session; false if there is none of this id.
    pub(crate) fn revoke(&self, id: u64) -> bool {
        self.pages.lock().end(id)
    }

    /// Ends all links and sessions.
    pub(crate) fn revoke_all(&self) {
        let mut pages = self.pages.lock();
        for id in pages.entries.keys().copied().collect::<Vec<_>>() {
            pages.end(id);
        }
    }

    /// All that are good, in the order in which they were made.
    pub(crate) fn list(&self, now: Instant) -> Vec<Listed> {
        let mut pages = self.pages.lock();
        pages.forget_expired(now);
        let listed = |entry: &Entry| Listed { grant: Arc::clone(&entry.grant), used: entry.used };
        pages.entries.values().map(listed).collect()
    }
}

impl Pages {
    fn end(&mut self, id: u64) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.links.remove(&entry.key);
        self.sessions.remove(&entry.key);
        entry.grant.end();
        true
    }

    fn forget_expired(&mut self, now: Instant) {
        let expired = self.entries.iter().filter(|(_, entry)| entry.grant.expires <= now);
        for id in expired.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn wish(role: Role) -> Wish {
        Wish { name: "x".into(), role, scope: Scope::All, life: MINUTE }
    }

    #[test]
    fn a_link_is_good_once_and_for_its_time() {
        let (book, now) = (Book::new(8, 10 * MINUTE), Instant::now());
        let (key, _) = book.link(wish(Role::Look), now).unwrap();
        assert!(book.caller(key.expose(), now).is_none(), "a link's key is no session's");
        let (session, grant) = book.exchange(key.expose(), now).unwrap();
        assert!(book.exchange(key.expose(), now).is_none(), "it was used");
        assert_eq!(book.caller(session.expose(), now).unwrap().id, grant.id);
        assert!(
            book.caller(session.expose(), now + MINUTE).is_none(),
            "the session ends with the link's time"
        );
        let (late, _) = book.link(wish(Role::Look), now).unwrap();
        assert!(book.exchange(late.expose(), now + MINUTE).is_none(), "it has expired");
        assert!(book.list(now + MINUTE).is_empty());
    }

    #[test]
    fn whoever_used_an_owners_link_stays_longer_than_the_link() {
        let (book, now) = (Book::new(8, 10 * MINUTE), Instant::now());
        let (key, _) = book.link(wish(Role::Own), now).unwrap();
        let (session, _) = book.exchange(key.expose(), now).unwrap();
        assert!(book.caller(session.expose(), now + 9 * MINUTE).is_some());
        assert!(book.caller(session.expose(), now + 10 * MINUTE).is_none());
    }

    #[tokio::test]
    async fn what_is_revoked_is_over_whether_used_or_not() {
        let (book, now) = (Book::new(2, MINUTE), Instant::now());
        let (unused, link) = book.link(wish(Role::Look), now).unwrap();
        let (key, _) = book.link(wish(Role::Type), now).unwrap();
        let (session, grant) = book.exchange(key.expose(), now).unwrap();
        assert_eq!(book.link(wish(Role::Look), now).unwrap_err(), NoGrant::TooMany(2));
        assert!(book.revoke(link.id) && book.revoke(grant.id) && !book.revoke(grant.id));
        grant.over().await;
        assert!(
            book.exchange(unused.expose(), now).is_none() && book.caller(session.expose(), now).is_none()
        );
    }

    #[test]
    fn a_scope_reaches_what_it_names_and_nothing_else() {
        let of = |scope| Grant::new(1, String::new(), Role::Look, scope, Instant::now());
        let process =
            |p: &str| Scope::Process { environment: "a".into(), session: "s".into(), process: p.into() };
        for (scope, reaches, covers, sees) in [
            (Scope::All, true, true, true),
            (Scope::Environment { environment: "a".into() }, true, true, true),
            (Scope::Environment { environment: "b".into() }, false, false, false),
            (process("p"), true, false, true),
            (process("q"), true, false, false),
        ] {
            let grant = of(scope.clone());
            assert_eq!(
                (grant.reaches("a"), grant.covers("a"), grant.sees("a", "s", "p")),
                (reaches, covers, sees),
                "{scope:?}"
            );
        }
    }
}
