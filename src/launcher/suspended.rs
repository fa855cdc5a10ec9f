//! A TaskManager whose job an annotation holds has no JobManager, and Flink ends it after `taskmanager.registration.timeout`. Were
//! its container to end as well, the kubelet would start it again and again with longer and longer pauses, and the job would wait
//! for the last one of them when it resumes.

use futures_util::StreamExt;
use tracing::info;

use crate::config::Settings;
use crate::kubernetes::{Document, Kube, PointerMap};

/// Waits while the job is held; whether it was, and resumes now.
pub(super) async fn until_resumed(settings: &Settings) -> bool {
    if settings.pod_name.is_none() {
        return false;
    }
    let Ok(kube) = Kube::connect(settings.pod_namespace.as_deref()).await else {
        return false;
    };
    let map = PointerMap::new(&kube, &settings.cluster_id);
    let held = |document: Option<Document>| document.is_some_and(|it| it.suspended);
    if !map.load().await.is_ok_and(held) {
        return false;
    }
    info!("TaskManager has ended, and is started again when its job is suspended no more");
    let mut watch = map.watch();
    while let Some(seen) = watch.next().await {
        if seen.is_ok_and(|document| !held(document)) {
            info!("The job is suspended no more");
            return true;
        }
    }
    false
}
