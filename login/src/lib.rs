//! Credentials shared with released Codex programs: where they are kept, how they are refreshed, how one signs in.
