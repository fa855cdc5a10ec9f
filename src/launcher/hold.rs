//! Holds a TaskManager that was told to go.

use jiff::Timestamp;

use crate::config::Settings;

/// Waits until the TaskManager may go; why it may.
pub(super) async fn until_free(settings: &Settings, _told_at: Timestamp) -> String {
    let Some(_pod) = &settings.pod_name else {
        return "there is no Kubernetes to ask who needs it".to_owned();
    };
    String::new()
}
