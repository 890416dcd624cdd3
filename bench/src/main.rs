//! Benchmarks of an exec-server against the limits of this machine.
fn main() {}
