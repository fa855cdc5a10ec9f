//! In a pod: the ConfigMaps that Flink's configuration and the job's arguments are mounted from. They are watched, since the
//! kubelet takes up to a minute to bring a change of theirs into the directories.

use std::path::Path;

use jiff::Timestamp;
use tracing::info;

use crate::control::Prepare;
use crate::domain::changes::{Files, OnChange};
use crate::kubernetes::pods::ConfigMapMount;
use crate::supervisor::Supervisor;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Part {
    /// Flink's configuration.
    Configuration,
    /// The job's arguments.
    Arguments,
}

/// One of these ConfigMaps.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) object: Object,
    /// It cannot be watched.
    blind: bool,
}

/// What is known of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Object {
    /// It is not watched.
    #[default]
    Unwatched,
    /// It has not been seen yet.
    Awaited,
    /// What stands there.
    Seen(Files),
}

impl Supervisor {
    /// The ConfigMap that is mounted at this directory of Flink's container.
    fn map_at(&self, directory: &Path) -> Option<&ConfigMapMount> {
        let pod = self.pod.as_ref()?;
        let mounts = &pod.me.as_ref()?.config_maps;
        mounts
            .iter()
            .find(|mount| mount.container == pod.container() && Path::new(&mount.path) == directory)
    }

    /// The ConfigMap that is mounted where Flink's configuration is.
    pub(super) fn configuration_map(&self, directory: Option<&Path>) -> Option<&ConfigMapMount> {
        self.map_at(directory.or(self.changes.directory.as_deref())?)
    }

    /// The ConfigMap that the file with the job's arguments is mounted from.
    pub(super) fn arguments_map(&self) -> Option<&ConfigMapMount> {
        self.map_at(self.changes.arguments_file.as_deref()?.parent()?)
    }

    pub(super) fn watch_configuration(&mut self, flink: &Prepare) {
        self.changes.directory = Some(flink.directory.clone());
        self.changes.arguments_file = flink.arguments_file.clone();
        self.watch_maps();
    }

    /// Another policy: what was told of is judged anew.
    pub(in crate::supervisor) fn policy_of_changes_is_new(&mut self) {
        self.changes.told = None;
        if self.changes.running.is_some() {
            self.watch_maps();
        }
    }

    fn watch_maps(&mut self) {
        if self.settings.on_config_change == OnChange::Ignore {
            // Nothing is done in a hurry, so no right on them is asked for.
            return;
        }
        self.watch_map(Part::Configuration, self.configuration_map(None).cloned());
        self.watch_map(Part::Arguments, self.arguments_map().cloned());
    }

    fn watch_map(&mut self, part: Part, mount: Option<ConfigMapMount>) {
        let Some((mount, pod)) = mount.zip(self.pod.as_ref()) else {
            return;
        };
        let source = self.changes.source(part);
        if source.object == Object::Unwatched && !source.blind {
            source.object = Object::Awaited;
            pod.watch_configuration(part, mount);
        }
    }

    /// The watch has shown what stands in the ConfigMap; `None`: it is gone.
    pub(in crate::supervisor) fn see_configuration(&mut self, part: Part, files: Option<Files>) {
        let source = self.changes.source(part);
        match files {
            Some(files) => {
                let again = matches!(source.object, Object::Seen(_));
                source.object = Object::Seen(files);
                if again {
                    self.changes.seen_at = Some(Timestamp::now());
                }
            }
            // One that is made again, as some tools do: what stood there stays until then.
            None if source.object == Object::Awaited => source.object = Object::Unwatched,
            None => {}
        }
    }

    /// The ConfigMap cannot be watched: the directory has to do.
    pub(in crate::supervisor) fn cannot_see_configuration(&mut self, part: Part, why: &str) {
        let what = match part {
            Part::Configuration => "Flink's configuration",
            Part::Arguments => "the job's arguments",
        };
        info!(
            why,
            "The ConfigMap with {what} cannot be watched: its changes are seen when the kubelet brings them"
        );
        let source = self.changes.source(part);
        source.blind = true;
        if source.object == Object::Awaited {
            source.object = Object::Unwatched;
        }
    }
}
