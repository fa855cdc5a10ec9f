#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn flink(pairs: &[(&str, &str)]) -> StorageSettings {
    StorageSettings::from_flink(
        &pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

fn env(pairs: &[(&str, &str)]) -> StorageSettings {
    StorageSettings::from_env(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
}

fn keys(settings: &StorageSettings) -> Option<(&str, &str)> {
    settings
        .s3
        .keys
        .as_ref()
        .map(|keys| (keys.access_key.as_str(), keys.secret_key.reveal()))
}

#[test]
fn flinks_s3_options_are_found_in_every_spelling_of_its_plugins() {
    for (access, secret, style) in [
        ("s3.access-key", "s3.secret-key", "s3.path.style.access"),
        ("s3.access.key", "s3.secret.key", "s3.path-style-access"),
        ("s3a.access.key", "s3a.secret.key", "s3a.path.style.access"),
        (
            "fs.s3a.access.key",
            "fs.s3a.secret.key",
            "fs.s3a.path.style.access",
        ),
        (
            "presto.s3.access-key",
            "presto.s3.secret-key",
            "presto.s3.path-style-access",
        ),
    ] {
        let found = flink(&[(access, "AK"), (secret, "SK"), (style, "true")]);
        assert_eq!(keys(&found), Some(("AK", "SK")), "{access}");
        assert_eq!(found.s3.path_style, Some(true), "{style}");
    }
}

#[test]
fn flinks_endpoint_may_lack_a_scheme_and_its_region_has_two_names() {
    assert_eq!(
        flink(&[("s3.endpoint", "minio:9000")]).s3.endpoint.unwrap(),
        "https://minio:9000"
    );
    let plain = flink(&[
        ("s3.endpoint", "minio:9000"),
        ("fs.s3a.connection.ssl.enabled", "false"),
    ]);
    assert_eq!(plain.s3.endpoint.unwrap(), "http://minio:9000");
    assert_eq!(
        flink(&[("s3.endpoint", "http://m/")]).s3.endpoint.unwrap(),
        "http://m"
    );
    assert_eq!(flink(&[("s3.region", "r1")]).s3.region.unwrap(), "r1");
    assert_eq!(
        flink(&[("s3.endpoint.region", "r2"), ("s3.region", "r1")])
            .s3
            .region
            .unwrap(),
        "r2"
    );
}

#[test]
fn flinks_azure_keys_are_kept_by_account() {
    let found = flink(&[
        ("fs.azure.account.key.one.blob.core.windows.net", "a"),
        ("fs.azure.account.key.two.dfs.core.windows.net", "b"),
    ]);
    assert_eq!(found.azure.account_keys["one"].reveal(), "a");
    assert_eq!(found.azure.account_keys["two"].reveal(), "b");
}

#[test]
fn flinks_hidden_values_and_half_key_pairs_are_ignored() {
    assert_eq!(
        keys(&flink(&[
            ("s3.access-key", "AK"),
            ("s3.secret-key", "******")
        ])),
        None
    );
    assert_eq!(keys(&env(&[("AWS_ACCESS_KEY_ID", "AK")])), None);
}

#[test]
fn environment_wins_over_flink_and_keys_are_never_mixed() {
    let low = flink(&[
        ("s3.access-key", "flink"),
        ("s3.secret-key", "flink"),
        ("s3.endpoint", "http://flink"),
    ]);
    let high = env(&[
        ("AWS_ACCESS_KEY_ID", "env"),
        ("AWS_SECRET_ACCESS_KEY", "env"),
        ("AWS_REGION", "r"),
    ]);
    let both = high.clone().over(low.clone());
    assert_eq!(keys(&both), Some(("env", "env")));
    assert_eq!(both.s3.endpoint.as_deref(), Some("http://flink"));
    assert_eq!(both.s3.region.as_deref(), Some("r"));
    let own = StorageSettings {
        s3: S3Settings {
            endpoint: Some("http://drey".into()),
            ..S3Settings::default()
        },
        ..StorageSettings::default()
    };
    assert_eq!(own.over(both).s3.endpoint.as_deref(), Some("http://drey"));
    assert_eq!(
        keys(&env(&[("AWS_ACCESS_KEY_ID", "half")]).over(low)),
        Some(("flink", "flink"))
    );
}

#[test]
fn environment_keeps_identities_and_leaves_unknown_variables() {
    let found = env(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", "arn"),
        ("AWS_PROFILE", "dev"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/azure"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/gcp.json"),
        ("STORAGE_EMULATOR_HOST", "127.0.0.1:4443"),
        ("AWS_BUCKET_NAME", "other"),
    ]);
    assert_eq!(
        found.s3.ambient.keys().collect::<Vec<_>>(),
        ["aws_role_arn", "aws_web_identity_token_file"]
    );
    assert_eq!(
        found.azure.ambient.keys().collect::<Vec<_>>(),
        ["azure_federated_token_file"]
    );
    assert_eq!(
        found.gcs.credentials_file.unwrap(),
        PathBuf::from("/gcp.json")
    );
    assert_eq!(found.gcs.endpoint.unwrap(), "http://127.0.0.1:4443");
}

#[test]
fn variables_that_are_not_text_are_ignored() {
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(vec![0xff]);
    let found = StorageSettings::from_env([
        ("AWS_ENDPOINT_URL".into(), odd.clone()),
        (odd, "x".into()),
        ("AWS_REGION".into(), "r".into()),
    ] as [(std::ffi::OsString, std::ffi::OsString); 3]);
    assert_eq!(found.s3.endpoint, None);
    assert_eq!(found.s3.region.as_deref(), Some("r"));
}

#[test]
fn azure_key_of_a_named_account_is_not_sent_to_another() {
    let named = env(&[
        ("AZURE_STORAGE_ACCOUNT_NAME", "one"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "k"),
    ]);
    assert_eq!(named.azure.account_keys["one"].reveal(), "k");
    assert_eq!(named.azure.account_key, None);
    assert_eq!(
        env(&[("AZURE_STORAGE_KEY", "k")])
            .azure
            .account_key
            .unwrap()
            .reveal(),
        "k"
    );
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let all = env(&[
        ("AWS_ACCESS_KEY_ID", "AK"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter2"),
        ("AZURE_STORAGE_KEY", "hunter2"),
        ("AZURE_STORAGE_SAS_KEY", "hunter2"),
        ("AZURE_CLIENT_SECRET", "hunter2"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "hunter2"),
    ]);
    let all = all.over(flink(&[(
        "fs.azure.account.key.a.blob.core.windows.net",
        "hunter2",
    )]));
    assert!(!format!("{all:?}").contains("hunter2"), "{all:?}");
    assert!(
        format!("{all:?}").contains("azure_client_secret"),
        "{all:?}"
    );
}
