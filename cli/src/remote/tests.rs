//! Tests of the flags.
