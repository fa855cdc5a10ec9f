//! What Drey's containers may use and do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Refused;
use super::annotations::{User, bad};
use super::parts::Plan;
use crate::config::quoted;

/// The user of Flink's official image.
const FLINK_USER: i64 = 9999;

impl Plan<'_> {
    /// What one of a pair says, the default of the other one follows.
    pub(super) fn resources(&self) -> Result<ResourceRequirements, Refused> {
        let wish = &self.wishes.resources;
        let guaranteed = is_guaranteed(self.spec);
        // The class of a pod is that of all its containers: requests below the limits would take it from Flink.
        let cpu = Pair {
            what: "cpu",
            request: if guaranteed { "100m" } else { "10m" },
            limit: guaranteed.then_some("100m"),
        };
        let memory = Pair {
            what: "memory",
            request: if guaranteed { "32Mi" } else { "16Mi" },
            limit: Some("32Mi"),
        };
        let cpu = cpu.settle(&wish.cpu_request, &wish.cpu_limit, guaranteed)?;
        let memory = memory.settle(&wish.memory_request, &wish.memory_limit, guaranteed)?;
        Ok(ResourceRequirements {
            requests: quantities([("cpu", cpu.0), ("memory", memory.0)]),
            limits: quantities([("cpu", cpu.1), ("memory", memory.1)]),
            claims: None,
        })
    }

    /// Good for Pod Security `restricted` also where the pod itself says nothing.
    pub(super) fn security_context(&self) -> SecurityContext {
        let pod = self.spec.security_context.clone().unwrap_or_default();
        let flink = self
            .flink
            .container
            .security_context
            .clone()
            .unwrap_or_default();
        let (user, group) = user(self.wishes.user, &pod, &flink);
        let safe = |profile: &SeccompProfile| profile.type_ != "Unconfined";
        let inherits_profile = pod.seccomp_profile.as_ref().is_some_and(safe);
        SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            run_as_group: group.filter(|group| pod.run_as_group != Some(*group)),
            run_as_non_root: (pod.run_as_non_root != Some(true) && user != Some(0)).then_some(true),
            run_as_user: user.filter(|user| pod.run_as_user != Some(*user)),
            se_linux_options: flink.se_linux_options,
            seccomp_profile: (!inherits_profile).then(|| SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }
    }
}

/// Request and limit of one resource, where nothing is said.
struct Pair {
    what: &'static str,
    request: &'static str,
    limit: Option<&'static str>,
}

impl Pair {
    /// A request above the limit is what no API server takes, with a message that names no annotation.
    fn settle(
        &self,
        request: &Option<Quantity>,
        limit: &Option<Option<Quantity>>,
        equal: bool,
    ) -> Result<(Option<Quantity>, Option<Quantity>), Refused> {
        let own = |text: &str| Quantity(text.to_owned());
        let above = |one: &Quantity, other: &Quantity| amount(one) > amount(other);
        match (request, limit) {
            (Some(request), Some(Some(limit))) if above(request, limit) => {
                let what = format!(
                    "{} is above the limit, {}",
                    quoted(&request.0),
                    quoted(&limit.0)
                );
                let remedy = format!("lower it, or raise `drey.io/{}-limit`", self.what);
                Err(bad(&format!("{}-request", self.what), &what, &remedy))
            }
            (Some(request), Some(limit)) => Ok((Some(request.clone()), limit.clone())),
            (Some(request), None) => {
                let limit = self.limit.map(own);
                let limit = limit.map(|limit| match equal || above(request, &limit) {
                    true => request.clone(),
                    false => limit,
                });
                Ok((Some(request.clone()), limit))
            }
            (None, Some(Some(limit))) => {
                let request = own(self.request);
                let follows = equal || above(&request, limit);
                let request = if follows { limit.clone() } else { request };
                Ok((Some(request), Some(limit.clone())))
            }
            (None, Some(None)) => Ok((Some(own(self.request)), None)),
            (None, None) => Ok((Some(own(self.request)), self.limit.map(own))),
        }
    }
}

/// How much a quantity is, as the annotations take them.
fn amount(quantity: &Quantity) -> f64 {
    let text = &quantity.0;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap_or_default() * unit
}

/// The user and group that Flink runs as. Root is what the official image drops to its own user.
fn user(
    wish: User,
    pod: &PodSecurityContext,
    flink: &SecurityContext,
) -> (Option<i64>, Option<i64>) {
    let named = flink
        .run_as_user
        .or(pod.run_as_user)
        .filter(|user| *user != 0);
    let group = flink.run_as_group.or(pod.run_as_group);
    match (wish, named) {
        (User::Unset, _) => (None, None),
        (User::Uid(user), _) => (Some(user), group),
        (User::AsFlink, Some(user)) => (Some(user), group),
        (User::AsFlink, None) => (Some(FLINK_USER), Some(FLINK_USER)),
    }
}

/// Whether Kubernetes calls the pod `Guaranteed`: every container has limits, and requests no less.
fn is_guaranteed(spec: &PodSpec) -> bool {
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    !spec.containers.is_empty()
        && all.all(|container| {
            let Some(resources) = &container.resources else {
                return false;
            };
            let get = |map: &Option<BTreeMap<String, Quantity>>, name| {
                map.as_ref().and_then(|map| map.get(name).cloned())
            };
            ["cpu", "memory"].iter().all(|name| {
                let limit = get(&resources.limits, *name);
                let request = get(&resources.requests, *name);
                limit.is_some() && (request.is_none() || request == limit)
            })
        })
}

fn quantities(all: [(&str, Option<Quantity>); 2]) -> Option<BTreeMap<String, Quantity>> {
    let given = all
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let given: BTreeMap<String, Quantity> = given.collect();
    (!given.is_empty()).then_some(given)
}
