//! What the webhook's replicas share: the Secret with their certificate, the Lease of the one that renews it, and the
//! MutatingWebhookConfiguration that names whom API servers trust. And what it looks up of a pod, for warnings.

use std::collections::BTreeMap;

use futures_util::stream::BoxStream;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::client::{Kube, limited};
use super::error::{Attempt, KubeError};
use super::watch::{Target, watch_object};

const CONFIGURATIONS: (&str, &str) = (
    "mutatingwebhookconfigurations",
    "admissionregistration.k8s.io",
);
const LEASES: (&str, &str) = ("leases", "coordination.k8s.io");
const SECRETS: (&str, &str) = ("secrets", "");

fn attempt<'a>(
    verb: &'static str,
    (resource, group): (&'static str, &'static str),
    name: &'a str,
) -> Attempt<'a> {
    Attempt {
        verb,
        resource,
        group,
        name,
    }
}

/// A Secret now and after each change.
pub(crate) fn watch_secret(
    kube: &Kube,
    name: &str,
) -> BoxStream<'static, Result<Option<Secret>, KubeError>> {
    let (resource, group) = SECRETS;
    let name = name.to_owned();
    let target = Target {
        resource,
        group,
        name,
    };
    watch_object(kube.api(), target)
}

/// The configuration now and after each change.
pub(crate) fn watch_configuration(
    kube: &Kube,
    name: &str,
) -> BoxStream<'static, Result<Option<MutatingWebhookConfiguration>, KubeError>> {
    let (resource, group) = CONFIGURATIONS;
    let name = name.to_owned();
    let target = Target {
        resource,
        group,
        name,
    };
    watch_object(Api::all(kube.client()), target)
}

/// Gives a Secret this data, if it is as it was read at `version`; creates it where there was none.
pub(crate) async fn store_secret(
    kube: &Kube,
    name: &str,
    version: Option<&str>,
    data: BTreeMap<&str, Option<ByteString>>,
) -> Result<(), KubeError> {
    let api: Api<Secret> = kube.api();
    match version {
        Some(version) => {
            let patch = json!({ "metadata": { "resourceVersion": version }, "data": data });
            let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let patched = api.patch(name, &params, &patch);
            limited(attempt("patch", SECRETS, name), patched).await?;
        }
        None => {
            let data = data
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)));
            let mut secret = Secret {
                data: Some(data.collect()),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            secret.metadata.name = Some(name.to_owned());
            let params = PostParams::default();
            limited(
                attempt("create", SECRETS, name),
                api.create(&params, &secret),
            )
            .await?;
        }
    }
    Ok(())
}

/// Applies a JSON patch to the configuration.
pub(crate) async fn patch_configuration(
    kube: &Kube,
    name: &str,
    operations: &Value,
) -> Result<(), KubeError> {
    let attempt = attempt("patch", CONFIGURATIONS, name);
    let (resource, group) = CONFIGURATIONS;
    // kube's own type for a JSON patch would be one more version of the library for them.
    let request = hyper::Request::patch(format!("/apis/{group}/v1/{resource}/{name}"))
        .header("content-type", "application/json-patch+json")
        .body(operations.to_string().into_bytes())
        .map_err(|error| KubeError::other(attempt, &error.to_string()))?;
    let client = kube.client();
    limited(attempt, client.request_text(request)).await?;
    Ok(())
}

/// The Lease; `None` when there is none.
pub(crate) async fn get_lease(kube: &Kube, name: &str) -> Result<Option<Lease>, KubeError> {
    let api: Api<Lease> = kube.api();
    limited(attempt("get", LEASES, name), api.get_opt(name)).await
}

/// Writes the Lease, if it is as it was read at `version`; creates it where there was none.
pub(crate) async fn write_lease(
    kube: &Kube,
    name: &str,
    version: Option<&str>,
    spec: LeaseSpec,
) -> Result<Lease, KubeError> {
    let api: Api<Lease> = kube.api();
    match version {
        Some(version) => {
            let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
            let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
            let patched = api.patch(name, &params, &patch);
            limited(attempt("patch", LEASES, name), patched).await
        }
        None => {
            let mut lease = Lease {
                spec: Some(spec),
                ..Lease::default()
            };
            lease.metadata.name = Some(name.to_owned());
            let params = PostParams::default();
            let created = api.create(&params, &lease);
            limited(attempt("create", LEASES, name), created).await
        }
    }
}

/// The API server's version, such as `(1, 34)`.
pub(crate) async fn version(kube: &Kube) -> Result<(u32, u32), KubeError> {
    let attempt = attempt("get", ("/version", ""), "");
    let client = kube.client();
    let info = limited(attempt, client.apiserver_version()).await?;
    // Clouds write such as "29+".
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse();
    match (number(&info.major), number(&info.minor)) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(KubeError::other(
            attempt,
            &format!("unexpected version {}", info.git_version),
        )),
    }
}

/// What a service account may be asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a str,
    /// The object; none for all.
    pub(crate) name: Option<&'a str>,
}

/// Whether a service account of this client's namespace has a right there, in the core API group.
pub(crate) async fn may(kube: &Kube, account: &str, right: Right<'_>) -> Result<bool, KubeError> {
    let namespace = kube.namespace();
    let review = json!({
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{account}"),
            "groups": [
                "system:serviceaccounts",
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ],
            "resourceAttributes": {
                "namespace": namespace,
                "verb": right.verb,
                "resource": right.resource,
                "name": right.name,
            },
        },
    });
    let attempt = attempt(
        "create",
        ("subjectaccessreviews", "authorization.k8s.io"),
        "",
    );
    let review: SubjectAccessReview = serde_json::from_value(review)
        .map_err(|error| KubeError::other(attempt, &error.to_string()))?;
    let api: Api<SubjectAccessReview> = Api::all(kube.client());
    let params = PostParams::default();
    let answer = limited(attempt, api.create(&params, &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A ReplicaSet; `None` when there is none.
pub(crate) async fn get_replica_set(
    kube: &Kube,
    name: &str,
) -> Result<Option<ReplicaSet>, KubeError> {
    let api: Api<ReplicaSet> = kube.api();
    let attempt = attempt("get", ("replicasets", "apps"), name);
    limited(attempt, api.get_opt(name)).await
}

/// A Deployment of the namespace; `None` when there is none.
pub(crate) async fn get_deployment(
    kube: &Kube,
    name: &str,
) -> Result<Option<Deployment>, KubeError> {
    let api: Api<Deployment> = kube.api();
    let attempt = attempt("get", ("deployments", "apps"), name);
    limited(attempt, api.get_opt(name)).await
}

/// The texts of a ConfigMap; `None` when there is none.
pub(crate) async fn get_config_map(
    kube: &Kube,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, KubeError> {
    let api: Api<ConfigMap> = kube.api();
    let found = limited(attempt("get", ("configmaps", ""), name), api.get_opt(name)).await?;
    Ok(found.map(|map| map.data.unwrap_or_default()))
}
