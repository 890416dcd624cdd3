//! The logs on a real disk.

mod damage;
mod ends;
mod kills;
mod pages;
mod support;
