//! What is written down of a session for the next server.

use codex_exec_protocol::SessionId;

use super::session_life::Life;
use crate::process::Survival;
use crate::process::survival::record::{self, Kind, SessionRecord};
use crate::process::survival::{Held, session_hash};
use crate::transport::Owner;

/// The record of a session.
pub(super) fn record(id: &SessionId, owner: Owner, number: u64, life: &Life) -> SessionRecord {
    SessionRecord {
        hash: session_hash(id),
        owner: owner.subject().map(hex::encode),
        number,
        detached_ms: u64::try_from(life.detached_time().as_millis()).unwrap_or(u64::MAX),
        asked: life.was_asked(),
    }
}

/// Whose a session is.
pub(super) fn owner(record: &SessionRecord) -> Owner {
    let subject = record.owner.as_ref().map(|hex| {
        let mut subject = [0; 32];
        // One that can't be read is nobody's.
        if hex::decode_to_slice(hex, &mut subject).is_err() {
            subject = rand::random();
        }
        subject
    });
    Owner::of(subject)
}

/// What stands for the id of a session of which only the hash is known. It is no id that a client could have been given.
pub(super) fn stand_in(hash: &str) -> String {
    format!("sha256:{hash}")
}

/// Has a session kept. None where nothing is, or it can't be: then it ends with this server.
pub(super) fn begin(survival: &Survival, session: &SessionRecord) -> Option<Held> {
    let store = survival.store()?;
    let key = store.new_key();
    match store.put(key, None, &record::write(Kind::Session, session), &[]) {
        Ok(()) => Some(Held::new(store, key)),
        Err(error) => {
            tracing::warn!(%error, "a session ends with this server");
            None
        }
    }
}

/// Has its record replaced.
pub(super) fn update(survival: &Survival, held: &Held, session: &SessionRecord) {
    let Some(store) = survival.store() else { return };
    if let Err(error) = store.put(held.key(), None, &record::write(Kind::Session, session), &[]) {
        tracing::warn!(%error, "the next server will keep a session no longer than usual");
    }
}
