//! What a bound can be, and how one is set from a number.

use std::time::Duration;

/// What a bound's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, or things such as connections.
    Number,
    /// Milliseconds.
    Millis,
}

/// One bound as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The name, as it stands in configuration.
    pub name: &'static str,
    /// Which room has to do with it.
    pub group: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// The number where nobody sets another.
    pub default: u64,
    /// The least that makes sense.
    pub least: u64,
    /// The most that makes sense.
    pub most: u64,
    /// What is bounded and what happens at the bound, in a sentence or two.
    pub meaning: &'static str,
}

impl Declared {
    /// Whether the number is in the range.
    pub fn allows(&self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }
}

/// A bound that can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No such bound.
    #[error("there is no limit `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not a number, or one out of range.
    #[error("the limit `{name}` takes a whole number{unit} from {least} to {most}, not `{value}`", unit = of(*.unit))]
    Value {
        /// Which bound.
        name: &'static str,
        /// What its number counts.
        unit: Unit,
        /// The least that makes sense.
        least: u64,
        /// The most that makes sense.
        most: u64,
        /// What was given.
        value: String,
    },
}

fn of(unit: Unit) -> &'static str {
    match unit {
        Unit::Number => "",
        Unit::Millis => " of milliseconds",
    }
}

/// A type that a bound can have. The number of a time is milliseconds.
pub trait Value: Copy {
    /// What the number counts.
    const UNIT: Unit;

    /// The value of this number. A number that the type can't hold becomes its largest.
    fn of_number(number: u64) -> Self;
}

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            const UNIT: Unit = Unit::Number;

            fn of_number(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::MAX)
            }
        }
    )*};
}

whole_numbers! { u32 u64 usize }

impl Value for Duration {
    const UNIT: Unit = Unit::Millis;

    fn of_number(number: u64) -> Self {
        Self::from_millis(number)
    }
}

/// The bound of this name.
#[doc(hidden)]
pub fn declared(all: &'static [Declared], name: &str) -> Result<&'static Declared, LimitError> {
    all.iter().find(|declared| declared.name == name).ok_or_else(|| {
        let known = all.iter().map(|declared| declared.name).collect::<Vec<_>>().join(", ");
        LimitError::Unknown { name: name.to_owned(), known }
    })
}

/// A value that the bound does not take.
#[doc(hidden)]
pub fn out_of_range(declared: &Declared, value: String) -> LimitError {
    let Declared { name, unit, least, most, .. } = *declared;
    LimitError::Value { name, unit, least, most, value }
}
