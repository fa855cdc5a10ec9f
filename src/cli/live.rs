//! The settings file, followed while Flink runs.

use std::ffi::OsString;

use tokio::sync::mpsc;

use crate::config::{Settings, SettingsArgs, load, settings_file};
use crate::supervisor::SettingsNews;
use crate::watched::Watched;

/// Where settings come from.
#[derive(Debug)]
pub(super) struct Origin {
    args: SettingsArgs,
    env: Vec<(OsString, OsString)>,
}

impl Origin {
    pub(super) fn new(args: &SettingsArgs, env: &[(OsString, OsString)]) -> Self {
        Self {
            args: args.clone(),
            env: env.to_vec(),
        }
    }

    /// What they say whenever their file changes; `None` without a file.
    pub(super) fn follow(self) -> Option<SettingsNews> {
        let file = settings_file(&self.args, self.env.iter().cloned())?;
        let (sender, news) = mpsc::channel(1);
        let mut watched = Watched::file(file);
        tokio::spawn(async move {
            loop {
                watched.changed().await;
                if sender.send(self.load()).await.is_err() {
                    return;
                }
            }
        });
        Some(news)
    }

    /// The first time as well: the file may have changed since the settings were read.
    fn load(&self) -> Result<Settings, String> {
        let loaded = load(&self.args, self.env.iter().cloned());
        let one_line = |text: String| text.lines().collect::<Vec<_>>().join("; ");
        loaded
            .map(|loaded| loaded.settings)
            .map_err(|errors| one_line(errors.to_string()))
    }
}
