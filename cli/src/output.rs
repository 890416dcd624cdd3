//! The only place that prints: the address line on stdout, errors and logs on stderr.
#![allow(clippy::print_stderr)]

use std::io::Write;

use tracing_subscriber::EnvFilter;

/// Prints one line on stdout, at once.
///
/// # Errors
/// Nobody reads stdout any more.
pub(crate) fn line(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints these bytes on stdout, at once.
///
/// # Errors
/// Nobody reads stdout any more.
pub(crate) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// An error and its causes in one sentence; a cause that was told already is not told again.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        known if known.contains(&cause) => told,
        known => format!("{known}: {cause}"),
    })
}

/// Prints one `Error:` line on stderr.
pub(crate) fn error(text: &str) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(std::io::stderr(), "Error: {text}");
}

/// Prints an error and the list of its causes on stderr, as released executors do (`remote.md` 1.2).
pub(crate) fn error_with_causes(told: &anyhow::Error) {
    let causes: Vec<String> = told.chain().skip(1).map(ToString::to_string).collect();
    let list = match causes.as_slice() {
        [] => String::new(),
        [cause] => format!("\n\nCaused by:\n    {cause}"),
        causes => causes.iter().enumerate().fold("\n\nCaused by:".to_owned(), |list, (number, cause)| {
            format!("{list}\n    {number}: {cause}")
        }),
    };
    error(&format!("{told}{list}"));
}

/// Prints one line on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Sends logs to stderr: warnings, or what `RUST_LOG` asks for.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
