//! The file with the job's arguments: part of what stands there, and where no copy of it may be kept.

use tracing::info;

use super::Running;
use super::objects::Object;
use crate::domain::changes::{ARGUMENTS, Files, NO_ARGUMENTS};
use crate::kubernetes::events::Event;
use crate::supervisor::Supervisor;

impl Supervisor {
    /// What stands there now, as far as it may be kept; `None` while nobody can say.
    pub(super) fn wanted_files(&self) -> Option<Files> {
        let changes = &self.changes;
        if changes.configuration.object == Object::Awaited
            || changes.arguments.object == Object::Awaited
        {
            return None;
        }
        changes
            .mounted
            .as_ref()
            .map(|files| self.newest_files(files))
    }

    /// What stands there now, for who has read `files` in the directories, as far as it may be kept.
    pub(super) fn newest_files(&self, files: &Files) -> Files {
        let mut newest = match &self.changes.configuration.object {
            Object::Seen(seen) => seen.clone(),
            Object::Unwatched | Object::Awaited => files.clone(),
        };
        for name in [ARGUMENTS, NO_ARGUMENTS] {
            if let Some(text) = files.get(name) {
                newest.insert(name.to_owned(), text.clone());
            }
        }
        if let Some(text) = self.seen_arguments() {
            newest.remove(NO_ARGUMENTS);
            newest.insert(ARGUMENTS.to_owned(), text.clone());
        }
        self.without_secrets(newest)
    }

    /// What stands in the ConfigMap. Where it has no such key any more, the kubelet tells.
    fn seen_arguments(&self) -> Option<&String> {
        let Object::Seen(files) = &self.changes.arguments.object else {
            return None;
        };
        let file = self.changes.arguments_file.as_deref()?;
        files.get(file.file_name()?.to_str()?)
    }

    /// Without what must not be copied into the pointer's ConfigMap.
    pub(super) fn without_secrets(&self, mut files: Files) -> Files {
        if self.arguments_are_secret() {
            files.remove(ARGUMENTS);
        }
        files
    }

    /// In a pod: they come from anything but a ConfigMap.
    fn arguments_are_secret(&self) -> bool {
        let seen = self.pod.as_ref().is_some_and(|pod| pod.me.is_some());
        seen && self.changes.arguments_file.is_some() && self.arguments_map().is_none()
    }

    /// What runs, without the arguments where they are a secret. A change of theirs is told of.
    pub(super) fn leave_secret_arguments_out(&mut self, running: &mut Running) {
        if !self.arguments_are_secret() {
            return;
        }
        if let Some(text) = running.version.files.remove(ARGUMENTS) {
            running.secret = Some(text);
            running.content.arguments = Vec::new();
            running.version.digest = running.content.digest();
        }
        let mounted = self.changes.mounted.as_ref();
        let now = mounted.and_then(|files| files.get(ARGUMENTS)).cloned();
        if now.is_none() || running.secret.is_none() || now == running.secret {
            return;
        }
        // Told once.
        running.secret = now;
        info!("The job's arguments have changed, and are left for the next start");
        let text = "The job's arguments have changed and are not in effect: the next start takes them. They are followed only \
                    where their file is of a ConfigMap that is mounted as a whole";
        self.tell(Event::normal("ConfigChanged", text));
    }
}
