//! Files on the local disk.
