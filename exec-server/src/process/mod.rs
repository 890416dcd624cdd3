//! Runs programs on pipes or a terminal, and keeps their output.

pub mod child_env;
mod children;
mod lookup;
pub mod orphans;
pub mod passwd;
mod posix;
mod procfs;
pub mod reap;
pub mod spawn;
pub mod terminal;
pub mod tree;
mod wildcard;

#[cfg(test)]
mod tests;
