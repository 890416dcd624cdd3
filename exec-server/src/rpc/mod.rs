//! Requests, answers and notifications over any transport.
