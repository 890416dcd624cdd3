//! What `codex sandbox` gives a program as stdin, stdout and stderr.
