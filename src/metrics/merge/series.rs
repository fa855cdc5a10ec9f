//! One series as it is served.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use crate::metrics::line::{Labels, Sample};
use crate::metrics::relabel::Rules;

/// Writes `sample`, which was read from `line`, into `buffer`, which is emptied before. Returns a hash of the series, which
/// does not depend on the order of its labels, nor on those without a value, which are the same as none.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    rules: &Rules,
    random: &RandomState,
    sample: &Sample<'_>,
    line: &str,
    labels: &Labels,
) -> u64 {
    let mut hash = random.hash_one(sample.name);
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            hash = hash.wrapping_add(random.hash_one((name, value)));
        }
    };
    buffer.clear();
    buffer.extend_from_slice(sample.name.as_bytes());
    buffer.push(b'{');
    let start = buffer.len();
    if sample.plain && !rules.change_labels() {
        labels.of(line).for_each(|(name, value)| add(name, value));
        buffer.extend_from_slice(sample.labels.as_bytes());
    } else {
        let kept = labels.of(line).filter(|(name, _)| rules.keeps_label(name));
        for (name, value) in kept {
            add(name, value);
            put_label(buffer, start, name, value);
        }
    }
    for (name, value) in rules.added() {
        if rules.replaces_labels() || labels.of(line).all(|(other, _)| other != name) {
            add(name, value);
            put_label(buffer, start, name, value);
        }
    }
    if buffer.len() == start {
        buffer.truncate(start - 1);
    } else {
        buffer.push(b'}');
    }
    buffer.push(b' ');
    buffer.extend_from_slice(sample.value.text().as_bytes());
    buffer.push(b'\n');
    hash
}

fn put_label(buffer: &mut Vec<u8>, start: usize, name: &str, value: &str) {
    if buffer.len() > start {
        buffer.push(b',');
    }
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(b"=\"");
    buffer.extend_from_slice(value.as_bytes());
    buffer.push(b'"');
}
