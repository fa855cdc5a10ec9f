//! What Flink is started with and may change while it runs: the directory of its configuration, and the file with the job's
//! arguments.

use std::path::PathBuf;
use std::sync::Arc;

use super::Configuration;
use crate::changes::read_arguments;
use crate::domain::changes::Files;
use crate::watched::Watched;

/// Both of them, watched.
#[derive(Debug)]
pub(super) struct Mount {
    configuration: Watched,
    arguments: Option<Watched>,
    /// What stands there; `None` until it was read.
    pub(super) files: Option<Arc<Files>>,
}

impl Mount {
    /// Watches them from now on.
    pub(super) fn new(configuration: &Configuration) -> Self {
        let arguments = configuration.arguments_file();
        Self {
            configuration: Watched::directory(configuration.directory().to_owned()),
            arguments: arguments.map(|file| watched_arguments(file.to_owned())),
            files: None,
        }
    }

    /// Waits until they say something else than before; the first time that is at once. Nothing is lost when it is not waited
    /// to the end.
    pub(super) async fn changed(&mut self) {
        loop {
            match &mut self.arguments {
                Some(arguments) => tokio::select! {
                    () = self.configuration.changed() => {}
                    () = arguments.changed() => {}
                },
                None => self.configuration.changed().await,
            }
            if let Some(files) = self.all() {
                self.files = Some(Arc::new(files));
                return;
            }
        }
    }

    /// `None` until both have been read.
    fn all(&self) -> Option<Files> {
        let mut files = Files::clone(self.configuration.files.as_deref()?);
        if let Some(arguments) = &self.arguments {
            files.extend(Files::clone(arguments.files.as_deref()?));
        }
        Some(files)
    }
}

/// A file that cannot be read says so, so that its absence is a change as well.
fn watched_arguments(file: PathBuf) -> Watched {
    let read = file.clone();
    Watched::of(&file, move || Ok(read_arguments(&read)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::changes::{ARGUMENTS, NO_ARGUMENTS};

    #[tokio::test]
    async fn arguments_come_go_and_change_beside_the_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let (conf, file) = (dir.path().join("conf"), dir.path().join("arguments"));
        fs::create_dir(&conf).expect("directory");
        fs::write(conf.join("config.yaml"), "a: 1\n").expect("write");
        let mut mount = Mount {
            configuration: Watched::directory(conf.clone()),
            arguments: Some(watched_arguments(file.clone())),
            files: None,
        };
        let said = async |mount: &mut Mount, key: &str, text: &str| loop {
            mount.changed().await;
            let files = mount.files.clone().expect("files");
            if files.get(key).is_some_and(|found| found.contains(text)) {
                return files.len();
            }
        };
        assert_eq!(said(&mut mount, NO_ARGUMENTS, "No such file").await, 2);
        fs::write(&file, "--rate\n").expect("write");
        assert_eq!(said(&mut mount, ARGUMENTS, "--rate").await, 2);
        fs::write(conf.join("config.yaml"), "a: 2\n").expect("write");
        assert_eq!(said(&mut mount, "config.yaml", "a: 2").await, 2);
        fs::remove_file(&file).expect("removed");
        said(&mut mount, NO_ARGUMENTS, "No such file").await;
    }
}
