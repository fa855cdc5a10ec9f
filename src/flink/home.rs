//! The Flink home: which version is installed there, read without starting a JVM.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::version::FlinkVersion;

/// Why the version of a Flink home is not known.
#[derive(Debug, Error)]
pub enum HomeError {
    /// The `lib` directory of the Flink home cannot be listed.
    #[error(
        "cannot list {} to find the Flink version; set FLINK_HOME to an installed Flink or name the version",
        path.display()
    )]
    List {
        /// The directory that was listed.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no `flink-dist` jar.
    #[error(
        "no flink-dist-VERSION.jar in {}; set FLINK_HOME to an installed Flink or name the version",
        .0.display()
    )]
    NoDist(PathBuf),
    /// There are `flink-dist` jars of different versions, and Java's class path order would decide.
    #[error("both Flink {first} and Flink {second} in {}; leave only one flink-dist jar there", path.display())]
    Ambiguous {
        /// The directory that was listed.
        path: PathBuf,
        /// The lower version.
        first: FlinkVersion,
        /// The higher version.
        second: FlinkVersion,
    },
}

/// The version of the Flink installed at `flink_home`, from the name of `lib/flink-dist-VERSION.jar` (up to 1.14:
/// `flink-dist_2.12-VERSION.jar`). Takes no JVM and reads no jar.
///
/// # Errors
/// When there is no such jar, or jars of several versions.
pub fn detect_version(flink_home: &Path) -> Result<FlinkVersion, HomeError> {
    let lib = flink_home.join("lib");
    let failed = |source| HomeError::List {
        path: lib.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&lib).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(dist_version));
    }
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [] => Err(HomeError::NoDist(lib)),
        [version] => Ok(version),
        [first, .., second] => Err(HomeError::Ambiguous {
            path: lib,
            first,
            second,
        }),
    }
}

fn dist_version(file_name: &str) -> Option<FlinkVersion> {
    let rest = file_name.strip_suffix(".jar")?.strip_prefix("flink-dist")?;
    // Up to 1.14 the Scala version came first: flink-dist_2.12-1.14.6.jar.
    let version = rest.strip_prefix('-').or_else(|| {
        let (_scala, version) = rest.strip_prefix('_')?.split_once('-')?;
        Some(version)
    })?;
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn version(major: u16, minor: u16, patch: u16) -> FlinkVersion {
        FlinkVersion {
            major,
            minor,
            patch,
        }
    }

    #[test]
    fn the_dist_jar_names_the_version() {
        for (name, expected) in [
            ("flink-dist-2.3.0.jar", Some(version(2, 3, 0))),
            ("flink-dist_2.12-1.14.6.jar", Some(version(1, 14, 6))),
            ("flink-dist-1.20.5.jar.bak", None),
            ("flink-distance-1.0.0.jar", None),
            ("flink-cep-1.20.5.jar", None),
        ] {
            assert_eq!(dist_version(name), expected, "{name}");
        }
    }

    #[test]
    fn a_home_is_asked_for_its_only_dist_jar() -> std::io::Result<()> {
        let home = tempfile::tempdir()?;
        assert!(matches!(
            detect_version(home.path()),
            Err(HomeError::List { .. })
        ));
        let lib = home.path().join("lib");
        std::fs::create_dir(&lib)?;
        assert!(matches!(
            detect_version(home.path()),
            Err(HomeError::NoDist(_))
        ));
        std::fs::write(lib.join("flink-dist-1.20.5.jar"), "")?;
        std::fs::write(lib.join("log4j-api-2.24.3.jar"), "")?;
        assert_eq!(detect_version(home.path()).ok(), Some(version(1, 20, 5)));
        std::fs::write(lib.join("flink-dist-2.3.0.jar"), "")?;
        assert!(matches!(
            detect_version(home.path()),
            Err(HomeError::Ambiguous { .. })
        ));
        Ok(())
    }
}
