//! Sees that another JobManager pod has taken the job over, so that the TaskManager is started again beside it.
//!
//! Without high availability a TaskManager that stays notices only by `heartbeat.timeout` (50 s) that its JobManager's pod
//! is gone: at that address nobody answers any more, not even with a refusal. The lock tells it first: it changes hands
//! just before the new JobManager is started, so the two JVMs start side by side. Tasks of the last run end with that, if
//! there are any left.

use std::future::pending;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tracing::warn;

use crate::config::Settings;
use crate::domain::hold::followed;
use crate::domain::pointer_map::Document;
use crate::kubernetes::{Kube, PointerMap, PointerMapError};
use crate::telemetry::one_line;

/// The watch of the pointer's ConfigMap: one object, one request in five minutes while nothing happens.
pub(super) struct Follow {
    documents: Option<BoxStream<'static, Result<Option<Document>, PointerMapError>>>,
    /// The UID of the JobManager's pod, as it was seen last.
    known: Option<String>,
}

impl Follow {
    /// Without Kubernetes, and where the settings say so, nobody is followed.
    pub(super) async fn new(settings: &Settings) -> Self {
        let documents = if settings.follow_job_manager && settings.pod_name.is_some() {
            documents(settings).await
        } else {
            None
        };
        Self {
            documents,
            known: None,
        }
    }

    /// Waits until another pod has the job; its name.
    pub(super) async fn successor(&mut self) -> String {
        loop {
            let Some(documents) = &mut self.documents else {
                return pending().await;
            };
            match documents.next().await {
                Some(Ok(Some(document))) => {
                    if let Some(name) = self.changed(&document) {
                        return name;
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
        let pod = followed(document)?;
        let before = self.known.replace(pod.uid.clone());
        before
            .is_some_and(|before| before != pod.uid)
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
