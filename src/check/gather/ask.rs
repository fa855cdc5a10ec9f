//! Requests whose failure is a fact: what could not be seen, and which right was missing.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use kube::core::response::Status;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::super::{Blind, Right, Sight};
use crate::telemetry::one_line;

/// How long a request may take: a dry run waits for webhooks, each for up to 10 s.
const LIMIT: Duration = Duration::from_secs(30);

/// How many objects are held at a time, beside those that matter.
const PAGE: u32 = 500;

/// Why a request gave nothing.
pub(super) enum Failed {
    /// The API server said so.
    Api(Box<Status>),
    /// It said nothing.
    Other(String),
}

pub(super) async fn limited<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failed> {
    match timeout(LIMIT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Failed::Api(status)),
        Ok(Err(error)) => Err(Failed::Other(one_line(&error, 300))),
        Err(_) => Err(Failed::Other(format!("no answer in {} s", LIMIT.as_secs()))),
    }
}

/// What is asked for with this right.
pub(super) async fn see<T>(
    right: Right,
    request: impl Future<Output = kube::Result<T>>,
) -> Sight<T> {
    limited(request)
        .await
        .map_err(|failed| blind(right, failed))
}

pub(super) fn blind(right: Right, failed: Failed) -> Blind {
    let place = right
        .namespace
        .as_ref()
        .map(|name| format!(" in namespace {name}"));
    let what = format!("{}{}", right.short(), place.unwrap_or_default());
    match failed {
        Failed::Api(status) if status.code == 403 && status.message.contains(" cannot ") => Blind {
            why: format!("you may not {what}"),
            right: Some(Box::new(right)),
        },
        Failed::Api(status) => Blind::new(format!("could not {what}: {}", status.message)),
        Failed::Other(why) => Blind::new(format!("could not {what}: {why}")),
    }
}

/// One object; `None`: there is none.
pub(super) async fn get<K>(api: &Api<K>, right: Right, name: &str) -> Sight<Option<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    see(right.named(name), api.get_opt(name)).await
}

/// All objects that matter.
pub(super) async fn list<K>(
    api: &Api<K>,
    right: Right,
    matters: impl Fn(&K) -> bool,
) -> Sight<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = see(right.clone(), api.list(&params)).await?;
        all.extend(page.items.into_iter().filter(|object| matters(object)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}
