//! The copy of Flink's configuration that one start has, and what is put into it. The user's own files stay as they are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use super::{Configuration, LaunchError};
use crate::control::StartOrder;
use crate::domain::changes::Files;
use crate::flink::config_file::{ConfDir, ConfigFile, ConfigFormat};
use crate::launcher::image::{Image, copy_files};

impl Configuration {
    /// A fresh copy of the configuration, or of the files that were ordered instead, and where it is.
    pub(super) fn seed(
        &self,
        state_dir: &Path,
        ordered: Option<&Files>,
    ) -> Result<(ConfDir, PathBuf), LaunchError> {
        let copy = state_dir.join("conf");
        let failed = |source| LaunchError::Copy {
            path: copy.clone(),
            source,
        };
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if let Some(image) = &self.image {
            self.image_files(image, &copy, ordered).map_err(failed)?;
        }
        match ordered {
            Some(files) => write_files(files, &copy).map_err(failed)?,
            None => copy_files(&self.directory, &copy, |_| true).map_err(|source| {
                let path = self.directory.clone();
                LaunchError::Copy { path, source }
            })?,
        }
        let copy = std::path::absolute(&copy).map_err(failed)?;
        let directory = ConfDir::open(&copy, self.version)?;
        if let Some(image) = &self.image {
            let filled = image.fill(&directory.load()?).map_err(|(key, source)| {
                let file = directory.file().to_owned();
                LaunchError::Key { key, file, source }
            })?;
            directory.save(&filled)?;
        }
        Ok((directory, copy))
    }

    /// What a mounted directory of the user lacks, such as the configuration of the logs. Of two formats of Flink's
    /// configuration the old one would win, so the image's does not come beside the user's.
    fn image_files(&self, image: &Image, copy: &Path, ordered: Option<&Files>) -> io::Result<()> {
        let formats = [ConfigFormat::FlinkConfYaml, ConfigFormat::ConfigYaml];
        let flink = |name: &str| formats.iter().any(|format| format.file_name() == name);
        let given = formats.iter().any(|format| match ordered {
            Some(files) => files.contains_key(format.file_name()),
            None => self.directory.join(format.file_name()).exists(),
        });
        match image.conf() {
            conf if conf.is_dir() => copy_files(&conf, copy, |name| !(given && flink(name))),
            _ => Ok(()),
        }
    }

    pub(super) fn shadow(
        &self,
        command: &mut process::Command,
        directory: &ConfDir,
        copy: &Path,
    ) -> Result<(), LaunchError> {
        let (Some(image), Some(state_dir)) = (&self.image, copy.parent()) else {
            return Ok(());
        };
        image
            .shadow(state_dir, copy)
            .map_err(|source| LaunchError::Shadow {
                path: state_dir.join("home"),
                source,
            })?;
        let file = directory.load()?;
        image.environment(command, state_dir, file.entries());
        Ok(())
    }
}

/// Readable for their owner alone: they may hold secrets.
fn write_files(files: &Files, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in files {
        // A name is one of a file in a directory, or a key of a ConfigMap: neither has a slash.
        if name.contains('/') || name.starts_with('.') {
            continue;
        }
        let path = directory.join(name);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Puts the keys of `order` into a configuration directory, and leaves everything else in it as it was. Returns whether
/// anything changed.
///
/// # Errors
/// When a key cannot be set; the file is then as it was.
pub fn apply(directory: &ConfDir, order: &StartOrder) -> Result<bool, LaunchError> {
    edit(directory, &order.remove, &order.set)
}

pub(super) fn edit(
    directory: &ConfDir,
    remove: &[String],
    set: &BTreeMap<String, String>,
) -> Result<bool, LaunchError> {
    let mut file: ConfigFile = directory.load()?;
    let failed = |key: &str| {
        let (key, file) = (key.to_owned(), directory.file().to_owned());
        move |source| LaunchError::Key { key, file, source }
    };
    for key in remove {
        file.remove(key).map_err(failed(key))?;
    }
    for (key, value) in set {
        file.set(key, value).map_err(failed(key))?;
    }
    Ok(directory.save(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flink::version::FlinkVersion;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_copy_follows_the_links_of_a_mounted_configmap_and_forgets_what_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mount, copy) = (dir.path().join("mount"), dir.path().join("conf"));
        fs::create_dir_all(mount.join("..2026")).expect("directories");
        fs::write(mount.join("..2026/config.yaml"), "a: 1\n").expect("write");
        symlink("..2026", mount.join("..data")).expect("link");
        symlink("..data/config.yaml", mount.join("config.yaml")).expect("link");
        fs::create_dir_all(&copy).expect("directory");
        fs::write(copy.join("old.properties"), "").expect("write");

        let configuration = Configuration {
            directory: mount,
            version: FlinkVersion {
                major: 2,
                minor: 3,
                patch: 0,
            },
            image: None,
            metrics: None,
            arguments: None,
        };
        configuration.seed(dir.path(), None).expect("copied");

        let names: Vec<_> = fs::read_dir(&copy)
            .expect("list")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["config.yaml"]);
        assert_eq!(
            fs::read_to_string(copy.join("config.yaml")).expect("read"),
            "a: 1\n"
        );
        assert!(
            !fs::symlink_metadata(copy.join("config.yaml"))
                .expect("file")
                .is_symlink()
        );
    }
}
