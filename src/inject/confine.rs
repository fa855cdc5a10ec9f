//! What Drey's containers may use and do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::annotations::User;
use super::parts::Plan;

/// The user of Flink's official image.
const FLINK_USER: i64 = 9999;

impl Plan<'_> {
    pub(super) fn resources(&self) -> ResourceRequirements {
        let wish = &self.wishes.resources;
        let guaranteed = is_guaranteed(self.spec);
        let some = |text: &str| Some(Quantity(text.to_owned()));
        let cpu_limit = wish.cpu_limit.clone();
        let memory_limit = wish.memory_limit.clone();
        let (cpu_limit, memory_limit) = (
            cpu_limit.unwrap_or_else(|| guaranteed.then(|| Quantity("100m".to_owned()))),
            memory_limit.unwrap_or_else(|| some("32Mi")),
        );
        // The class of a pod is that of all its containers: requests below the limits would take it from Flink.
        let (cpu, memory) = match guaranteed {
            true => (cpu_limit.clone(), memory_limit.clone()),
            false => (some("10m"), some("16Mi")),
        };
        let requests = [
            ("cpu", wish.cpu_request.clone().or(cpu)),
            ("memory", wish.memory_request.clone().or(memory)),
        ];
        ResourceRequirements {
            requests: quantities(requests),
            limits: quantities([("cpu", cpu_limit), ("memory", memory_limit)]),
            claims: None,
        }
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
