//! The directory that Flink's configuration comes from, watched while Flink runs.
//!
//! The kubelet replaces the files of a ConfigMap by turning one link (`..data`), which only a watch of the directory sees, and
//! not one of a file. What counts is what the files say: a touch is no change.

use std::path::PathBuf;
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

/// A watched directory.
#[derive(Debug)]
pub(super) struct Mount {
    directory: PathBuf,
    /// Ends the watch when it is dropped.
    _watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    /// Something has happened that was not looked at yet.
    stirred: bool,
    /// What the files said last.
    pub(super) files: Option<Arc<Files>>,
}

impl Mount {
    /// Watches `directory` from now on.
    pub(super) fn new(directory: PathBuf) -> Self {
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
                warn!(error, %directory, "Flink's configuration directory cannot be watched");
            })
            .ok();
        Self {
            directory,
            _watcher: watcher,
            events,
            stirred: true,
            files: None,
        }
    }

    /// Waits until the files say something else than before; the first time that is at once. Nothing is lost when it is not
    /// waited to the end.
    pub(super) async fn changed(&mut self) {
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
            match read_files(&self.directory) {
                Ok(files) if self.files.as_deref() != Some(&files) => {
                    self.files = Some(Arc::new(files));
                    return;
                }
                Ok(_) => {}
                // In the middle of the change; its end is an event as well.
                Err(error) => {
                    let (error, directory) = (one_line(&error, 200), self.directory.display());
                    warn!(error, %directory, "Flink's configuration directory cannot be read");
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

    async fn says(mount: &mut Mount, text: &str) {
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
        let mut mount = Mount::new(root.to_owned());
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
        let mut mount = Mount::new(dir.path().to_owned());
        mount.changed().await;
        fs::write(&file, "a: 1").expect("write");
        let quiet = tokio::time::timeout(TOGETHER * 3, mount.changed()).await;
        assert!(quiet.is_err(), "the same again");
        fs::write(&file, "a: 2").expect("write");
        says(&mut mount, "a: 2").await;
    }
}
