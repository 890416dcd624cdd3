//! HTTP requests made from this machine.
