//! The house's own order: what comments and pages point to exists.

mod pages;
mod references;
mod tree;
