//! Keeps registrations on the disk, so that a restart loses none.
//!
//! One thread writes. What waits is written in one transaction, so that a thousand executors that come back at
//! once cost a few syncs of the disk.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::registry::Record;

const REGISTRATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("registrations-v1");
/// Changes written in one transaction at most.
const BATCH: usize = 256;

/// The store can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't use the store {}: {reason}", path.display())]
pub struct StoreError {
    path: PathBuf,
    reason: String,
}

/// A change of the store.
#[derive(Debug)]
pub enum Change {
    /// Keep this registration.
    Keep(Record),
    /// Forget this registration of an environment, unless there is a newer one.
    Forget(Record),
}

/// The queue of the store's thread is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

struct Job {
    change: Change,
    done: oneshot::Sender<bool>,
}

/// The open store. Dropping it writes what waits.
#[derive(Debug)]
pub struct Store {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the file, readable by its owner only, and reads what it holds. Blocks.
    ///
    /// # Errors
    /// When the file can't be used, or another process uses it.
    pub fn open(path: &Path, queue: usize) -> Result<(Self, Vec<Record>), StoreError> {
        let wrong =
            |error: &dyn std::fmt::Display| StoreError { path: path.to_owned(), reason: error.to_string() };
        let database = open(path).map_err(|error| wrong(&error))?;
        let records = read_all(&database).map_err(|error| wrong(&error))?;
        let (jobs, queued) = mpsc::channel(queue);
        let thread = std::thread::Builder::new()
            .name("rendezvous-store".to_owned())
            .spawn(move || write_all(&database, queued))
            .map_err(|error| wrong(&error))?;
        Ok((Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) }, records))
    }

    /// How many changes can be queued now.
    pub fn room(&self) -> usize {
        lock(&self.jobs).as_ref().map_or(0, mpsc::Sender::capacity)
    }

    /// Queues a change; changes are written in the order of the calls. The answer tells whether it is on the
    /// disk.
    ///
    /// # Errors
    /// When too many wait.
    pub fn change(&self, change: Change) -> Result<oneshot::Receiver<bool>, Busy> {
        let (done, answer) = oneshot::channel();
        lock(&self.jobs).as_ref().ok_or(Busy)?.try_send(Job { change, done }).map_err(|_| Busy)?;
        Ok(answer)
    }
}

impl Store {
    /// Writes what waits and gives the file free. Blocks; later changes are refused.
    pub fn close(&self) {
        drop(lock(&self.jobs).take());
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &Path) -> Result<Database, Box<dyn std::error::Error + Send + Sync>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(Database::builder().create_with_backend(FileBackend::new(file)?)?)
}

fn read_all(database: &Database) -> Result<Vec<Record>, Box<dyn std::error::Error + Send + Sync>> {
    let transaction = database.begin_write()?;
    transaction.open_table(REGISTRATIONS)?;
    transaction.commit()?;
    let table = database.begin_read()?.open_table(REGISTRATIONS)?;
    let mut records = Vec::new();
    for entry in table.iter()? {
        records.push(serde_json::from_slice(entry?.1.value())?);
    }
    Ok(records)
}

/// Works until the store is dropped.
fn write_all(database: &Database, mut queued: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while queued.blocking_recv_many(&mut jobs, BATCH) > 0 {
        let written = match write(database, jobs.iter().map(|job| &job.change)) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "can't write to the store; a restart would lose registrations");
                false
            }
        };
        for job in jobs.drain(..) {
            let _ = job.done.send(written);
        }
    }
}

fn write<'a>(
    database: &Database,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(REGISTRATIONS)?;
        for change in changes {
            match change {
                Change::Keep(record) => {
                    table.insert(record.environment.as_str(), serde_json::to_vec(record)?.as_slice())?;
                }
                Change::Forget(record) => {
                    let environment = record.environment.as_str();
                    let stored = table.get(environment)?.map(|stored| stored.value().to_vec());
                    let stored: Option<Record> =
                        stored.map(|stored| serde_json::from_slice(&stored)).transpose()?;
                    if stored.is_some_and(|stored| stored.registration == record.registration) {
                        table.remove(environment)?;
                    }
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::limits::Limits;
    use crate::registry::Registry;
    use crate::tokens::TokenHash;

    fn record(registry: &mut Registry, environment: &str) -> Record {
        registry.register(environment, None, &TokenHash::of("t"), Duration::ZERO).unwrap().record
    }

    #[tokio::test]
    async fn registrations_are_there_when_the_store_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut registry = Registry::new(&Limits::default());
        let (store, found) = Store::open(&path, 100).unwrap();
        assert!(found.is_empty());
        assert!(Store::open(&path, 100).is_err(), "one process at a time");
        let older = record(&mut registry, "a");
        let newer = record(&mut registry, "a");
        let other = record(&mut registry, "b");
        let gone = record(&mut registry, "c");
        for change in [
            Change::Keep(older.clone()),
            Change::Keep(newer.clone()),
            Change::Forget(older),
            Change::Keep(other.clone()),
            Change::Keep(gone.clone()),
            Change::Forget(gone),
        ] {
            assert!(store.change(change).unwrap().await.unwrap());
        }
        drop(store);
        let (_store, found) = Store::open(&path, 100).unwrap();
        let found: Vec<_> = found.into_iter().map(|record| record.registration).collect();
        assert_eq!(found, [newer.registration, other.registration]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_store_is_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, "these are notes, and no database").unwrap();
        let error = Store::open(&path, 1).unwrap_err().to_string();
        assert!(error.contains("notes.txt"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "these are notes, and no database");
    }
}
