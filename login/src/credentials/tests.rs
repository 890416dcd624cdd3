//! Tests of `credentials`.
