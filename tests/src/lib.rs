//! Test support: starts the built binary and talks to it.
