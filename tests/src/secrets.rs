//! No secret in any output: every secret of a fixture carries a mark, and no output may have it.

/// What every secret of a fixture contains. It is fit for a JWT's signature, a URL and a header.
pub const MARK: &str = "s3cr3t-";

/// A secret with the mark.
pub fn secret(name: &str) -> String {
    format!("{MARK}{name}")
}

/// Fails the test if something printed or logged has a secret; `what` names it.
pub fn assert_none(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    assert!(!text.contains(MARK), "a secret in {what}:\n{text}");
}
