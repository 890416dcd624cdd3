//! Runs programs on pipes or a terminal, and keeps their output.
