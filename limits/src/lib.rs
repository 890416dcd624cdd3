//! Bounds: each is declared once, with its default, the range in which it makes sense, and what happens at it.
//!
//! [`limits!`] turns the declarations into groups of plain fields, one group for each room that has to do with them, and
//! into a table that configuration, documents and tests read. The exec-server's own declarations are in [`server`].
//!
//! A constant elsewhere is no bound but a size that the wire or the kernel fixes, or one that makes a buffer fast.

mod declare;
pub mod server;
mod value;

pub use server::Limits;
pub use value::{Declared, LimitError, Unit, Value};
#[doc(hidden)]
pub use value::{declared, out_of_range};
