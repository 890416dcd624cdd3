//! The processes of one session.

mod entries;

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{ListResult, StartParams, StartResult};
use parking_lot::{Mutex, MutexGuard};
use rustix::process::Signal;

use self::entries::{ById, Entries, Entry};
use super::adopted::{self, LeftProgram, TakenOver};
use super::launch::{launch, watch_until_closed};
use super::log::OutputLog;
use super::news::News;
use super::plan::{self, LaunchContext};
#[cfg(test)]
use super::process::Input;
use super::process::{KeptAs, Process, unknown_process};
use super::survival::Store;
use crate::Limits;
use crate::network::SessionNetwork;
use codex_children::tree;

/// How long the end of a session waits for its killed children to be reaped. A safeguard, far from any real use.
const REAPING_TIME: Duration = Duration::from_secs(5);

/// What happens, at the end of a session, to descendants that outlived their process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// They live on: agents start servers on purpose.
    #[default]
    Keep,
    /// They are killed together with the program's tree.
    Kill,
}

/// A session's processes by the client's ids, from start to eviction.
pub struct ProcessTable {
    entries: Mutex<Entries>,
    news: Arc<News>,
    context: Arc<LaunchContext>,
    limits: Arc<Limits>,
    leftovers: Leftovers,
    network: SessionNetwork,
    /// What its programs are kept as for the next server: the hash of the session's id.
    session: OnceLock<String>,
}

/// A start that has its place in the table, and waits to be carried out.
pub struct Placed {
    process: Arc<Process>,
    number: u64,
    params: StartParams,
}

fn ended() -> RpcError {
    RpcError::invalid_request("this session has ended")
}

impl Placed {
    /// The process that will run, in its starting state.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// What a start that succeeds is answered with.
    pub fn result(&self) -> StartResult {
        // Released servers tell of a sandbox whenever the object is there (14.1).
        let sandbox_type = if self.params.sandbox.is_some() { "linuxSeccomp" } else { "none" };
        StartResult {
            process_id: self.params.process_id.clone(),
            sandbox_type: Some(sandbox_type.to_owned()),
            unprotected_names: false,
            log_id: None,
        }
    }

    /// The parameters of the start request.
    pub fn params(&self) -> &StartParams {
        &self.params
    }
}

impl ProcessTable {
    /// An empty table, for one session.
    pub fn new(context: Arc<LaunchContext>, limits: Arc<Limits>, leftovers: Leftovers) -> Self {
        Self {
            entries: Mutex::default(),
            news: Arc::default(),
            context,
            limits,
            leftovers,
            network: SessionNetwork::default(),
            session: OnceLock::new(),
        }
    }

    /// Programs are kept from now on, as those of the session whose id has this hash.
    pub(crate) fn keep_as(&self, session: String) {
        let _ = self.session.set(session);
    }

    /// Which processes have something to tell.
    pub fn news(&self) -> &Arc<News> {
        &self.news
    }

    /// What the programs' networks share.
    pub fn network(&self) -> &SessionNetwork {
        &self.network
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }

    /// First half of a start: checks it and takes its id, in the order of the requests.
    ///
    /// # Errors
    /// `-32602` for an empty `argv`, `-32600` for a taken id, a full table, what can't be enforced, or after [`Self::end`].
    pub fn place(&self, params: StartParams) -> Result<Placed, RpcError> {
        if params.argv.is_empty() {
            return Err(RpcError::invalid_params("argv must not be empty"));
        }
        if params.rows == Some(0) || params.cols == Some(0) {
            return Err(RpcError::invalid_params("rows and cols must be 1 or more"));
        }
        plan::refuse_unenforced(&params, &self.context)?;
        let mut entries = self.lock();
        if entries.ended {
            return Err(ended());
        }
        if entries.by_id.contains_key(params.process_id.as_str()) {
            return Err(RpcError::invalid_request(format!("process {} already exists", params.process_id)));
        }
        if entries.by_id.len() >= self.limits.session.processes_per_session && !entries.evict_oldest_closed()
        {
            return Err(RpcError::invalid_request(format!(
                "this session already has {} running processes, the most it may have; wait for one to end",
                entries.by_id.len()
            )));
        }
        let process = Process::new(&params, plan::has_sandbox(&params), Arc::clone(&self.news), &self.limits);
        if entries.attached {
            process.attach();
        }
        entries.started += 1;
        let number = entries.started;
        entries.by_id.insert(ById(Arc::clone(&process)), Entry { number, pump: None });
        drop(entries);
        Ok(Placed { process, number, params })
    }

    /// The process of this id, if its start still goes on.
    pub fn starting(&self, id: &str) -> Option<Arc<Process>> {
        self.get(id).ok().filter(|process| process.is_starting())
    }

    /// Goes on with a program that an earlier server has started in this session.
    ///
    /// # Errors
    /// When it can't be watched.
    pub(crate) fn take_over(self: &Arc<Self>, left: LeftProgram, store: &Arc<dyn Store>) -> io::Result<()> {
        let number = left.record().number;
        let TakenOver { process, watched } =
            adopted::take_over(left, store, Arc::clone(&self.news), &self.limits)?;
        let mut entries = self.lock();
        entries.started = entries.started.max(number);
        entries.by_id.insert(ById(Arc::clone(&process)), Entry { number, pump: None });
        drop(entries);
        let (table, over) = (Arc::downgrade(self), Arc::clone(&process));
        let closed = move || {
            if let Some(table) = table.upgrade() {
                table.close(over, number);
            }
        };
        match watched {
            None => closed(),
            Some(watched) => {
                let pump = watch_until_closed(&process, watched, self.context.figures.as_ref(), closed);
                if let Some(entry) = self.lock().numbered(process.id(), number) {
                    entry.pump = Some(pump).filter(|_| !process.is_closed());
                }
            }
        }
        Ok(())
    }

    /// Second half of a start: runs the program. May block on the file system. What became of it is told to
    /// [`Process::when_started`]; after a failure the id is free again.
    pub fn launch(self: &Arc<Self>, placed: Placed) {
        let has_place = self.lock().numbered(placed.process.id(), placed.number).is_some();
        if !has_place {
            return self.give_up(&placed, &ended());
        }
        let Placed { process, number, params } = placed;
        let (table, over) = (Arc::downgrade(self), Arc::clone(&process));
        let closed = move || {
            if let Some(table) = table.upgrade() {
                table.close(over, number);
            }
        };
        let kept_as = self.session.get().map(|session| KeptAs { session, number });
        match launch(&process, params, &self.context, &self.limits, &self.network, kept_as, closed) {
            Ok(pump) => {
                if let Some(entry) = self.lock().numbered(process.id(), number) {
                    // One that is over by now has no use for it.
                    entry.pump = Some(pump).filter(|_| !process.is_closed());
                } else {
                    // The session ended while the program started.
                    process.terminate(None);
                }
            }
            Err(error) => self.fail(&process, number, &error),
        }
    }

    /// Instead of [`Self::launch`]: the start fails.
    pub fn give_up(&self, placed: &Placed, error: &RpcError) {
        self.fail(&placed.process, placed.number, error);
    }

    fn fail(&self, process: &Process, number: u64, error: &RpcError) {
        let mut entries = self.lock();
        if entries.numbered(process.id(), number).is_some() {
            entries.by_id.remove(process.id().as_str());
        }
        drop(entries);
        process.set_failed(error);
    }

    /// A program is over, and all of its output seen: some time later it is forgotten (8.6).
    fn close(self: &Arc<Self>, process: Arc<Process>, number: u64) {
        let mut entries = self.lock();
        let Some(entry) = entries.numbered(process.id(), number) else { return };
        entry.pump = None;
        entries.closed.insert(number, process);
        let time = self.limits.process.ended_process_time.max(entries.kept_for);
        entries.expiring.push_back((Instant::now() + time, number));
        // Processes that were forgotten early to make room.
        if entries.expiring.len() > 2 * entries.closed.len() + 64 {
            let Entries { expiring, closed, .. } = &mut *entries;
            expiring.retain(|(_, number)| closed.contains_key(number));
        }
        if entries.evictor.is_none() {
            let evictor = tokio::spawn(evict_in_time(Arc::downgrade(self)));
            entries.evictor = Some(evictor.abort_handle());
        }
    }

    /// Forgets what is due; when to look again. Nothing once nothing is left.
    fn evict_due(&self) -> Option<Instant> {
        let mut entries = self.lock();
        let next = entries.evict_due(Instant::now());
        if next.is_none() {
            entries.evictor = None;
        }
        next
    }

    /// The process with this id.
    ///
    /// # Errors
    /// `-32600` when there is none.
    pub fn get(&self, id: &str) -> Result<Arc<Process>, RpcError> {
        let found = self.lock().by_id.get_key_value(id).map(|(ById(process), _)| Arc::clone(process));
        found.ok_or_else(|| unknown_process(id))
    }

    /// Ended processes are remembered for at least this long from now on: as long as somebody may come back for them.
    pub fn keep_ended_for(&self, time: Duration) {
        let mut entries = self.lock();
        // Never less than before, since they are forgotten in the order of their ends.
        entries.kept_for = entries.kept_for.max(time);
    }

    /// A connection of another session looks at one of them.
    pub fn visit(&self) {
        self.lock().visited = true;
    }

    /// Whether connections of other sessions have looked at any of them.
    pub fn was_visited(&self) -> bool {
        self.lock().visited
    }

    /// Everything that is not evicted, in order of start.
    pub fn list(&self) -> ListResult {
        let mut processes: Vec<_> = self
            .lock()
            .by_id
            .iter()
            .map(|(ById(process), entry)| (entry.number, Arc::clone(process)))
            .collect();
        processes.sort_by_key(|(number, _)| *number);
        ListResult { processes: processes.iter().map(|(_, process)| process.info()).collect() }
    }

    /// A connection follows every process from now on.
    pub fn attach(&self) {
        while self.news.pop().is_some() {}
        let processes = {
            let mut entries = self.lock();
            entries.attached = true;
            entries.processes()
        };
        for process in processes {
            process.attach();
        }
    }

    /// The connection is gone: full logs stall their programs until [`Self::release`].
    pub fn detach(&self, orderly: bool) {
        let processes = {
            let mut entries = self.lock();
            entries.attached = false;
            entries.processes()
        };
        for process in processes {
            process.follow(|log| log.detach(orderly));
        }
        // Without a follower nothing is news; the queue must not keep processes alive.
        while self.news.pop().is_some() {}
    }

    /// Whether no program runs or is being started.
    pub fn is_over(&self) -> bool {
        self.lock().by_id.keys().all(|ById(process)| process.is_closed())
    }

    /// Whether a program did something that the connection which is gone had not seen.
    pub fn has_unseen(&self) -> bool {
        self.lock().by_id.keys().any(|ById(process)| process.has_unseen())
    }

    /// Nobody came back in time: programs are not stalled any longer.
    pub fn release(&self) {
        let processes = self.lock().processes();
        for process in processes {
            process.follow(OutputLog::release);
        }
    }

    /// Ends everything: kills each running tree, waits until the children are reaped, forgets all.
    pub async fn end(&self) {
        let (entries, mut leftovers) = {
            let mut all = self.lock();
            all.ended = true;
            all.closed.clear();
            all.expiring.clear();
            if let Some(evictor) = all.evictor.take() {
                evictor.abort();
            }
            let entries: Vec<_> =
                all.by_id.drain().map(|(ById(process), entry)| (process, entry.pump)).collect();
            (entries, std::mem::take(&mut all.leftovers))
        };
        for (process, _) in &entries {
            let starting = Arc::clone(process);
            process.when_started(move |started| {
                if started.is_ok() {
                    starting.terminate(None);
                }
            });
        }
        let reaped = async {
            for (process, _) in &entries {
                process.over().await;
            }
        };
        if tokio::time::timeout(REAPING_TIME, reaped).await.is_err() {
            tracing::warn!("some killed programs have not ended yet");
        }
        for (process, pump) in entries {
            leftovers.extend(process.take_leftovers());
            if let Some(pump) = pump {
                pump.abort();
            }
        }
        self.network.end();
        while self.news.pop().is_some() {}
        if self.leftovers == Leftovers::Kill {
            let stamps: Vec<_> = leftovers.iter().map(|leftover| leftover.stamp).collect();
            if let Err(error) = tree::kill_leftovers(&stamps, Signal::KILL) {
                tracing::warn!(%error, "can't end everything that programs left behind");
            }
        }
    }
}

/// Forgets the processes of a table in their time, until none of them is over.
async fn evict_in_time(table: Weak<ProcessTable>) {
    let next = || table.upgrade()?.evict_due();
    while let Some(due) = next() {
        tokio::time::sleep_until(due.into()).await;
    }
}

#[cfg(test)]
impl ProcessTable {
    /// As if this process were killed: nothing is done any more, and nothing that ends with it in the ordinary way does.
    pub(super) fn die(self: &Arc<Self>) {
        let mut entries = self.lock();
        for entry in entries.by_id.values_mut() {
            if let Some(pump) = entry.pump.take() {
                pump.abort();
            }
        }
        for ById(process) in entries.by_id.keys() {
            std::mem::forget(Arc::clone(process));
            let mut state = process.lock();
            std::mem::forget(state.safe.clone());
            // The kernel closes what a killed process has open.
            state.input = Input::None;
        }
        std::mem::forget(Arc::clone(self));
    }
}
