//! Runs programs on pipes or a terminal, and keeps their output.

mod adopted;
mod attachment;
pub mod child_env;
mod controls;
mod denied;
mod foreground;
mod groups;
mod kept;
mod launch;
pub mod log;
pub mod login_shell;
mod login_state;
mod network_plan;
mod news;
mod output;
pub mod passwd;
mod plan;
#[expect(clippy::module_inception, reason = "it holds `Process`")]
mod process;
mod pump;
mod queries;
mod stdin;
pub(crate) mod stored;
pub(crate) mod survival;
mod table;
mod wildcard;
mod write_memory;

pub(crate) use adopted::LeftProgram;
pub(crate) use attachment::{Attachment, check_attachment};
pub(crate) use controls::{check_resize, check_write};
pub use foreground::{ForegroundNetwork, OpenNetwork};
pub use groups::Groups;
pub use log::{Exit, LogEvent, OutputLog};
pub(crate) use login_state::LoginShell;
pub use login_state::LoginStates;
pub use news::News;
pub use plan::LaunchContext;
pub use process::Process;
pub(crate) use process::known;
#[cfg(feature = "fuzzing")]
pub use survival::read_left;
pub use survival::{Adopted, Handed, Store, Survival};
pub use table::{Leftovers, Placed, ProcessTable};
