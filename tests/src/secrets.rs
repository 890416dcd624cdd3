//! No secret in any output: every secret of a fixture carries a mark, and no output may have it, encoded or plain.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};

/// What every secret of a fixture contains. It is fit for a JWT's signature, a URL and a header.
pub const MARK: &str = "s3cr3t-";

/// A secret with the mark, as a constant.
#[macro_export]
macro_rules! secret {
    ($name:literal) => {
        concat!("s3cr3t-", $name)
    };
}

/// What no output may have: every form of the mark, and of the secrets that the product made up itself.
static FORMS: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(|| Mutex::new(forms(MARK).collect()));

/// A secret with the mark.
pub fn secret(name: &str) -> String {
    format!("{MARK}{name}")
}

/// Makes a secret known that the product made up: nothing but the line that it was read from may have it.
pub fn remember(secret: &str) {
    assert!(secret.len() >= 16, "{secret:?} is too short to be told from other text");
    FORMS.lock().unwrap_or_else(PoisonError::into_inner).extend(forms(secret));
}

/// A text as it is, percent-encoded, and in base64 at each of its three places.
fn forms(text: &str) -> impl Iterator<Item = String> {
    let percent = |all: bool, upper: bool| -> String {
        let encode = |byte: u8| match (all || !byte.is_ascii_alphanumeric(), upper) {
            (false, _) => char::from(byte).to_string(),
            (true, true) => format!("%{byte:02X}"),
            (true, false) => format!("%{byte:02x}"),
        };
        text.bytes().map(encode).collect()
    };
    let base64 = |before: usize| {
        let bytes = [&[b' '; 2][..before], text.as_bytes()].concat();
        let whole = crate::base64(&bytes);
        // Only the characters that no neighbour has a part in.
        whole[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
    };
    let url_safe = |text: String| text.replace('+', "-").replace('/', "_");
    let encoded = (0..3).flat_map(|before| [base64(before), url_safe(base64(before))]);
    let all: BTreeSet<String> =
        [text.to_owned(), percent(true, true), percent(true, false), percent(false, true)]
            .into_iter()
            .chain([percent(false, false)])
            .chain(encoded.collect::<Vec<_>>())
            .collect();
    all.into_iter()
}

/// Fails the test if something printed or logged has a secret; `what` names it.
#[track_caller]
pub fn assert_none(what: &str, text: &[u8]) {
    if let Some(form) = found(text) {
        panic!("a secret in {what}, as {form:?}:\n{}", String::from_utf8_lossy(text));
    }
}

fn found(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let forms = FORMS.lock().unwrap_or_else(PoisonError::into_inner);
    forms.iter().find(|form| text.contains(form.as_str())).cloned()
}

/// What a program prints into a file, searched for secrets when it is asked for and when it is dropped.
#[derive(Debug)]
pub struct Printed {
    what: &'static str,
    file: File,
}

impl Printed {
    /// A file for this output of a program.
    pub fn new(what: &'static str) -> Self {
        Self { what, file: tempfile::tempfile().expect("a temporary file") }
    }

    /// The program's end of it.
    pub fn stdio(&self) -> Stdio {
        self.file.try_clone().expect("a descriptor").into()
    }

    /// All that was printed so far: known to hold no secret.
    #[track_caller]
    pub fn text(&self) -> String {
        let bytes = self.bytes();
        assert_none(self.what, &bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn bytes(&self) -> Vec<u8> {
        let length = self.file.metadata().map_or(0, |found| found.len());
        let mut bytes = vec![0; length.try_into().expect("it fits into memory")];
        self.file.read_exact_at(&mut bytes, 0).expect("a file can be read");
        bytes
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.what, String::from_utf8_lossy(&self.bytes()));
        } else {
            self.text();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_found() {
        let secret = secret("key?/+ü");
        for before in ["", "x", "yz", "abc"] {
            let whole = format!("{before}{secret}/..");
            for text in [
                whole.clone(),
                crate::base64(&whole),
                crate::base64(&whole).replace('+', "-").replace('/', "_"),
                whole.bytes().map(|byte| format!("%{byte:02x}")).collect(),
                whole.replace('-', "%2D"),
            ] {
                assert!(found(format!("log: {text} end").as_bytes()).is_some(), "{text}");
            }
        }
        assert_eq!(found(b"nothing s3cr3t here: czNjcg=="), None);
    }

    #[test]
    fn what_the_product_made_up_is_found_once_it_is_known() {
        let token = "made-up-0123456789-abcdef";
        assert_eq!(found(token.as_bytes()), None);
        remember(token);
        assert!(found(crate::base64(format!("x{token}")).as_bytes()).is_some());
    }

    #[test]
    fn printed_output_is_searched_at_its_end() {
        let printed = Printed::new("stderr");
        let status = std::process::Command::new("sh")
            .args(["-c", "echo fine >&2; echo \"$0\" >&2", &secret("key")])
            .stderr(printed.stdio())
            .status();
        assert!(status.expect("sh runs").success());
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(printed)));
        assert!(dropped.is_err());
    }
}
