//! Flink's configuration directory: which file Flink reads there, loaded and saved as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{ConfigFile, ConfigFileError, ConfigFormat};
use crate::flink::version::FlinkVersion;

/// A configuration directory and the file in it that one Flink version reads.
#[derive(Debug, Clone)]
pub struct ConfDir {
    file: PathBuf,
    format: ConfigFormat,
}

/// Why the file of a configuration directory cannot be used.
#[derive(Debug, Error)]
pub enum ConfDirError {
    /// The directory or the file is not accessible.
    #[error("cannot {action} {}; check that the directory exists and belongs to the user Flink runs as", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no UTF-8 text.
    #[error("{} is not UTF-8 text; convert it to UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// The content is refused.
    #[error("cannot use {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, with the remedy.
        source: ConfigFileError,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConfDirError {
    let path = path.to_owned();
    move |source| ConfDirError::Io {
        action,
        path,
        source,
    }
}

impl ConfDir {
    /// The file that Flink `version` reads in `directory`: `flink-conf.yaml` up to 1.18, `config.yaml` from 2.0 on; 1.19 and
    /// 1.20 read `config.yaml` unless there is a `flink-conf.yaml` (`GlobalConfiguration.loadConfiguration`). Creates it
    /// empty when it is missing, because Flink does not start without.
    ///
    /// # Errors
    /// When the file can neither be found nor created.
    pub fn open(directory: &Path, version: FlinkVersion) -> Result<Self, ConfDirError> {
        let found = Self::find(directory, version)?;
        let file = &found.file;
        match OpenOptions::new().write(true).create_new(true).open(file) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // On a read-only mount an existing file is reported as such only when it is looked for.
            Err(_) if file.exists() => {}
            Err(error) => return Err(failed("create", file)(error)),
        }
        Ok(found)
    }

    /// As [`ConfDir::open`], but nothing is created: loading then fails when the file is missing.
    ///
    /// # Errors
    /// When the directory cannot be looked into.
    pub fn find(directory: &Path, version: FlinkVersion) -> Result<Self, ConfDirError> {
        let legacy = directory.join(ConfigFormat::FlinkConfYaml.file_name());
        let format = match (version.major, version.minor) {
            (0, _) | (1, ..=18) => ConfigFormat::FlinkConfYaml,
            (1, _) if legacy.try_exists().map_err(failed("look for", &legacy))? => {
                ConfigFormat::FlinkConfYaml
            }
            _ => ConfigFormat::ConfigYaml,
        };
        Ok(Self {
            file: directory.join(format.file_name()),
            format,
        })
    }

    /// The path of the file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The format of the file.
    #[must_use]
    pub fn format(&self) -> ConfigFormat {
        self.format
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, is no text, or is refused.
    pub fn load(&self) -> Result<ConfigFile, ConfDirError> {
        let bytes = fs::read(&self.file).map_err(failed("read", &self.file))?;
        let text =
            String::from_utf8(bytes).map_err(|_| ConfDirError::NotUtf8(self.file.clone()))?;
        ConfigFile::parse(self.format, &text).map_err(|source| ConfDirError::Content {
            path: self.file.clone(),
            source,
        })
    }

    /// Writes `config` so that a crash leaves either the old or the new file: into a temporary file in the same
    /// directory, flushed, then renamed. Mode and owner stay; a symbolic link stays and its target is replaced. Returns
    /// whether the file had to be written: not when it has this content already.
    ///
    /// # Errors
    /// When the directory cannot be written. Then the old file is still there.
    pub fn save(&self, config: &ConfigFile) -> Result<bool, ConfDirError> {
        let old = fs::read(&self.file).map_err(failed("read", &self.file))?;
        if old == config.text().as_bytes() {
            return Ok(false);
        }
        let target = fs::canonicalize(&self.file).map_err(failed("resolve", &self.file))?;
        let directory = target.parent().unwrap_or(Path::new("/"));
        let temporary = directory.join(format!(
            ".{}.drey-{}",
            self.format.file_name(),
            std::process::id()
        ));
        let written = write_like(&target, &temporary, config.text())
            .and_then(|()| fs::rename(&temporary, &target))
            .and_then(|()| File::open(directory)?.sync_all());
        if written.is_err() {
            // The error of the write is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(failed("write", &self.file))?;
        Ok(true)
    }
}

/// Writes `text` to `path` with mode and owner of `original`.
fn write_like(original: &Path, path: &Path, text: &str) -> io::Result<()> {
    let wanted = fs::metadata(original)?;
    // Private until it has its owner: the file may hold secrets.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let given = file.metadata()?;
    if (given.uid(), given.gid()) != (wanted.uid(), wanted.gid()) {
        std::os::unix::fs::fchown(&file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(wanted.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const fn version(major: u16, minor: u16) -> FlinkVersion {
        FlinkVersion {
            major,
            minor,
            patch: 0,
        }
    }

    fn io<T>(result: Result<T, ConfDirError>) -> io::Result<T> {
        result.map_err(io::Error::other)
    }

    #[test]
    fn the_file_is_the_one_that_the_flink_version_reads() -> io::Result<()> {
        for (files, (major, minor), expected) in [
            (&["config.yaml"][..], (1, 18), "flink-conf.yaml"),
            (
                &["config.yaml", "flink-conf.yaml"],
                (1, 19),
                "flink-conf.yaml",
            ),
            (&["config.yaml"], (1, 20), "config.yaml"),
            (&[], (1, 20), "config.yaml"),
            (&["flink-conf.yaml"], (1, 20), "flink-conf.yaml"),
            (&["flink-conf.yaml"], (2, 0), "config.yaml"),
            (&[], (1, 13), "flink-conf.yaml"),
        ] {
            let directory = tempfile::tempdir()?;
            for file in files {
                fs::write(directory.path().join(file), "")?;
            }
            let conf = io(ConfDir::open(directory.path(), version(major, minor)))?;
            assert_eq!(
                conf.file(),
                directory.path().join(expected),
                "{major}.{minor} {files:?}"
            );
            assert_eq!(io(conf.load())?.entries().len(), 0);
        }
        Ok(())
    }

    #[test]
    fn saving_keeps_the_mode_and_leaves_no_other_file() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("config.yaml");
        fs::write(&file, "a: 1\n")?;
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640))?;
        let conf = io(ConfDir::open(directory.path(), version(2, 3)))?;
        let mut config = io(conf.load())?;
        config.set("b", "2").map_err(io::Error::other)?;
        assert!(io(conf.save(&config))?);
        assert!(!io(conf.save(&config))?);
        assert_eq!(fs::read_to_string(&file)?, config.text());
        assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_linked_file_stays_a_link() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let elsewhere = tempfile::tempdir()?;
        let target = elsewhere.path().join("shared.yaml");
        fs::write(&target, "a: 1\n")?;
        std::os::unix::fs::symlink(&target, directory.path().join("config.yaml"))?;
        let conf = io(ConfDir::open(directory.path(), version(2, 0)))?;
        let mut config = io(conf.load())?;
        config.set("a", "2").map_err(io::Error::other)?;
        io(conf.save(&config))?;
        assert_eq!(fs::read_to_string(&target)?, "a: 2\n");
        assert!(conf.file().is_symlink());
        Ok(())
    }

    #[test]
    fn what_is_wrong_names_the_file_and_the_remedy() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let missing = directory.path().join("none");
        assert!(matches!(
            ConfDir::open(&missing, version(2, 0)),
            Err(ConfDirError::Io {
                action: "create",
                ..
            })
        ));
        let conf = io(ConfDir::open(directory.path(), version(2, 0)))?;
        fs::write(conf.file(), b"a: \xe9\n")?;
        assert!(matches!(conf.load(), Err(ConfDirError::NotUtf8(_))));
        fs::write(conf.file(), "a: 1\na: 2\n")?;
        assert!(matches!(conf.load(), Err(ConfDirError::Content { .. })));
        Ok(())
    }
}
