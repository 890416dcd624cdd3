//! What operators see of a server: who did what, in an audit file, and how often and how long, as figures.
//!
//! There is one hook, where a request is begun: [`Caller::begin`] gives what its answer is told to. A server that is not observed
//! has no caller to ask, and does nothing more.

mod figures;
mod observer;
mod peer;
mod record;
mod request;
mod spans;
mod words;

pub use figures::Figures;
pub(crate) use figures::{Attempt, Reconnect};
pub use observer::Observer;
pub use peer::{Address, Peer};
pub use record::Record;
pub(crate) use request::{Begun, Caller, Observed};
pub use spans::{RequestSpan, SpanEnd, TracedRequest, Tracer};
