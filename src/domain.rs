//! What Drey knows and decides, as plain values: no I/O, no async and no clock in here.
pub mod budget;
pub mod cause;
pub mod changes;
pub mod claim;
pub mod fork;
pub mod ha;
pub mod health;
pub mod hold;
pub mod job;
pub mod lock;
pub mod path;
pub mod pointer;
pub mod pointer_map;
pub mod rescale;
pub mod restore;
pub mod retention;
pub mod savepoint;
pub mod schedule;
pub mod supervise;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn nothing_in_here_does_io_waits_or_reads_a_clock() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain");
        let mut folders = vec![root];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).expect("a source file");
                for banned in [
                    "async ", ".await", "tokio", "hyper", "std::fs", "std::env", "::now()",
                ] {
                    assert!(!text.contains(banned), "{}: {banned}", path.display());
                }
                files += 1;
            }
        }
        assert!(files > 10, "only {files} files");
    }
}
