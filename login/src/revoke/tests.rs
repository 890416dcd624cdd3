//! Tests of `revoke`.
