//! The house's own order: what comments and pages point to exists, and rooms use what ARCHITECTURE.md says.

mod bounds;
mod locks;
mod pages;
mod references;
mod rooms;
mod tree;
