//! The test vector.
