//! What `tests/setup.sh` has made ready for a version of Flink.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

/// Where the repository is.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A version of Flink that is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// The long-term version, 1.20.
    pub fn v1() -> Self {
        Self::pinned("FLINK_1")
    }

    /// The newest version.
    pub fn v2() -> Self {
        Self::pinned("FLINK_2")
    }

    /// Any version, as `1.15.4`.
    pub fn named(version: &str) -> Self {
        Self(version.to_owned())
    }

    /// The versions that `make test-matrix` adds, or the ones in `DREY_TEST_FLINK`.
    pub fn matrix() -> Vec<Self> {
        let pinned = pinned("FLINK_MATRIX");
        pinned.split_whitespace().map(Self::named).collect()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this version is at least `major.minor`.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.0.split('.').map(|part| part.parse::<u32>().unwrap());
        (parts.next().unwrap(), parts.next().unwrap()) >= (major, minor)
    }

    fn pinned(name: &str) -> Self {
        Self(pinned(name))
    }
}

/// A value of `tests/versions.env`.
pub fn pinned(name: &str) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/versions.env")).unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in tests/versions.env"));
    value.trim_matches('"').to_owned()
}

/// A Flink home, the example job, and how both are started.
#[derive(Debug)]
pub struct Installation {
    /// Flink's home, for reading only.
    pub home: PathBuf,
    /// A `FLINK_LIB_DIR` with the example job in the `usrlib` beside it.
    pub lib: PathBuf,
    pub java_home: PathBuf,
    /// Holds `jm.args` and `tm.args`.
    pub java_args: PathBuf,
}

impl Installation {
    /// Made once for each version and test run.
    pub fn of(version: &Version) -> Arc<Self> {
        static KNOWN: OnceLock<Mutex<BTreeMap<String, Arc<Installation>>>> = OnceLock::new();
        let mut known = KNOWN
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = known
            .entry(version.as_str().to_owned())
            .or_insert_with(|| Arc::new(Self::make(version.as_str())));
        Arc::clone(made)
    }

    fn make(version: &str) -> Self {
        let mut command = Command::new(Path::new(ROOT).join("tests/setup.sh"));
        for part in ["flink", "job", "java", "java-args"] {
            command.args([part, version]);
        }
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(
            output.status.success(),
            "`tests/setup.sh java-args {version}` failed; run it by hand to see why, and `tests/setup.sh tools` first \
             on a new machine"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let paths: Vec<&Path> = text.lines().map(Path::new).collect();
        let [home, jar, java_home, java_args] = paths[..] else {
            panic!("unexpected output of tests/setup.sh: {text}");
        };
        Self {
            home: home.to_owned(),
            lib: jar.parent().unwrap().with_file_name("lib"),
            java_home: java_home.to_owned(),
            java_args: java_args.to_owned(),
        }
    }
}
