//! The difference between two configurations.

use super::{
    changes::{Changes, Difference},
    declare::Keys as _,
    settings::Settings,
    walk::At,
};

/// Compares effective settings: the order of buckets and where a secret is written do not count.
pub fn diff(running: &Settings, new: &Settings) -> Difference {
    let mut changes = Changes::default();
    running.compare_keys(new, &At::Top, &mut changes);
    changes.into()
}
