//! Requests for objects of several kinds alike.

use std::fmt::Debug;
use std::future::Future;

use futures_util::stream::BoxStream;
use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use super::client::limited;
use super::error::{Attempt, KubeError};
use super::watch::{Target, watch_object};

/// A request with its time limit, and what was asked in its error.
pub(crate) async fn asked<T>(
    verb: &'static str,
    resource: &'static str,
    group: &'static str,
    name: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, KubeError> {
    let attempt = Attempt {
        verb,
        resource,
        group,
        name,
    };
    limited(attempt, request).await
}

/// All objects.
pub(crate) async fn listing<K>(
    api: &Api<K>,
    resource: &'static str,
    group: &'static str,
    params: &ListParams,
) -> Result<Vec<K>, KubeError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let list = asked("list", resource, group, "", api.list(params)).await?;
    Ok(list.items)
}

/// One object now and after each change.
pub(crate) fn watched<K>(
    api: Api<K>,
    resource: &'static str,
    group: &'static str,
    name: &str,
) -> BoxStream<'static, Result<Option<K>, KubeError>>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let name = name.to_owned();
    let target = Target {
        resource,
        group,
        name,
    };
    watch_object(api, target)
}
