//! Settings from the environment and from Flink's own configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;

use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use super::{AzureSettings, GcsSettings, S3Keys, S3Settings, Secret, StorageSettings};

impl StorageSettings {
    /// The usual variables of the three clouds: `AWS_…` (keys, region, `AWS_ENDPOINT_URL`, web identity, container
    /// credentials), `GOOGLE_…` (`GOOGLE_APPLICATION_CREDENTIALS`) and `STORAGE_EMULATOR_HOST`, `AZURE_…` (account key,
    /// client secret, workload identity).
    ///
    /// # Example
    /// ```
    /// # use drey::storage::StorageSettings;
    /// let settings = StorageSettings::from_env(std::env::vars_os());
    /// ```
    ///
    /// Variables that are not UTF-8 are ignored; `std::env::vars` would panic at the first of them.
    pub fn from_env<N: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let text = |(name, value): (N, V)| {
            let (name, value) = (name.into().into_string(), value.into().into_string());
            Some((name.ok()?.to_ascii_lowercase(), value.ok()?))
        };
        let mut vars: BTreeMap<String, String> = variables
            .into_iter()
            .filter_map(text)
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            s3: s3_from_env(&mut vars),
            gcs: gcs_from_env(&mut vars),
            azure: azure_from_env(&mut vars),
            ..Self::default()
        }
    }

    /// What Flink's file system plugins read from Flink's configuration: `s3.`, `s3a.`, `fs.s3a.` and `presto.s3.` keys
    /// (`S3FileSystemFactory` of flink-s3-fs-hadoop, -presto and -native), `gs.` and `fs.gs.` keys
    /// (`GSFileSystemFactory`), and `fs.azure.account.key.ACCOUNT.…` (`AzureBlobStorageFSFactory`).
    ///
    /// `configuration` has flat keys, as Flink's `/jobmanager/config` prints them. Values that Flink hides there
    /// (`******`) are ignored: give the configuration file's.
    pub fn from_flink(configuration: &BTreeMap<String, String>) -> Self {
        let known: Keys = configuration
            .iter()
            .map(|(key, value)| (key.as_str(), value.trim()))
            .filter(|(_, value)| !value.is_empty() && *value != FLINK_HIDDEN)
            .collect();
        Self {
            s3: s3_from_flink(&known),
            gcs: gcs_from_flink(&known),
            azure: azure_from_flink(&known),
            ..Self::default()
        }
    }
}

type Keys<'a> = BTreeMap<&'a str, &'a str>;

/// `GlobalConfiguration.HIDDEN_CONTENT`.
const FLINK_HIDDEN: &str = "******";

/// In the order in which a prefix wins over the next.
const S3_PREFIXES: [&str; 4] = ["s3.", "s3a.", "fs.s3a.", "presto.s3."];

fn s3_from_env(vars: &mut BTreeMap<String, String>) -> S3Settings {
    let mut take = |names: &[&str]| names.iter().find_map(|name| vars.remove(*name));
    let keys = match (
        take(&["aws_access_key_id"]),
        take(&["aws_secret_access_key"]),
    ) {
        (Some(access_key), Some(secret_key)) => Some(S3Keys {
            access_key,
            secret_key: Secret::new(secret_key),
            session_token: take(&["aws_session_token"]).map(Secret::new),
        }),
        _ => None,
    };
    S3Settings {
        keys,
        endpoint: take(&["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"]),
        region: take(&["aws_region", "aws_default_region"]),
        path_style: take(&["aws_virtual_hosted_style_request"])
            .and_then(|v| flag(&v))
            .map(|hosted| !hosted),
        anonymous: take(&["aws_skip_signature"]).and_then(|v| flag(&v)),
        ambient: ambient(vars, "aws_", |name| {
            name.parse()
                .is_ok_and(|key: AmazonS3ConfigKey| key != AmazonS3ConfigKey::Bucket)
        }),
    }
}

fn gcs_from_env(vars: &mut BTreeMap<String, String>) -> GcsSettings {
    let emulator = vars
        .remove("storage_emulator_host")
        .map(|host| with_scheme(&host, "http"));
    GcsSettings {
        endpoint: vars.remove("google_base_url").or(emulator),
        credentials_file: vars
            .remove("google_application_credentials")
            .map(Into::into),
        anonymous: vars.remove("google_skip_signature").and_then(|v| flag(&v)),
        ambient: ambient(vars, "google_", |name| {
            name.parse()
                .is_ok_and(|key: GoogleConfigKey| key != GoogleConfigKey::Bucket)
        }),
    }
}

fn azure_from_env(vars: &mut BTreeMap<String, String>) -> AzureSettings {
    let mut take = |names: &[&str]| names.iter().find_map(|name| vars.remove(*name));
    // AZURE_STORAGE_KEY is the name that Flink's EnvironmentVariableKeyProvider reads.
    let key = take(&[
        "azure_storage_account_key",
        "azure_storage_access_key",
        "azure_storage_key",
    ])
    .map(Secret::new);
    let account = take(&["azure_storage_account_name", "azure_storage_account"]);
    let (account_keys, account_key) = match (account, key) {
        (Some(account), Some(key)) => (BTreeMap::from([(account, key)]), None),
        (_, key) => (BTreeMap::new(), key),
    };
    AzureSettings {
        endpoint: take(&["azure_storage_endpoint", "azure_endpoint"]),
        account_keys,
        account_key,
        ambient: ambient(vars, "azure_", |name| {
            name.parse()
                .is_ok_and(|key: AzureConfigKey| key != AzureConfigKey::ContainerName)
        }),
    }
}

/// What is left of a cloud's variables and known to object_store. The bucket comes from each location.
fn ambient(
    vars: &BTreeMap<String, String>,
    prefix: &str,
    known: impl Fn(&str) -> bool,
) -> BTreeMap<String, Secret> {
    let wanted = |name: &str| name.starts_with(prefix) && known(name);
    vars.iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, v)| (name.clone(), Secret::new(v.clone())))
        .collect()
}

fn s3_from_flink(known: &Keys<'_>) -> S3Settings {
    let get = |option: &str| {
        S3_PREFIXES
            .iter()
            .find_map(|prefix| lookup(known, prefix, option))
    };
    let tls = get("connection.ssl.enabled")
        .or_else(|| get("ssl.enabled"))
        .and_then(flag)
        .unwrap_or(true);
    let keys = match (get("access.key"), get("secret.key")) {
        (Some(access), Some(secret)) => Some(S3Keys {
            access_key: access.to_owned(),
            secret_key: Secret::new(secret),
            session_token: get("session.token").map(Secret::new),
        }),
        _ => None,
    };
    let anonymous_provider =
        get("aws.credentials.provider").map(|class| class.contains("Anonymous"));
    S3Settings {
        endpoint: get("endpoint").map(|host| with_scheme(host, if tls { "https" } else { "http" })),
        region: get("endpoint.region")
            .or_else(|| get("region"))
            .map(str::to_owned),
        path_style: get("path.style.access").and_then(flag),
        anonymous: get("anonymous.credentials")
            .and_then(flag)
            .or(anonymous_provider.filter(|yes| *yes)),
        keys,
        ambient: BTreeMap::new(),
    }
}

/// `access-key` and `access.key` are the same option (`MIRRORED_CONFIG_KEYS` of the factories).
fn lookup<'a>(known: &Keys<'a>, prefix: &str, option: &str) -> Option<&'a str> {
    let from = known
        .range(prefix..)
        .take_while(|(key, _)| key.starts_with(prefix));
    from.into_iter()
        .find(|(key, _)| key[prefix.len()..].replace('-', ".") == option)
        .map(|(_, value)| *value)
}

fn gcs_from_flink(known: &Keys<'_>) -> GcsSettings {
    let get = |option: &str| {
        ["gs.", "fs.gs."]
            .iter()
            .find_map(|prefix| lookup(known, prefix, option))
    };
    let keyfile = get("auth.service.account.json.keyfile").or_else(|| {
        known
            .get("google.cloud.auth.service.account.json.keyfile")
            .copied()
    });
    GcsSettings {
        endpoint: get("storage.root.url").map(|url| url.trim_end_matches('/').to_owned()),
        credentials_file: keyfile.map(Into::into),
        ..GcsSettings::default()
    }
}

fn azure_from_flink(known: &Keys<'_>) -> AzureSettings {
    let prefix = "fs.azure.account.key.";
    let keys = known
        .range(prefix..)
        .take_while(|(key, _)| key.starts_with(prefix));
    let account = |key: &str| {
        key[prefix.len()..]
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    AzureSettings {
        account_keys: keys
            .map(|(key, value)| (account(key), Secret::new(*value)))
            .collect(),
        ..AzureSettings::default()
    }
}

/// S3A and Presto take `minio:9000` as well as a URL.
fn with_scheme(host: &str, scheme: &str) -> String {
    let host = host.trim_end_matches('/');
    if host.contains("://") {
        host.to_owned()
    } else {
        format!("{scheme}://{host}")
    }
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
