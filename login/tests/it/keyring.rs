//! Credentials in a real Secret Service.
