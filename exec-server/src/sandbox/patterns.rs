//! Patterns name by name: how far each of many has matched on the way to a directory, so that one walk serves all.

use std::ffi::OsStr;

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns that one is written out as, for braces with a `/` in them; more are refused.
/// A safeguard, far from any real use.
const MOST_ALTERNATIVES: usize = 256;

/// One pattern, as the names on its way.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Segment>);

#[derive(Debug)]
enum Segment {
    /// `**`: any names. As the last one, at least one.
    Tree,
    Name(Glob),
}

impl Pattern {
    /// The patterns that a text means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn all(text: &str) -> Result<Vec<Self>, String> {
        // Tells what is wrong with the whole, as the parts would not.
        glob(text)?;
        let mut texts = Vec::new();
        write_out(text, &mut texts)?;
        texts.iter().map(|text| Self::one(text)).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        let names = text.split('/').filter(|name| !name.is_empty() && *name != ".");
        let segment = |name: &str| match name {
            ".." => Err("`..` has no meaning in a pattern".to_owned()),
            "**" => Ok(Segment::Tree),
            name => glob(name).map(Segment::Name),
        };
        names.map(segment).collect::<Result<_, _>>().map(Self)
    }
}

fn glob(text: &str) -> Result<Glob, String> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| error.kind().to_string())
}

/// Writes out the first braces that hold a `/`, and so on until there are none.
fn write_out(text: &str, texts: &mut Vec<String>) -> Result<(), String> {
    let Some((begin, alternatives, end)) = slashed_braces(text)? else {
        texts.push(text.to_owned());
        return if texts.len() > MOST_ALTERNATIVES {
            Err(format!("its braces come to more than {MOST_ALTERNATIVES} patterns"))
        } else {
            Ok(())
        };
    };
    alternatives.iter().try_for_each(|one| write_out(&format!("{begin}{one}{end}"), texts))
}

/// What is before, in and behind outer braces that hold a `/`.
type Braces<'t> = (&'t str, Vec<&'t str>, &'t str);

fn slashed_braces(text: &str) -> Result<Option<Braces<'_>>, String> {
    let (mut depth, mut begin, mut commas, mut slash) = (0_usize, 0, Vec::new(), false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '[' => skip_class(&mut characters)?,
            '{' => {
                if depth == 0 {
                    (begin, commas, slash) = (at, Vec::new(), false);
                }
                depth += 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 && slash {
                    let ends = commas.iter().copied().chain([at]);
                    let begins = [begin].into_iter().chain(commas.iter().copied());
                    let alternatives = begins.zip(ends).map(|(from, to)| &text[from + 1..to]).collect();
                    return Ok(Some((&text[..begin], alternatives, &text[at + 1..])));
                }
            }
            ',' if depth == 1 => commas.push(at),
            '/' if depth > 0 => slash = true,
            _ => {}
        }
    }
    Ok(None)
}

/// Goes behind the end of a class of characters.
fn skip_class(characters: &mut std::str::CharIndices<'_>) -> Result<(), String> {
    let mut is_first = true;
    for (_, character) in characters.by_ref() {
        match character {
            ']' if !is_first => return Ok(()),
            '/' => return Err("a name has no `/`, so `[…]` can't hold one".to_owned()),
            '!' | '^' if is_first => {}
            _ => is_first = false,
        }
    }
    Ok(())
}

/// Patterns that begin in one directory, ready to be followed.
#[derive(Debug)]
pub(super) struct Patterns {
    names: GlobSet,
    /// The positions of all patterns, one after the other, each pattern with its end.
    positions: Vec<Position>,
    begins: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// What has to match the next name, by its number in the set.
    Name(usize),
    Tree,
    End,
}

/// Where the patterns are on the way to a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct States(Box<[u64]>);

impl States {
    fn none(positions: usize) -> Self {
        Self(vec![0; positions.div_ceil(64)].into())
    }

    fn set(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(word, bits): (usize, &u64)| {
            let bits = *bits;
            (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| word * 64 + bit)
        };
        self.0.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(bits)
    }

    /// Whether a name in there can match.
    pub(super) fn lead_on(&self) -> bool {
        self.0.iter().any(|bits| *bits != 0)
    }

    /// Whether all that is looked for by the other is looked for by this.
    pub(super) fn cover(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| theirs & !ours == 0)
    }
}

impl Patterns {
    /// # Errors
    /// When together they are too large.
    pub(super) fn new(patterns: Vec<Pattern>) -> Result<Self, String> {
        let (mut set, mut count) = (GlobSetBuilder::new(), 0);
        let (mut positions, mut begins) = (Vec::new(), Vec::new());
        for Pattern(segments) in patterns {
            begins.push(positions.len());
            for segment in segments {
                positions.push(match segment {
                    Segment::Tree => Position::Tree,
                    Segment::Name(glob) => {
                        set.add(glob);
                        count += 1;
                        Position::Name(count - 1)
                    }
                });
            }
            positions.push(Position::End);
        }
        let names = set.build().map_err(|error| error.kind().to_string())?;
        Ok(Self { names, positions, begins })
    }

    /// In the directory that they begin in.
    pub(super) fn begin(&self) -> States {
        let mut states = States::none(self.positions.len());
        self.begins.iter().for_each(|begin| self.enter(*begin, &mut states));
        states
    }

    /// Also all that follows a `**`, which may stand for nothing; as the last it may not.
    fn enter(&self, position: usize, states: &mut States) {
        let mut at = position;
        while self.positions[at] != Position::End {
            states.set(at);
            if self.positions[at] != Position::Tree {
                return;
            }
            at += 1;
        }
    }

    /// Where they are behind a name, and whether one of them matches with it. None if that is nowhere.
    pub(super) fn step(
        &self,
        states: &States,
        name: &OsStr,
        matching: &mut Vec<usize>,
    ) -> (Option<States>, bool) {
        self.names.matches_candidate_into(&Candidate::new(name), matching);
        let (mut next, mut matches) = (None, false);
        for at in states.positions() {
            let to = match self.positions[at] {
                Position::Name(glob) if matching.binary_search(&glob).is_ok() => at + 1,
                Position::Tree => at,
                _ => continue,
            };
            let ends = match self.positions[at] {
                Position::Tree => self.positions[at + 1] == Position::End,
                _ => self.positions[to] == Position::End,
            };
            matches |= ends;
            self.enter(to, next.get_or_insert_with(|| States::none(self.positions.len())));
        }
        (next, matches)
    }
}
