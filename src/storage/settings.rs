//! How to reach object storage: endpoints, regions and credentials, from three sources.
//!
//! Drey's own settings win over the environment, and that over Flink's configuration, which is the default, because what
//! Flink can write with, Drey can read with. See [`StorageSettings::over`]. A key pair in any of them wins over the
//! identities that a platform puts into every pod (web identity, container credentials, instance metadata), in the order
//! that S3A and Presto have, too. Secrets show in no `Debug` output and in no error.

mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything [`Storage`](super::Storage) needs to know. The default reaches local files, and clouds by their metadata
/// service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageSettings {
    /// `s3:`, `s3a:` and `s3p:`.
    pub s3: S3Settings,
    /// `gs:`.
    pub gcs: GcsSettings,
    /// `abfs:`, `abfss:`, `wasb:` and `wasbs:`.
    pub azure: AzureSettings,
    /// PEM file of further certificate authorities, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest time of one operation; [`DEFAULT_TIMEOUT`] unless set.
    pub timeout: Option<Duration>,
    /// Largest `_metadata` that is read, in bytes; [`DEFAULT_METADATA_LIMIT`] unless set.
    pub metadata_limit: Option<u64>,
}

/// Longest time of one operation on a file system or object store, listings included.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest `_metadata` that is read, in bytes: it is held in memory.
pub const DEFAULT_METADATA_LIMIT: u64 = 256 << 20;

/// Amazon S3 and what speaks its protocol. `~/.aws` profiles are not read: export their keys to `AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY` (`aws configure export-credentials --format env`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// URL of the server; Amazon's unless set. `http://` sends requests in the clear.
    pub endpoint: Option<String>,
    /// Region that requests are signed for; `us-east-1` unless set or part of the endpoint.
    pub region: Option<String>,
    /// Whether the bucket is in the path (`https://HOST/BUCKET`, unless set) or in the host (`https://BUCKET.HOST`).
    pub path_style: Option<bool>,
    /// Do not sign requests.
    pub anonymous: Option<bool>,
    /// A fixed key pair.
    pub keys: Option<S3Keys>,
    /// Further `AWS_…` variables that object_store knows, by lower-case name: roles, container credentials, encryption.
    pub(super) ambient: BTreeMap<String, Secret>,
}

/// An access key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Keys {
    /// Name of the key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
}

/// Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsSettings {
    /// URL of the server; Google's unless set.
    pub endpoint: Option<String>,
    /// JSON file of a service account or of application default credentials.
    pub credentials_file: Option<PathBuf>,
    /// Do not authenticate.
    pub anonymous: Option<bool>,
    /// Further `GOOGLE_…` variables that object_store knows, by lower-case name.
    pub(super) ambient: BTreeMap<String, Secret>,
}

/// Azure Blob Storage, through its blob endpoint also for `abfs:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureSettings {
    /// URL of the blob service; `https://ACCOUNT.blob.core.windows.net` unless set. An emulator's ends with the account:
    /// `http://127.0.0.1:10000/devstoreaccount1`.
    pub endpoint: Option<String>,
    /// Key of each storage account.
    pub account_keys: BTreeMap<String, Secret>,
    /// Key of whichever account is asked for and has none in `account_keys`.
    pub account_key: Option<Secret>,
    /// Further `AZURE_…` variables that object_store knows, by lower-case name: SAS, client secret, workload identity.
    pub(super) ambient: BTreeMap<String, Secret>,
}

impl StorageSettings {
    /// These settings, with `lower` for whatever they leave open. A key pair is taken whole, never half from each.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            s3: self.s3.over(lower.s3),
            gcs: self.gcs.over(lower.gcs),
            azure: self.azure.over(lower.azure),
            ca_file: self.ca_file.or(lower.ca_file),
            timeout: self.timeout.or(lower.timeout),
            metadata_limit: self.metadata_limit.or(lower.metadata_limit),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    pub(super) fn metadata_limit(&self) -> u64 {
        self.metadata_limit.unwrap_or(DEFAULT_METADATA_LIMIT)
    }
}

impl S3Settings {
    fn over(self, lower: Self) -> Self {
        Self {
            endpoint: self.endpoint.or(lower.endpoint),
            region: self.region.or(lower.region),
            path_style: self.path_style.or(lower.path_style),
            anonymous: self.anonymous.or(lower.anonymous),
            keys: self.keys.or(lower.keys),
            ambient: over(self.ambient, lower.ambient),
        }
    }
}

impl GcsSettings {
    fn over(self, lower: Self) -> Self {
        Self {
            endpoint: self.endpoint.or(lower.endpoint),
            credentials_file: self.credentials_file.or(lower.credentials_file),
            anonymous: self.anonymous.or(lower.anonymous),
            ambient: over(self.ambient, lower.ambient),
        }
    }
}

impl AzureSettings {
    fn over(self, lower: Self) -> Self {
        Self {
            endpoint: self.endpoint.or(lower.endpoint),
            account_keys: over(self.account_keys, lower.account_keys),
            account_key: self.account_key.or(lower.account_key),
            ambient: over(self.ambient, lower.ambient),
        }
    }
}

fn over(
    upper: BTreeMap<String, Secret>,
    mut lower: BTreeMap<String, Secret>,
) -> BTreeMap<String, Secret> {
    lower.extend(upper);
    lower
}

#[cfg(test)]
mod tests;
