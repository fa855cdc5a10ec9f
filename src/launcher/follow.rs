//! Sees that another JobManager has taken the job over, so that the TaskManager is started again beside it.
//!
//! Without high availability a TaskManager that stays notices only by `heartbeat.timeout` (50 s) that its JobManager is gone,
//! whether the next one is in another pod or in the same. The pointer tells it first: a run is recorded just before its
//! JobManager is started, so the two JVMs start side by side. Tasks of the last run end with that, if there are any left.

use std::future::pending;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tracing::warn;

use crate::config::Settings;
use crate::domain::changes::{Files, Record};
use crate::domain::hold::followed;
use crate::domain::pointer::RunId;
use crate::domain::pointer_map::Document;
use crate::kubernetes::{Kube, PointerMap, PointerMapError};
use crate::telemetry::one_line;

/// The watch of the pointer's ConfigMap: one object, one request in five minutes while nothing happens.
pub(super) struct Follow {
    documents: Option<BoxStream<'static, Result<Option<Document>, PointerMapError>>>,
    /// The run that was seen last.
    known: Option<RunId>,
    configuration: Followed,
}

/// A changed configuration is followed only from where the JobManager had the same as the TaskManager was given: it may
/// have one of its own.
#[derive(Debug, Default)]
struct Followed {
    /// Names what the TaskManager runs with.
    own: Option<String>,
    /// The JobManager had the same once.
    same: bool,
}

/// Why a TaskManager is started again.
pub(super) enum Restart {
    /// Another JobManager, in the pod of this name, has the job.
    Successor(String),
    /// The JobManager is started with another configuration.
    Configuration(Files),
}

impl Followed {
    fn changed(&mut self, document: &Document) -> Option<Files> {
        let record: Record = serde_json::from_str(document.configuration.as_ref()?).ok()?;
        let (name, files) = record.for_task_managers()?;
        let own = self.own.as_mut()?;
        if own == name {
            self.same = true;
            return None;
        }
        if !self.same {
            return None;
        }
        name.clone_into(own);
        Some(files.clone())
    }
}

impl Follow {
    /// Without Kubernetes, and where the settings say so, nobody is followed.
    /// `own` names what of the TaskManager's configuration concerns it.
    pub(super) async fn new(settings: &Settings, own: Option<String>) -> Self {
        let documents = if settings.follow_job_manager && settings.pod_name.is_some() {
            documents(settings).await
        } else {
            None
        };
        Self {
            documents,
            known: None,
            configuration: Followed { own, same: false },
        }
    }

    /// Waits until another JobManager has the job, or has another configuration.
    pub(super) async fn restart(&mut self) -> Restart {
        loop {
            let Some(documents) = &mut self.documents else {
                return pending().await;
            };
            match documents.next().await {
                Some(Ok(Some(document))) => {
                    if let Some(files) = self.configuration.changed(&document) {
                        return Restart::Configuration(files);
                    }
                    if let Some(name) = self.changed(&document) {
                        return Restart::Successor(name);
                    }
                }
                Some(Ok(None)) => {}
                // Told once for as long as it lasts. Flink notices by itself, later.
                Some(Err(error)) => warn!(
                    error = one_line(&error, 300),
                    "TaskManager cannot see who runs its JobManager"
                ),
                None => self.documents = None,
            }
        }
    }

    fn changed(&mut self, document: &Document) -> Option<String> {
        let (pod, run) = followed(document)?;
        let before = self.known.replace(run.clone());
        before
            .is_some_and(|before| before != *run)
            .then(|| pod.name.clone())
    }
}

async fn documents(
    settings: &Settings,
) -> Option<BoxStream<'static, Result<Option<Document>, PointerMapError>>> {
    match Kube::connect(settings.pod_namespace.as_deref()).await {
        Ok(kube) => Some(PointerMap::new(&kube, &settings.cluster_id).watch().boxed()),
        Err(error) => {
            let error = one_line(&error, 300);
            warn!(error, "TaskManager cannot ask Kubernetes");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::changes::Version;

    fn document(name: &str, text: &str) -> Document {
        let record = Record {
            task_managers: Some(name.to_owned()),
            good: Some(Version {
                digest: String::new(),
                files: Files::from([("config.yaml".to_owned(), text.to_owned())]),
            }),
            ..Record::default()
        };
        Document {
            configuration: serde_json::to_string(&record).ok(),
            ..Document::default()
        }
    }

    #[test]
    fn a_taskmanager_follows_the_configuration_that_it_once_had_in_common() {
        let mut followed = Followed {
            own: Some("a".to_owned()),
            same: false,
        };
        assert_eq!(
            followed.changed(&document("b", "2")),
            None,
            "one of its own"
        );
        assert_eq!(followed.changed(&document("a", "1")), None);
        let files = followed.changed(&document("b", "2")).expect("changed");
        assert_eq!(files["config.yaml"], "2");
        assert_eq!(followed.changed(&document("b", "2")), None, "once");
        assert!(followed.changed(&document("a", "1")).is_some(), "and back");
        assert_eq!(Followed::default().changed(&document("a", "1")), None);
    }
}
