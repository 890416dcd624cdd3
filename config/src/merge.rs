//! Lays one layer of configuration over another.

use toml::{Table, Value};

/// Lays `upper` over `lower`: tables are merged key by key, everything else is replaced whole, arrays too (login.md 12.1).
pub(crate) fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => merge(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            (0..3i64).prop_map(Value::Integer),
            prop::collection::vec((0..3i64).prop_map(Value::Integer), 0..3).prop_map(Value::Array),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[abc]", inner, 0..3)
                .prop_map(|map| Value::Table(map.into_iter().collect()))
        })
    }

    fn table() -> impl Strategy<Value = Table> {
        prop::collection::btree_map("[abc]", value(), 0..4).prop_map(|map| map.into_iter().collect())
    }

    fn merged(mut lower: Table, upper: Table) -> Table {
        merge(&mut lower, upper);
        lower
    }

    proptest! {
        #[test]
        fn an_empty_layer_changes_nothing(layer in table()) {
            prop_assert_eq!(&merged(layer.clone(), Table::new()), &layer);
            prop_assert_eq!(&merged(Table::new(), layer.clone()), &layer);
        }

        #[test]
        fn a_layer_over_itself_changes_nothing(layer in table()) {
            prop_assert_eq!(&merged(layer.clone(), layer.clone()), &layer);
        }

        #[test]
        fn what_is_no_table_in_the_upper_layer_wins(lower in table(), upper in table()) {
            let result = merged(lower.clone(), upper.clone());
            for (key, value) in &upper {
                if !value.is_table() || !lower.get(key).is_some_and(Value::is_table) {
                    prop_assert_eq!(result.get(key), Some(value));
                }
            }
            for (key, value) in &lower {
                if !upper.contains_key(key) {
                    prop_assert_eq!(result.get(key), Some(value));
                }
            }
            prop_assert!(result.keys().all(|key| lower.contains_key(key) || upper.contains_key(key)));
        }

        #[test]
        fn layers_in_order_give_the_same_when_grouped_from_below(a in table(), b in table(), c in table()) {
            let stepwise = merged(merged(a.clone(), b.clone()), c.clone());
            let mut folded = Table::new();
            for layer in [a, b, c] {
                merge(&mut folded, layer);
            }
            prop_assert_eq!(stepwise, folded);
        }
    }
}
