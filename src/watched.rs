//! A directory that settings or Flink's configuration come from, watched.
//!
//! The kubelet replaces the files of a ConfigMap by turning one link (`..data`), which only a watch of the directory sees, and
//! not one of a file. What counts is what the files say: a touch is no change.

use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::warn;

use crate::changes::read_files;
use crate::domain::changes::Files;
use crate::telemetry::one_line;

/// What comes within this time is one change: an editor writes a file in several steps.
const TOGETHER: Duration = Duration::from_millis(250);

/// What is read when something has happened.
type Read = Box<dyn Fn() -> io::Result<Files> + Send>;

/// A watched directory.
pub(crate) struct Watched {
    directory: PathBuf,
    read: Read,
    /// Ends the watch when it is dropped.
    _watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    /// Something has happened that was not looked at yet.
    stirred: bool,
    /// What the files said last.
    pub(crate) files: Option<Arc<Files>>,
}

impl Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Watched {
    /// Watches all files of `directory` from now on.
    pub(crate) fn directory(directory: PathBuf) -> Self {
        let all = directory.clone();
        Self::new(directory, Box::new(move || read_files(&all)))
    }

    /// Watches one file: its directory, for a ConfigMap's file is a link, and editors replace files.
    pub(crate) fn file(file: PathBuf) -> Self {
        let path = file.clone();
        Self::of(&path, move || {
            let text = std::fs::read_to_string(&file)?;
            Ok(Files::from([(file.display().to_string(), text)]))
        })
    }

    /// Watches one file that is read in another way.
    pub(crate) fn of(file: &Path, read: impl Fn() -> io::Result<Files> + Send + 'static) -> Self {
        let parent = file.parent().filter(|parent| *parent != Path::new(""));
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        Self::new(directory, Box::new(read))
    }

    fn new(directory: PathBuf, read: Read) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| changes(event.kind)) {
                // One that is waited for stands for all of them.
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(&directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(|error| {
                let (error, directory) = (one_line(error, 200), directory.display());
                warn!(error, %directory, "Directory cannot be watched");
            })
            .ok();
        Self {
            directory,
            read,
            _watcher: watcher,
            events,
            stirred: true,
            files: None,
        }
    }

    /// Waits until the files say something else than before; the first time that is at once. Nothing is lost when it is not
    /// waited to the end.
    pub(crate) async fn changed(&mut self) {
        loop {
            if !self.stirred {
                match self.events.recv().await {
                    Some(()) => self.stirred = true,
                    None => std::future::pending().await,
                }
            }
            if self.files.is_some() {
                sleep(TOGETHER).await;
            }
            while self.events.try_recv().is_ok() {}
            self.stirred = false;
            match (self.read)() {
                Ok(files) if self.files.as_deref() != Some(&files) => {
                    self.files = Some(Arc::new(files));
                    return;
                }
                Ok(_) => {}
                // In the middle of the change; its end is an event as well.
                Err(error) => {
                    let (error, directory) = (one_line(&error, 200), self.directory.display());
                    warn!(error, %directory, "Directory cannot be read");
                }
            }
        }
    }
}

/// Reading the files is an event, too.
fn changes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    async fn says(mount: &mut Watched, text: &str) {
        loop {
            mount.changed().await;
            let files = mount.files.as_ref().expect("files");
            if files.get("config.yaml").is_some_and(|found| found == text) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_configmap_is_seen_to_change_again_and_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let version = |number: u32| {
            let name = format!("..{number}");
            fs::create_dir(root.join(&name)).expect("directory");
            fs::write(root.join(&name).join("config.yaml"), number.to_string()).expect("write");
            symlink(&name, root.join("..new")).expect("link");
            fs::rename(root.join("..new"), root.join("..data")).expect("swap");
        };
        version(1);
        symlink("..data/config.yaml", root.join("config.yaml")).expect("link");
        let mut mount = Watched::directory(root.to_owned());
        says(&mut mount, "1").await;
        for number in 2..5 {
            version(number);
            says(&mut mount, &number.to_string()).await;
        }
    }

    #[tokio::test]
    async fn a_touch_is_no_change() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.yaml");
        fs::write(&file, "a: 1").expect("write");
        let mut mount = Watched::directory(dir.path().to_owned());
        mount.changed().await;
        fs::write(&file, "a: 1").expect("write");
        let quiet = tokio::time::timeout(TOGETHER * 3, mount.changed()).await;
        assert!(quiet.is_err(), "the same again");
        fs::write(&file, "a: 2").expect("write");
        says(&mut mount, "a: 2").await;
    }

    #[tokio::test]
    async fn one_file_is_seen_to_be_replaced_and_its_neighbours_are_nothing_to_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("drey.yaml"), "a").expect("write");
        let mut watched = Watched::file(path("drey.yaml"));
        watched.changed().await;
        fs::write(path("other"), "b").expect("write");
        let quiet = tokio::time::timeout(TOGETHER * 3, watched.changed()).await;
        assert!(quiet.is_err(), "another file");
        fs::write(path("new"), "b").expect("write");
        fs::rename(path("new"), path("drey.yaml")).expect("rename");
        watched.changed().await;
        let files = watched.files.expect("a file");
        assert_eq!(files.values().collect::<Vec<_>>(), ["b"]);
    }
}
