//! What a method on paths says of itself. By this the order of files, the sandbox's helpers and whoever answers requests
//! know every method, without knowing any by name.

use codex_exec_protocol::filesystem::Sandboxed;
use codex_exec_protocol::{Method, RpcError, WirePath};

use crate::Limits;

/// A method that is done as a whole on the paths in its params, under a sandbox by a confined helper.
pub(crate) trait PathMethod: Method<Params: Sandboxed> + Sized {
    /// Whether names may come to exist by it.
    const CREATES: bool = false;

    /// Gives the answer where that needs no waiting: tried on the event loop.
    const AT_ONCE: Option<AtOnce<Self>> = None;

    /// Does it. Blocks; looks at no sandbox.
    fn run(params: &Self::Params, limits: &Limits) -> Result<Self::Result, RpcError>;

    /// The paths that it is about, and what it does to them.
    fn paths(params: &Self::Params) -> Vec<PathUse<'_>>;

    /// The memory that an answer takes at most, about (bytes); 0 for little.
    fn answer_bytes(_: &Limits) -> u64 {
        0
    }
}

/// An answer that may be had without waiting.
pub(crate) type AtOnce<M> = fn(&<M as Method>::Params) -> Option<Result<<M as Method>::Result, RpcError>>;

/// A path, and what is done to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathUse<'p> {
    pub(crate) path: &'p WirePath,
    pub(crate) how: How,
    /// The last name means what it leads to, and not itself.
    pub(crate) followed: bool,
}

/// What is done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It is looked at as it happens to be: what comes later may show, and does no harm.
    Sees,
    /// It is read, and so is whatever is below.
    Reads,
    /// It is changed, or something below is.
    Changes,
    /// It is changed, and its missing parents are made.
    Makes,
}

impl How {
    /// Of the last name's target.
    pub(crate) fn of(self, path: &WirePath) -> PathUse<'_> {
        PathUse { path, how: self, followed: true }
    }

    /// Of the last name itself.
    pub(crate) fn of_name(self, path: &WirePath) -> PathUse<'_> {
        PathUse { path, how: self, followed: false }
    }

    /// Whether the method changes the path or makes it.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Changes | Self::Makes)
    }
}
