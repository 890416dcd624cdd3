//! Matches names of variables against patterns with `*` and `?`, without regard to case (8.2).

/// A pattern, prepared for many names: `*` is any text, `?` any one character, all else (also `[`) is literal.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether the whole name matches.
    ///
    /// Only the latest `*` is ever reconsidered, since whatever an earlier one could give up a later one can take:
    /// the time is at most the product of the two lengths, never exponential.
    pub(super) fn matches(&self, name: &[char]) -> bool {
        let pattern = &self.0;
        let (mut p, mut n) = (0, 0);
        // Where the latest star stands, and the end of what it has swallowed.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == '?' || same_letter(c, name[n]) => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, swallowed)) = star else { return false };
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    n = swallowed + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }
}

fn same_letter(a: char, b: char) -> bool {
    a == b || a.to_lowercase().eq(b.to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(&name.chars().collect::<Vec<_>>())
    }

    /// The definition, word for word.
    fn oracle(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|taken| oracle(rest, &name[taken..])),
            Some(('?', rest)) => !name.is_empty() && oracle(rest, &name[1..]),
            Some((c, rest)) => name.first().is_some_and(|n| same_letter(*c, *n)) && oracle(rest, &name[1..]),
        }
    }

    #[test]
    fn patterns_match_the_whole_name() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "A", false),
            ("*", "", true),
            ("**", "anything", true),
            ("?", "", false),
            ("?", "é", true),
            ("FO*", "foo", true),
            ("FO*", "AFOO", false),
            ("lang", "LANG", true),
            ("lang", "LANGUAGE", false),
            ("T?", "TZ", true),
            ("T?", "TMP", false),
            ("*KEY*", "OPENAI_API_KEY", true),
            ("*KEY*", "monkeys", true),
            ("*KEY*", "KE_Y", false),
            ("[", "[", true),
            ("[A-Z]", "B", false),
            ("A*B*C", "AxBxBxC", true),
            ("A*B*C", "AxBxBxCx", false),
            ("É*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_decided() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "a*".repeat(500)), &"a".repeat(5000)));
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(pattern in "[aAbé?*]{0,8}", name in "[aAbBé_]{0,9}") {
            let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(matches(&pattern, &name), oracle(&p, &n));
        }
    }
}
