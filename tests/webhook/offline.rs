//! `drey inject` and `drey uninject` as programs: what is read, what is written, and what a script sees of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const STANDALONE: &str = include_str!("../fixtures/inject/standalone.yaml");
const SESSION: &str = include_str!("../fixtures/inject/session.yaml");

/// Something that is none of ours, as a person writes it.
const FOREIGN: &str = "# why\nkind: ConfigMap\napiVersion: v1\ndata: {a:   b}   # kept\n";

/// A pod that is refused.
const REFUSED: &str = "kind: Pod\napiVersion: v1\nmetadata:\n  name: jm\n  labels: {app: orders}\n  annotations: {drey.io/rol: x}\n\
                       spec:\n  containers:\n    - {name: jm, image: flink, args: [standalone-job]}\n";

fn drey(args: &[&str], input: Option<&Path>) -> Output {
    let stdin = input.map_or(Stdio::null(), |file| fs::File::open(file).unwrap().into());
    let mut drey = Command::new(env!("CARGO_BIN_EXE_drey"));
    drey.args(args).env_clear().stdin(stdin).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn written(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn a_directory_is_changed_in_place_once_and_back() {
    let dir = TempDir::new().unwrap();
    let (dir, path) = (dir.path(), dir.path().to_str().unwrap());
    fs::create_dir(dir.join("below")).unwrap();
    let files = [
        ("a.yaml", STANDALONE),
        ("b.yml", FOREIGN),
        ("c.txt", STANDALONE),
        ("below/d.yaml", SESSION),
    ];
    written(dir, &files);

    let said = drey(&["inject", "-f", path, "--in-place"], None);
    let report = text(&said.stderr);
    assert_eq!((said.status.code(), text(&said.stdout)), (Some(0), ""));
    assert!(report.contains("a.yaml:") && report.contains(": injected (JobManager)"));
    let once = read(dir, "a.yaml");
    assert!(once.contains("drey.io/status"), "{report}");
    for (name, text) in &files[1..] {
        assert_eq!(read(dir, name), *text, "{name}");
    }

    let flags = ["-f", path, "--in-place", "--recursive"];
    let said = drey(&[&["inject"], &flags[..]].concat(), None);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(read(dir, "a.yaml"), once);
    assert!(read(dir, "below/d.yaml").contains("drey.io/status"));

    let said = drey(&[&["uninject"], &flags[..]].concat(), None);
    assert!(said.status.success(), "{said:?}");
    for name in ["a.yaml", "below/d.yaml"] {
        let text = read(dir, name);
        assert!(!text.contains("drey.io/status"), "{text}");
        assert!(!text.contains("/drey/"), "{text}");
    }
    let files = fs::read_dir(dir).unwrap().count();
    assert_eq!(files, 4, "something is left beside them");
}

#[test]
fn standard_input_goes_to_standard_output_in_its_order() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("in");
    fs::write(&file, format!("{FOREIGN}---\n{STANDALONE}")).unwrap();
    let injected = drey(&["inject", "-f", "-"], Some(&file));
    assert!(injected.status.success(), "{injected:?}");
    let output = text(&injected.stdout);
    assert!(output.starts_with(FOREIGN), "{output}");
    assert!(output.contains("drey.io/status"), "{output}");
    assert!(text(&injected.stderr).contains(": injected (JobManager)"));

    fs::write(&file, output).unwrap();
    let again = drey(&["inject", "-f", "-"], Some(&file));
    assert_eq!(text(&again.stdout), output);
}

#[test]
fn what_is_refused_leaves_all_files_as_they_are() {
    let dir = TempDir::new().unwrap();
    let (dir, path) = (dir.path(), dir.path().to_str().unwrap());
    written(dir, &[("a.yaml", STANDALONE), ("b.yaml", REFUSED)]);
    let said = drey(&["inject", "-f", path, "--in-place"], None);
    let errors = text(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{errors}");
    for expected in [
        "b.yaml:1",
        "drey.io/rol",
        "drey.io/role",
        "nothing was written",
    ] {
        assert!(errors.contains(expected), "{errors}");
    }
    assert_eq!(read(dir, "a.yaml"), STANDALONE);
}

#[test]
fn what_cannot_be_read_is_a_usage_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_str().unwrap();
    let missing = dir.path().join("missing.yaml");
    for (args, expected) in [
        (&["-f", path][..], "name a file, or say `--recursive`"),
        (
            &["-f", missing.to_str().unwrap()],
            "name a file that can be read",
        ),
        (&["-f", "-", "--in-place"], "leave `--in-place` out"),
        (&[], "--filename"),
    ] {
        for verb in ["inject", "uninject"] {
            let said = drey(&[&[verb], args].concat(), None);
            let errors = text(&said.stderr);
            assert_eq!(said.status.code(), Some(64), "{errors}");
            assert!(errors.contains(expected), "{errors}");
        }
    }
}
