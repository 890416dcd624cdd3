//! An error and its causes as one sentence.

use std::error::Error;

/// The error and what caused it, joined by colons. A cause that its effect repeats is told once.
pub fn sentence(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !told.ends_with(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = next.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn every_cause_is_told_once() {
        let causes = |texts: [&'static str; 3]| {
            texts.into_iter().rev().fold(None, |below, text| Some(Box::new(Link(text, below)))).unwrap()
        };
        assert_eq!(sentence(&*causes(["a", "b", "c"])), "a: b: c");
        assert_eq!(sentence(&*causes(["a failed: b", "b", "c"])), "a failed: b: c");
    }
}
