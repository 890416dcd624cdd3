//! Keeps registrations on the disk, so that a restart loses none.
//!
//! One thread writes. What waits is written in one transaction, so that a thousand executors that come back at
//! once cost a few syncs of the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::registry::Record;

const REGISTRATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("registrations-v1");
/// Changes of the store that one registration may need; a queue with less room takes none.
/// Our own pace: nothing outside depends on it.
pub const SHORTEST_QUEUE: usize = 2;
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
#[derive(Debug, Clone)]
pub enum Change {
    /// Keep this registration in the place of an older one.
    Keep(Record),
    /// Forget this registration of an environment, unless there is a newer one.
    Forget(Record),
}

impl Change {
    fn environment(&self) -> &str {
        match self {
            Self::Keep(record) | Self::Forget(record) => &record.environment,
        }
    }
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
        let (jobs, queued) = mpsc::channel(queue.clamp(SHORTEST_QUEUE, Semaphore::MAX_PERMITS));
        let thread = std::thread::Builder::new()
            .name("rendezvous-store".to_owned())
            .spawn({
                let writer =
                    Writer { path: path.to_owned(), database: Some(database), unwritten: HashMap::new() };
                move || writer.run(queued)
            })
            .map_err(|error| wrong(&error))?;
        Ok((Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) }, records))
    }

    /// How many changes can be queued now.
    pub fn room(&self) -> usize {
        self.jobs.lock().as_ref().map_or(0, mpsc::Sender::capacity)
    }

    /// Queues a change; changes are written in the order of the calls. The answer tells whether it is on the
    /// disk.
    ///
    /// # Errors
    /// When too many wait.
    pub fn change(&self, change: Change) -> Result<oneshot::Receiver<bool>, Busy> {
        let (done, answer) = oneshot::channel();
        self.jobs.lock().as_ref().ok_or(Busy)?.try_send(Job { change, done }).map_err(|_| Busy)?;
        Ok(answer)
    }
}

impl Store {
    /// Writes what waits and closes the file. Blocks; later changes are refused.
    pub fn close(&self) {
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            // The thread's panic has been printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
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

/// Writes what is queued.
struct Writer {
    path: PathBuf,
    /// None after a failure: a database that failed to write has to be opened again.
    database: Option<Database>,
    /// The last change of each environment that a failure kept from the disk; there are no more than are remembered.
    unwritten: HashMap<String, Change>,
}

impl Writer {
    /// Works until the store is dropped.
    fn run(mut self, mut queued: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        while queued.blocking_recv_many(&mut jobs, BATCH) > 0 {
            let written = match self.write(jobs.iter().map(|job| &job.change).collect()) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "can't write to the store; a restart would lose registrations");
                    let changes =
                        jobs.iter().map(|job| (job.change.environment().to_owned(), job.change.clone()));
                    self.unwritten.extend(changes);
                    false
                }
            };
            for job in jobs.drain(..) {
                let _ = job.done.send(written);
            }
        }
        if !self.unwritten.is_empty()
            && let Err(error) = self.write(Vec::new())
        {
            tracing::error!(%error, "can't write to the store; registrations are lost");
        }
    }

    /// Writes these changes, after those that failed before.
    fn write(&mut self, changes: Vec<&Change>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        write(&database, self.unwritten.values().chain(changes))?;
        self.unwritten.clear();
        self.database = Some(database);
        Ok(())
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
        registry.register(environment, None, &TokenHash::of("t"), 0, Duration::ZERO).unwrap().record
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
    fn what_a_failure_kept_from_the_disk_is_written_once_that_works_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone/store");
        let mut registry = Registry::new(&Limits::default());
        let mut writer = Writer { path: path.clone(), database: None, unwritten: HashMap::new() };
        let [older, newer, gone] = ["a", "a", "b"].map(|environment| record(&mut registry, environment));
        assert!(writer.write(Vec::new()).is_err());
        for change in [Change::Keep(older), Change::Keep(newer.clone()), Change::Forget(gone)] {
            writer.unwritten.insert(change.environment().to_owned(), change);
        }
        std::fs::create_dir(directory.path().join("gone")).unwrap();
        let other = record(&mut registry, "c");
        writer.write(vec![&Change::Keep(other.clone())]).unwrap();
        assert!(writer.unwritten.is_empty());
        drop(writer);
        let (_store, found) = Store::open(&path, 0).unwrap();
        let found: Vec<_> = found.into_iter().map(|record| record.registration).collect();
        assert_eq!(found, [newer.registration, other.registration]);
    }

    #[test]
    fn a_queue_of_any_length_takes_a_registration() {
        let directory = tempfile::tempdir().unwrap();
        for queue in [0, 1, usize::MAX] {
            let (store, _) = Store::open(&directory.path().join("store"), queue).unwrap();
            assert!(store.room() >= SHORTEST_QUEUE, "{queue}");
        }
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
