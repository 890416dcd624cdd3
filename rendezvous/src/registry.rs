//! What the registry remembers: environments, their newest registration, and authorizations of harness keys
//! (`remote.md` 10, registry 1 to 4). A state machine: no sockets, no disk, and the time is handed in.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits::Limits;
use crate::tokens::{TokenHash, random_text};

/// Random bytes of a ticket and of an authorization. Fixed by the wire.
const TICKET_BYTES: usize = 32;

/// A registration, as the disk keeps it too. It holds no secret, only the ticket's hash.
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    /// Id of the environment.
    pub environment: String,
    /// New with each registration.
    pub registration: String,
    /// The executor's identity; absent for a plain relay.
    pub key: Option<PublicKey>,
    /// SHA-256 of the ticket in the executor's URL.
    ticket: [u8; 32],
    /// Short name of the token that registered it.
    pub owner: String,
    /// Which of several registrations at several nodes is the newest; 0 at a single node.
    #[serde(default)]
    pub generation: u64,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("environment", &self.environment)
            .field("registration", &self.registration)
            .field("plain", &self.key.is_none())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Environment {
    record: Record,
    /// When its executor was last known to be there.
    seen: Duration,
    attached: bool,
    authorizations: VecDeque<Authorization>,
}

/// A harness key that may shake hands with one registration, once.
#[derive(Debug)]
struct Authorization {
    hash: [u8; 32],
    key: [u8; 32],
    expires: Duration,
}

/// The answer to a registration.
#[derive(Debug)]
pub struct Registered {
    /// What has to be stored.
    pub record: Record,
    /// The secret of the executor's URL.
    pub ticket: Secret,
    /// The registration that this one replaces; its sockets have to be closed.
    pub replaced: Option<String>,
    /// An environment forgotten to make room.
    pub forgotten: Option<Record>,
}

/// The answer to a connect.
#[derive(Debug)]
pub struct Offer {
    /// Id of the registration.
    pub registration: String,
    /// Whom the harness has to reach.
    pub key: PublicKey,
    /// What the executor has validated.
    pub authorization: Secret,
}

/// What a harness showed to an executor, as the executor asks about it.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// Id of the environment.
    pub environment: &'a str,
    /// Id of the executor's registration.
    pub registration: &'a str,
    /// Who wants to shake hands.
    pub harness: &'a PublicKey,
    /// What it was given for that, from [`Offer::authorization`].
    pub authorization: &'a str,
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("environment", &self.environment)
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

/// Why there is no offer.
#[derive(Debug, PartialEq, Eq)]
pub enum NoOffer {
    /// Never registered, or forgotten.
    Unknown,
    /// Its executor is away for the moment.
    Away,
    /// Registered without a key.
    Plain,
}

/// All that is remembered.
#[derive(Debug)]
pub struct Registry {
    environments: HashMap<String, Environment>,
    max_environments: usize,
    max_authorizations: usize,
    authorization_life: Duration,
    retention: Duration,
}

impl Registry {
    /// An empty registry with these bounds.
    pub fn new(limits: &Limits) -> Self {
        Self {
            environments: HashMap::new(),
            max_environments: limits.callers.environments,
            max_authorizations: limits.callers.authorizations,
            authorization_life: limits.callers.ticket_life,
            retention: limits.callers.retention,
        }
    }

    /// Restores what was stored; `now` counts as the last sign of each executor.
    pub fn restore(&mut self, record: Record, now: Duration) {
        let environment = Environment { record, seen: now, attached: false, authorizations: VecDeque::new() };
        self.environments.insert(environment.record.environment.clone(), environment);
    }

    /// How many environments are remembered.
    pub fn len(&self) -> usize {
        self.environments.len()
    }

    /// Whether no environment is remembered.
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty()
    }

    /// Ids of environments in their order from `after` on, at most `most`, and whether the executor of each is there.
    pub fn places(&self, after: &str, most: usize) -> Vec<(String, bool)> {
        let later = self.environments.iter().filter(|(id, _)| id.as_str() > after);
        let mut places: Vec<_> = later.map(|(id, environment)| (id.clone(), environment.attached)).collect();
        places.sort_unstable();
        places.truncate(most);
        places
    }

    /// How many have an executor.
    pub fn attached(&self) -> usize {
        self.environments.values().filter(|environment| environment.attached).count()
    }

    /// Registers an executor; the newest wins. `None`: its token has as many environments as it may, all of
    /// them in use.
    pub fn register(
        &mut self,
        environment: &str,
        key: Option<PublicKey>,
        owner: &TokenHash,
        generation: u64,
        now: Duration,
    ) -> Option<Registered> {
        let owner = owner.short();
        let forgotten =
            if self.environments.contains_key(environment) { None } else { self.make_room(&owner)? };
        let ticket = random_text::<TICKET_BYTES>();
        let registration = uuid::Uuid::new_v4().to_string();
        let record = Record {
            environment: environment.to_owned(),
            registration,
            key,
            ticket: sha256(ticket.expose().as_bytes()),
            owner,
            generation,
        };
        let entry = Environment {
            record: record.clone(),
            seen: now,
            attached: false,
            authorizations: VecDeque::new(),
        };
        let replaced =
            self.environments.insert(environment.to_owned(), entry).map(|old| old.record.registration);
        Some(Registered { record, ticket, replaced, forgotten })
    }

    /// Takes over a registration that another node made, unless a newer one is known here; what it replaces, and what was
    /// forgotten to make room. `None`: there is a newer one, or no room.
    pub fn adopt(&mut self, record: Record, now: Duration) -> Option<(Option<String>, Option<Record>)> {
        let (newer, known) = match self.environments.get(&record.environment) {
            None => (true, false),
            Some(environment) => {
                let known = &environment.record;
                if known.registration == record.registration {
                    return Some((None, None));
                }
                (known.generation < record.generation, true)
            }
        };
        if !newer {
            return None;
        }
        let forgotten = if known { None } else { self.make_room(&record.owner)? };
        let entry = Environment { record, seen: now, attached: false, authorizations: VecDeque::new() };
        let replaced = self.environments.insert(entry.record.environment.clone(), entry);
        Some((replaced.map(|old| old.record.registration), forgotten))
    }

    /// Forgets a registration that is older than this generation.
    pub fn supersede(&mut self, environment: &str, generation: u64) -> Option<Record> {
        let older = self.environments.get(environment)?.record.generation < generation;
        older.then(|| self.environments.remove(environment)).flatten().map(|old| old.record)
    }

    /// Forgets the owner's environment whose executor has been away longest, when there are too many.
    fn make_room(&mut self, owner: &str) -> Option<Option<Record>> {
        let mine = self.environments.values().filter(|environment| environment.record.owner == owner);
        if mine.clone().count() < self.max_environments {
            return Some(None);
        }
        let away = mine.filter(|environment| !environment.attached);
        let longest = away.min_by_key(|environment| environment.seen)?.record.environment.clone();
        Some(self.environments.remove(&longest).map(|environment| environment.record))
    }

    /// The current registration of an environment.
    pub fn current(&self, environment: &str) -> Option<&Record> {
        self.environments.get(environment).map(|environment| &environment.record)
    }

    /// Whether this is the ticket of the current registration.
    pub fn is_ticket(&self, environment: &str, registration: &str, ticket: &str) -> bool {
        self.current(environment).is_some_and(|record| {
            record.registration == registration && bool::from(record.ticket.ct_eq(&sha256(ticket.as_bytes())))
        })
    }

    /// Notes that the executor of a registration came or went.
    pub fn set_attached(&mut self, environment: &str, registration: &str, attached: bool, now: Duration) {
        if let Some(environment) = self.environments.get_mut(environment)
            && environment.record.registration == registration
        {
            environment.attached = attached;
            environment.seen = now;
        }
    }

    /// Forgets environments whose executors have been away too long; they are to be removed from the store.
    pub fn sweep(&mut self, now: Duration) -> Vec<Record> {
        let retention = self.retention;
        let gone = |environment: &Environment| {
            !environment.attached && now.saturating_sub(environment.seen) > retention
        };
        self.environments
            .extract_if(|_, environment| gone(environment))
            .map(|(_, gone)| gone.record)
            .collect()
    }

    /// Lets a harness key shake hands with the environment's executor, once and within a short time.
    ///
    /// # Errors
    /// When there is no executor with a key.
    pub fn connect(
        &mut self,
        environment: &str,
        harness: &PublicKey,
        now: Duration,
    ) -> Result<Offer, NoOffer> {
        let environment = self.environments.get_mut(environment).ok_or(NoOffer::Unknown)?;
        let key = environment.record.key.clone().ok_or(NoOffer::Plain)?;
        if !environment.attached {
            return Err(NoOffer::Away);
        }
        let authorization = random_text::<TICKET_BYTES>();
        let waiting = &mut environment.authorizations;
        while waiting.front().is_some_and(|front| front.expires <= now)
            || waiting.len() >= self.max_authorizations
        {
            waiting.pop_front();
        }
        waiting.push_back(Authorization {
            hash: sha256(authorization.expose().as_bytes()),
            key: key_hash(harness),
            expires: now + self.authorization_life,
        });
        Ok(Offer { registration: environment.record.registration.clone(), key, authorization })
    }

    /// Whether the authorization was made for this key and registration, and is still good. It is used up by
    /// being asked for with its own key.
    pub fn validate(&mut self, presented: Presented<'_>, now: Duration) -> bool {
        let Some(environment) = self.environments.get_mut(presented.environment) else { return false };
        if environment.record.registration != presented.registration {
            return false;
        }
        let (hash, key) = (sha256(presented.authorization.as_bytes()), key_hash(presented.harness));
        let found = environment
            .authorizations
            .iter()
            .position(|waiting| (waiting.hash.ct_eq(&hash) & waiting.key.ct_eq(&key)).into());
        found.and_then(|at| environment.authorizations.remove(at)).is_some_and(|used| used.expires > now)
    }
}

impl Record {
    /// A registration as a signed ticket tells of it. No secret opens it here.
    pub fn of_ticket(
        environment: String,
        registration: String,
        key: Option<PublicKey>,
        owner: String,
        generation: u64,
    ) -> Self {
        Self { environment, registration, key, ticket: rand::random(), owner, generation }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn key_hash(key: &PublicKey) -> [u8; 32] {
    Sha256::new().chain_update(key.x25519).chain_update(key.mlkem768.as_slice()).finalize().into()
}

#[cfg(test)]
mod tests;
