//! `process/start` (8.1): in order behind other starts and changes of files, on the event loop where nothing can hang.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use codex_children::supervision;
use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{LogPlace, StartParams, StartResult};

use super::{Followed, Machine, Reply};
use crate::blocking;
use crate::filesystem::{self, Before, FileOrder, How, Touched, touched_path};
use crate::process::{LoginShell, Placed, Process, ProcessTable};

/// A start waits so long for the changes of files before it. A safeguard, far from any real use.
const LONGEST_CHANGE: Duration = Duration::from_secs(10);

impl Machine {
    /// `process/start`. Once begun, it goes on without the machine.
    pub(crate) fn start(&self, params: StartParams, reply: impl Reply<StartResult>) {
        self.begin_start(params, false, reply, |result, _| result);
    }

    /// The same for one who gets all that the program prints, and sets its pace.
    pub(crate) fn start_followed(&self, params: StartParams, reply: impl Reply<Followed>) {
        self.begin_start(params, true, reply, |_, process| Followed::new(process));
    }

    /// The same for one who wants to know the operating system's id; it is none once the program has failed to start.
    pub(crate) fn start_known(&self, params: StartParams, reply: impl Reply<(StartResult, Option<u32>)>) {
        self.begin_start(params, false, reply, |result, process| (result, process.pid()));
    }

    fn begin_start<R: 'static>(
        &self,
        params: StartParams,
        held: bool,
        reply: impl Reply<R>,
        answer: fn(StartResult, Arc<Process>) -> R,
    ) {
        begin(Arc::clone(&self.processes), Arc::clone(&self.order), params, held, reply, answer);
    }
}

/// `held` keeps the output for one reader.
fn begin<R: 'static>(
    table: Arc<ProcessTable>,
    order: Arc<FileOrder>,
    params: StartParams,
    held: bool,
    reply: impl Reply<R>,
    answer: fn(StartResult, Arc<Process>) -> R,
) {
    if let Some(earlier) = table.starting(&params.process_id) {
        // If that fails, its id is free for this one; but not once nobody hears of it.
        return earlier.when_started(move |_| {
            if !reply.is_gone() {
                begin(table, order, params, held, reply, answer);
            }
        });
    }
    let placed = match table.place(params) {
        Ok(placed) => placed,
        Err(error) => return reply.answer(Err(error)),
    };
    let (result, process) = (placed.result(), Arc::clone(placed.process()));
    if held {
        process.hold();
    }
    // The first of what waits for the start, so that its answer comes before those of the requests behind it.
    Arc::clone(placed.process()).when_started(move |outcome| {
        let unprotected_names = process.leaves_names_unprotected();
        let log_id = process.disk_log().map(|log| log.id().to_string());
        let result = StartResult { unprotected_names, log_id, ..result };
        reply.answer(outcome.map(|()| answer(result, process)).map_err(Clone::clone));
    });
    let before = order.before(|| touched(placed.params()));
    launch(table, placed, before);
}

/// The program, where its name is a whole path. A name that is looked for in the child's `PATH` may lead anywhere.
fn program(params: &StartParams) -> Option<&Path> {
    params.argv.first().map(Path::new).filter(|program| program.is_absolute())
}

/// What a start finds on the disk: its program, and what lies where it begins.
fn touched(params: &StartParams) -> Vec<Touched> {
    let paths = program(params).into_iter().chain([params.cwd.0.as_path()]);
    paths.filter_map(|path| touched_path(path, How::Reads)).collect()
}

fn launch(table: Arc<ProcessTable>, placed: Placed, before: Before) {
    if before.is_empty() {
        return match starts_without_io(placed.params()) {
            true => table.launch(placed),
            false => launch_beside(table, placed),
        };
    }
    // Also when the connection ends meanwhile: the id is taken.
    tokio::spawn(async move {
        // What hangs on a disk must not keep programs from starting for good.
        if let Ok(false) = tokio::time::timeout(LONGEST_CHANGE, before.over()).await {
            let error = "a change of files that came before it was given up with its connection";
            return table.give_up(&placed, &RpcError::internal(format!("cannot start the program: {error}")));
        }
        launch_beside(table, placed);
    });
}

/// A directory or program that has to be fetched may hang; only this start waits for it.
fn launch_beside(table: Arc<ProcessTable>, placed: Placed) {
    let launch = move || {
        // What is local is known from now on.
        filesystem::learn_filesystem(&placed.params().cwd.0);
        if let Some(program) = program(placed.params()) {
            filesystem::learn_filesystem(program);
        }
        table.launch(placed);
    };
    blocking::spawn(launch).detach();
}

/// Whether the working directory and the program are in the kernel's caches, and nothing else is waited for.
fn starts_without_io(params: &StartParams) -> bool {
    // The first of all programs may have to wait for the guard.
    if !supervision::is_settled() {
        return false;
    }
    // A sandbox's paths are looked up, a launcher is waited for, a login may be, and a log on disk is made.
    if params.sandbox.is_some()
        || params.limits.is_some()
        || params.log == LogPlace::Disk
        || LoginShell::of(params).is_some()
    {
        return false;
    }
    program(params).is_some_and(filesystem::resolves_without_io)
        && filesystem::resolves_without_io(&params.cwd.0)
}
