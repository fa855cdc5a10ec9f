//! Clients of object stores, made from the settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use url::Url;

use super::location::Bucket;
use super::settings::{AzureSettings, GcsSettings, S3Settings, StorageSettings};
use crate::root_certificates;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries after the first: enough for a dropped connection. Callers have their own, longer patience.
const RETRIES: usize = 3;

type Store = Arc<dyn ObjectStore>;

/// Makes the client of one bucket. No request is sent yet. An error is one line of text.
pub(super) fn build(bucket: &Bucket, settings: &StorageSettings) -> Result<Store, String> {
    let store = match bucket {
        Bucket::S3 { bucket } => s3(bucket, &settings.s3, settings)?,
        Bucket::Gcs { bucket } => gcs(bucket, &settings.gcs, settings)?,
        Bucket::Azure {
            account,
            domain,
            container,
        } => {
            let builder = azure(account, domain, &settings.azure).with_container_name(container);
            let options = options(settings, settings.azure.endpoint.as_deref())?;
            Arc::new(text(
                builder
                    .with_client_options(options)
                    .with_retry(retry(settings))
                    .build(),
            )?)
        }
    };
    Ok(store)
}

fn s3(bucket: &str, s3: &S3Settings, settings: &StorageSettings) -> Result<Store, String> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in &s3.ambient {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value.reveal());
        }
    }
    builder = builder
        .with_bucket_name(bucket)
        .with_skip_signature(s3.anonymous.unwrap_or(false));
    if let Some(keys) = &s3.keys {
        builder = builder
            .with_access_key_id(&keys.access_key)
            .with_secret_access_key(keys.secret_key.reveal());
        if let Some(token) = &keys.session_token {
            builder = builder.with_token(token.reveal());
        }
    }
    if let Some(region) = s3
        .region
        .clone()
        .or_else(|| region_in(s3.endpoint.as_deref()?))
    {
        builder = builder.with_region(region);
    }
    let in_host = s3.path_style == Some(false);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(if in_host {
            bucket_in_host(endpoint, bucket)?
        } else {
            endpoint.clone()
        });
    }
    let options = options(settings, s3.endpoint.as_deref())?;
    let builder = builder
        .with_virtual_hosted_style_request(in_host)
        .with_client_options(options);
    Ok(Arc::new(text(builder.with_retry(retry(settings)).build())?))
}

/// object_store wants the bucket in a virtual-hosted endpoint; S3A and Presto put it there themselves.
fn bucket_in_host(endpoint: &str, bucket: &str) -> Result<String, String> {
    let mut url = Url::parse(endpoint)
        .map_err(|error| format!("the endpoint {endpoint} is no URL: {error}"))?;
    let host = url
        .host_str()
        .ok_or_else(|| format!("the endpoint {endpoint} has no host"))?;
    if host.starts_with(&format!("{bucket}.")) {
        return Ok(endpoint.to_owned());
    }
    let host = format!("{bucket}.{host}");
    url.set_host(Some(&host))
        .map_err(|error| format!("bucket {bucket} cannot be part of a host name: {error}"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// `https://s3.eu-west-1.amazonaws.com` names its region, as S3A knows.
fn region_in(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let host = url
        .host_str()?
        .strip_suffix(".cn")
        .or(url.host_str())?
        .strip_suffix(".amazonaws.com")?;
    let region = host.rsplit('.').next()?;
    (region != "s3" && region.contains('-')).then(|| region.trim_start_matches("s3-").to_owned())
}

fn gcs(bucket: &str, gcs: &GcsSettings, settings: &StorageSettings) -> Result<Store, String> {
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in &gcs.ambient {
        if let Ok(key) = name.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value.reveal());
        }
    }
    builder = builder
        .with_bucket_name(bucket)
        .with_skip_signature(gcs.anonymous.unwrap_or(false));
    if gcs.anonymous == Some(true) {
        // Writes of object_store 0.14 ask for a token in spite of skip_signature: without this, the metadata service.
        let nobody = GcpCredential {
            bearer: String::new(),
        };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
    } else if let Some(file) = &gcs.credentials_file {
        builder = builder.with_application_credentials(file.to_string_lossy());
    }
    if let Some(endpoint) = &gcs.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let options = options(settings, gcs.endpoint.as_deref())?;
    Ok(Arc::new(text(
        builder
            .with_client_options(options)
            .with_retry(retry(settings))
            .build(),
    )?))
}

fn azure(account: &str, domain: &str, azure: &AzureSettings) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in &azure.ambient {
        if let Ok(key) = name.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value.reveal());
        }
    }
    if let Some(key) = azure
        .account_keys
        .get(account)
        .or(azure.account_key.as_ref())
    {
        builder = builder.with_access_key(key.reveal());
    }
    let endpoint = azure
        .endpoint
        .clone()
        .unwrap_or_else(|| format!("https://{account}.blob.{domain}"));
    builder.with_account(account).with_endpoint(endpoint)
}

fn options(settings: &StorageSettings, endpoint: Option<&str>) -> Result<ClientOptions, String> {
    // Whoever writes http:// has chosen it.
    let http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT_TIMEOUT.min(settings.timeout()))
        .with_timeout(settings.timeout());
    // Without any, not even a client for http:// can be made.
    if let Some(bundled) = root_certificates::missing() {
        options = options.with_no_system_certificates(true);
        for certificate in bundled {
            let certificate = text(Certificate::from_der(certificate))?;
            options = options.with_root_certificate(certificate);
        }
    }
    if let Some(file) = &settings.ca_file {
        for certificate in certificates(file)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let shown = file.display();
    let pem = std::fs::read(file)
        .map_err(|error| format!("cannot read the certificate authorities in {shown}: {error}"))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(found) if found.is_empty() => Err(format!("{shown} has no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{shown} is no PEM file: {error}")),
    }
}

fn retry(settings: &StorageSettings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            ..BackoffConfig::default()
        },
        max_retries: RETRIES,
        retry_timeout: settings.timeout(),
    }
}

fn text<T>(built: object_store::Result<T>) -> Result<T, String> {
    built.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn region_is_read_from_amazons_endpoints_only() {
        for (endpoint, region) in [
            ("https://s3.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3-eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("https://s3.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("https://s3.amazonaws.com", None),
            ("http://minio.my-host.example", None),
        ] {
            assert_eq!(region_in(endpoint).as_deref(), region, "{endpoint}");
        }
    }

    #[test]
    fn bucket_goes_into_the_host_once() {
        assert_eq!(
            bucket_in_host("https://oss.example:9000", "b").unwrap(),
            "https://b.oss.example:9000"
        );
        assert_eq!(
            bucket_in_host("https://b.oss.example", "b").unwrap(),
            "https://b.oss.example"
        );
        assert!(
            bucket_in_host("nonsense", "b")
                .unwrap_err()
                .contains("no URL")
        );
    }
}
