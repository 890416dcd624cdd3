//! Programs on pipes: start, output, read, write, exit and retention (section 8).

mod ends;
mod input;
mod machine;
mod output;
mod starts;
