//! Says in words what a file that is not `_metadata` looks like.

/// Prefixes that people do put, or systems do leave, where a savepoint is expected.
const KNOWN: [(&[u8], &str); 7] = [
    (
        b"\xac\xed\x00\x05",
        "a Java-serialized object, as in Flink's high-availability directory",
    ),
    (b"PK\x03\x04", "a zip or jar file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"Obj\x01", "an Avro file"),
    (b"PAR1", "a Parquet file"),
    (b"\x7fELF", "an executable"),
];

/// Longest piece of a foreign text that is shown.
const SHOWN: usize = 40;

/// What the beginning of a file that does not start with Flink's magic number looks like.
pub(super) fn looks_like(prefix: &[u8]) -> String {
    if prefix.is_empty() {
        return "an empty file".to_owned();
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| prefix.starts_with(magic)) {
        return (*name).to_owned();
    }
    if prefix.iter().all(|byte| *byte == 0) {
        return "zeros: space was allocated but nothing was written".to_owned();
    }
    let head = &prefix[..prefix.len().min(SHOWN)];
    let text = String::from_utf8_lossy(head);
    let start = text.trim_start();
    let printable = text
        .chars()
        .all(|c| c != char::REPLACEMENT_CHARACTER && (!c.is_control() || c.is_whitespace()));
    // The last character may have been cut in two; then the lossy text ends in one replacement.
    let cut = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    if printable
        || (text.len() - cut.len() <= 3
            && cut.len() > SHOWN / 2
            && !cut.contains(char::REPLACEMENT_CHARACTER))
    {
        let kind = match start.chars().next() {
            Some('<') => "XML or HTML, perhaps an error page of the storage",
            Some('{' | '[') => "JSON",
            _ => "text",
        };
        return format!("{kind} ({:?})", cut.lines().next().unwrap_or_default());
    }
    let hex: Vec<String> = prefix
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("binary data ({})", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::looks_like;

    #[test]
    fn a_foreign_file_is_described() {
        assert_eq!(looks_like(b""), "an empty file");
        assert_eq!(looks_like(b"PK\x03\x04\x14\0"), "a zip or jar file");
        assert_eq!(
            looks_like(&[0; 64]),
            "zeros: space was allocated but nothing was written"
        );
        assert_eq!(
            looks_like(b"s3://bucket/savepoint\n"),
            "text (\"s3://bucket/savepoint\")"
        );
        assert!(looks_like(b"  <?xml version=\"1.0\"?><Error>").starts_with("XML or HTML"));
        assert!(looks_like(b"{\"errors\":[]}").starts_with("JSON"));
        assert_eq!(looks_like(&[1, 2, 3, 0xff]), "binary data (01 02 03 ff)");
        assert!(looks_like("ä".repeat(100).as_bytes()).starts_with("text"));
        assert!(
            looks_like(format!("a{}", "ä".repeat(100)).as_bytes()).starts_with("text"),
            "cut inside a character"
        );
    }
}
