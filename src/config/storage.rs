//! Settings as the storage takes them.
use url::Url;

use super::table::Settings;
use crate::storage::StorageSettings;

impl Settings {
    /// What is set about storage, and nothing else: the environment and Flink's configuration go
    /// [under it](StorageSettings::over).
    #[must_use]
    pub fn storage(&self) -> StorageSettings {
        let mut storage = StorageSettings::default();
        storage.s3.endpoint = endpoint(self.s3_endpoint.as_ref());
        storage.s3.region.clone_from(&self.s3_region);
        storage.s3.path_style = self.s3_path_style;
        storage.gcs.endpoint = endpoint(self.gcs_endpoint.as_ref());
        storage.azure.endpoint = endpoint(self.azure_endpoint.as_ref());
        storage.ca_file.clone_from(&self.storage_ca);
        storage.timeout = Some(self.storage_timeout);
        storage
    }
}

/// A [`Url`] without a path ends with a slash, after which object_store would put another one.
fn endpoint(url: Option<&Url>) -> Option<String> {
    url.map(|url| url.as_str().trim_end_matches('/').to_owned())
}
