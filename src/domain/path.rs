//! Paths as Flink writes them: the same place has several spellings (`file:/x` and `file:///x`, `s3:` and `s3a:`, with and
//! without `/_metadata`), so places are compared by their parts.

/// The own name of the directory of a restore point, which Flink makes unique.
#[must_use]
pub fn last_segment(path: &str) -> &str {
    let path = path.trim_end_matches('/').trim_end_matches("/_metadata");
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
}

/// What follows scheme and slashes, without a slash at the end.
#[must_use]
pub fn without_scheme(path: &str) -> &str {
    let path = path.split_once(':').map_or(path, |(_, rest)| rest);
    path.trim_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_name_in_all_its_spellings() {
        for path in [
            "file:/a/savepoint-1",
            "file:///a/savepoint-1/",
            "s3a://b/a/savepoint-1/_metadata",
            "savepoint-1",
        ] {
            assert_eq!(last_segment(path), "savepoint-1", "{path}");
        }
        assert_eq!(without_scheme("file:///a/b/"), without_scheme("file:/a/b"));
        assert_eq!(last_segment(""), "");
    }
}
