//! A registry and rendezvous of one's own: brings executors and harnesses together without reading what they say.
