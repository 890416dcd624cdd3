//! The macro that declares bounds.

/// Declares a set of bounds in groups.
///
/// ```
/// codex_limits::limits! {
///     /// The bounds of a kitchen.
///     pub struct Kitchen {
///         /// What stands on the stove.
///         stove: Stove {
///             /// Pots at once; one more waits.
///             pots: usize = 4, 1..=6;
///             /// How long a pot may boil; then it is taken off.
///             boiling: std::time::Duration = 60_000, 1..=3_600_000;
///         }
///     }
/// }
/// let mut kitchen = Kitchen::default();
/// kitchen.set("pots", 5).unwrap();
/// assert_eq!((kitchen.stove.pots, kitchen.stove.boiling.as_secs()), (5, 60));
/// assert!(kitchen.set("pots", 7).unwrap_err().to_string().contains("from 1 to 6"));
/// ```
#[macro_export]
macro_rules! limits {
    (
        $(#[$about:meta])*
        pub struct $Limits:ident {$(
            $(#[doc = $group_doc:literal])*
            $group:ident: $Group:ident {$(
                $(#[doc = $doc:literal])*
                $name:ident: $type:ty = $default:expr, $least:tt ..= $most:tt;
            )*}
        )*}
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $Limits {$(
            $(#[doc = $group_doc])*
            pub $group: $Group,
        )*}

        $(
            $(#[doc = $group_doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Group {$(
                $(#[doc = $doc])*
                pub $name: $type,
            )*}

            impl Default for $Group {
                fn default() -> Self {
                    Self {$($name: $crate::Value::of_number($default)),*}
                }
            }
        )*

        impl $Limits {
            /// Every bound, in the order of its declaration.
            pub const DECLARED: &[$crate::Declared] = &[$($(
                $crate::Declared {
                    name: stringify!($name),
                    group: stringify!($group),
                    unit: <$type as $crate::Value>::UNIT,
                    default: $default,
                    least: $least,
                    most: $most,
                    meaning: concat!($($doc),*).trim_ascii(),
                },
            )*)*];

            /// The same bounds, but for what `change` sets.
            #[must_use]
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }

            /// Sets a bound by its name; the number of a time is milliseconds.
            ///
            /// # Errors
            /// For an unknown name, and for a number out of the bound's range.
            pub fn set(&mut self, name: &str, number: u64) -> Result<(), $crate::LimitError> {
                let declared = $crate::declared(Self::DECLARED, name)?;
                if !declared.allows(number) {
                    return Err($crate::out_of_range(declared, number.to_string()));
                }
                match name {
                    $($(stringify!($name) => self.$group.$name = $crate::Value::of_number(number),)*)*
                    _ => {}
                }
                Ok(())
            }

            /// Sets a bound by its name from text, as [`Self::set`].
            ///
            /// # Errors
            /// As [`Self::set`], and for text that is no whole number.
            pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), $crate::LimitError> {
                let declared = $crate::declared(Self::DECLARED, name)?;
                let number = text.parse().map_err(|_| $crate::out_of_range(declared, text.to_owned()))?;
                self.set(name, number)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{LimitError, Limits};

    #[test]
    fn every_limit_is_set_by_its_name_within_its_range() {
        for declared in Limits::DECLARED {
            let mut limits = Limits::default();
            assert!(declared.allows(declared.default), "{}", declared.name);
            limits.set(declared.name, declared.default).unwrap();
            assert_eq!(limits, Limits::default(), "{}", declared.name);
            let other = if declared.default == declared.least { declared.most } else { declared.least };
            limits.set(declared.name, other).unwrap();
            assert_ne!(limits, Limits::default(), "{}", declared.name);
            let too_much = limits.set(declared.name, declared.most + 1).unwrap_err();
            assert!(too_much.to_string().contains(declared.name), "{too_much}");
        }
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_told() {
        let names: std::collections::BTreeSet<_> = Limits::DECLARED.iter().map(|limit| limit.name).collect();
        assert_eq!(names.len(), Limits::DECLARED.len());
        let error = Limits::default().set("nope", 1).unwrap_err();
        assert!(matches!(error, LimitError::Unknown { .. }) && error.to_string().contains("sessions"));
    }

    #[test]
    fn text_is_a_whole_number_and_times_are_milliseconds() {
        let mut limits = Limits::default();
        limits.set_text("detached_time", "1500").unwrap();
        assert_eq!(limits.session.detached_time, Duration::from_millis(1500));
        for text in ["-1", "x", "", "1.5"] {
            let error = limits.set_text("detached_time", text).unwrap_err().to_string();
            assert!(error.contains("milliseconds") && error.contains(text), "{error}");
        }
    }
}
