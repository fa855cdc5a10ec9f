//! Manifests as people write them, and what becomes of them: `tests/fixtures/inject`. To write the expected files anew:
//! `DREY_WRITE_FIXTURES=1 cargo test --lib inject::tests::golden`, and read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use super::settings;
use crate::inject::Settings;
use crate::inject::offline::{Act, File, Rewritten, rewrite};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/inject")
}

fn act(name: &str) -> Act {
    let settings = Settings {
        native_sidecar: !name.starts_with("ordinary"),
        opted_in: true,
        ..settings()
    };
    Act::Inject(Box::new(settings), None)
}

fn done(name: &str, text: String, act: &Act) -> Rewritten {
    let name = name.to_owned();
    let done = rewrite(&[File { name, text }], act);
    assert_eq!(done.refused, Vec::<String>::new());
    done
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("fixtures");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.retain(|name| name.ends_with(".yaml") || name.ends_with(".json"));
    names.sort();
    names
}

/// Compares with the file, or writes it.
fn expect(file: &Path, text: &str) {
    if std::env::var_os("DREY_WRITE_FIXTURES").is_some() {
        fs::write(file, text).expect("writable fixtures");
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(text, expected, "{}", file.display());
}

#[test]
fn manifests_become_what_is_expected() {
    for name in names(&fixtures()) {
        let text = fs::read_to_string(fixtures().join(&name)).expect("a fixture");
        let act = act(&name);
        let once = done(&name, text.clone(), &act);
        expect(
            &fixtures().join("expected").join(&name),
            &once.files[0].text,
        );
        let report = once.report.join("\n") + "\n";
        expect(
            &fixtures().join("expected").join(format!("{name}.report")),
            &report,
        );
        let twice = done(&name, once.files[0].text.clone(), &act);
        assert_eq!(twice.files, once.files, "{name}");
        let back = done(&name, once.files[0].text.clone(), &Act::Uninject);
        assert_eq!(values(&back.files[0].text), values(&text), "{name}");
    }
}

#[test]
fn the_work_of_an_older_version_is_replaced() {
    let older = names(&fixtures().join("older"));
    assert!(older.len() > 2);
    for name in older {
        let older = fs::read_to_string(fixtures().join("older").join(&name)).expect("a fixture");
        let plain = fs::read_to_string(fixtures().join(&name)).expect("a fixture");
        let anew = done(&name, older.clone(), &act(&name));
        let expected =
            fs::read_to_string(fixtures().join("expected").join(&name)).expect("a fixture");
        assert_eq!(values(&anew.files[0].text), values(&expected), "{name}");
        let back = done(&name, older, &Act::Uninject);
        assert_eq!(values(&back.files[0].text), values(&plain), "{name}");
    }
}

/// What a file says, with objects in the order of their keys, and null as nothing.
fn values(text: &str) -> Vec<serde_json::Value> {
    let documents = crate::inject::text::documents(text).expect("documents");
    documents
        .into_iter()
        .map(|document| plain(document.value))
        .collect()
}

fn plain(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(entries) => {
            let mut entries: Vec<(String, Value)> = entries.into_iter().collect();
            entries.retain(|(_, value)| !value.is_null());
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, plain(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        other => other,
    }
}
