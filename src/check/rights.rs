//! Rights, as a Role names them: those that an installation takes, and those of Flink's service account.

use super::{Account, Finding, Sight, table};

/// One right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Right {
    /// The verb.
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The only object it is about.
    pub name: Option<String>,
    /// The namespace; `None`: the whole cluster.
    pub namespace: Option<String>,
}

impl Right {
    /// A right in the whole cluster.
    #[must_use]
    pub fn new(verb: &str, group: &str, resource: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: None,
            namespace: None,
        }
    }

    /// The same in one namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same for one object.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The rule as it is written in a Role.
    #[must_use]
    pub fn rule(&self) -> String {
        let names = self
            .name
            .as_ref()
            .map_or_else(String::new, |name| format!(", resourceNames: [{name}]"));
        let place = self.namespace.as_ref().map_or_else(
            || "a ClusterRole".to_owned(),
            |namespace| format!("a Role in namespace {namespace}"),
        );
        let Self {
            verb,
            group,
            resource,
            ..
        } = self;
        format!(
            "{{apiGroups: [\"{group}\"], resources: [{resource}]{names}, verbs: [{verb}]}} in {place}"
        )
    }

    /// `create deployments.apps`, for lists.
    #[must_use]
    pub fn short(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        let name = self.name.as_ref().map(|name| format!(" {name}"));
        format!(
            "{} {}{dot}{}{}",
            self.verb,
            self.resource,
            self.group,
            name.unwrap_or_default()
        )
    }
}

/// A right that the pods of a cluster id need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The right.
    pub right: Right,
    /// Without it Drey does not work; else something is told less well, or later.
    pub vital: bool,
}

/// What creating the chart's objects takes, with its default values. Nobody may create a Role with a right that he has not himself,
/// so those that the webhook gets are among them.
#[must_use]
pub(super) fn to_install(namespace: &str, namespace_exists: bool) -> Vec<Right> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const REGISTRATION: &str = "admissionregistration.k8s.io";
    let everywhere: [(&[&str], &str, &str); 8] = [
        (&["create"], "", "namespaces"),
        (&["create"], RBAC, "clusterroles"),
        (&["create"], RBAC, "clusterrolebindings"),
        (
            &["create", "get", "list", "watch", "patch"],
            REGISTRATION,
            "mutatingwebhookconfigurations",
        ),
        (&["create"], "authorization.k8s.io", "subjectaccessreviews"),
        (&["create", "patch"], "", "events"),
        (&["get"], "apps", "deployments"),
        (&["get"], "apps", "replicasets"),
    ];
    let within: [(&[&str], &str, &str); 7] = [
        (&["create"], "apps", "deployments"),
        (&["create"], "", "serviceaccounts"),
        (&["create"], "", "services"),
        (&["create", "get", "list", "watch", "patch"], "", "secrets"),
        (&["create", "get", "patch"], "coordination.k8s.io", "leases"),
        (&["create"], RBAC, "roles"),
        (&["create"], RBAC, "rolebindings"),
    ];
    let rights = |(verbs, group, resource): &(&[&str], &str, &str)| {
        let right = |verb: &&str| Right::new(verb, group, resource);
        verbs.iter().map(right).collect::<Vec<_>>()
    };
    let needed = everywhere
        .iter()
        .filter(|(_, _, resource)| *resource != "namespaces" || !namespace_exists);
    let placed = within.iter().flat_map(rights);
    needed
        .flat_map(rights)
        .chain(placed.map(|right| right.within(namespace)))
        .collect()
}

/// What `deploy/rbac.yaml` grants the service account of the pods of `cluster_id`. The map need not be created where it is.
#[must_use]
pub(super) fn of_pods(namespace: &str, cluster_id: &str, map_exists: bool) -> Vec<Needed> {
    let map = format!("drey-{cluster_id}");
    let rights = |verbs: &[&str], group: &str, resource: &str, vital: bool| {
        let of = |verb: &&str| Needed {
            right: Right::new(verb, group, resource).within(namespace),
            vital,
        };
        verbs.iter().map(of).collect::<Vec<_>>()
    };
    let on_map = ["get", "list", "watch", "patch"].map(|verb| Needed {
        right: Right::new(verb, "", "configmaps")
            .within(namespace)
            .named(&map),
        vital: true,
    });
    let mut all = on_map.to_vec();
    all.extend(rights(&["create"], "", "configmaps", !map_exists));
    all.extend(rights(&["get", "list", "watch"], "", "pods", true));
    for resource in ["deployments", "replicasets", "statefulsets"] {
        all.extend(rights(&["get"], "apps", resource, false));
    }
    all.extend(rights(&["get"], "batch", "jobs", false));
    all.extend(rights(&["create", "patch"], "", "events", false));
    all.extend(rights(&["get"], "", "namespaces", false));
    all
}

/// Whether whoever asks may install.
pub(super) fn install_finding(asked: &[(Right, Sight<bool>)]) -> Finding {
    let check = &table::RIGHTS_TO_INSTALL;
    if let Some(blind) = asked.iter().find_map(|(_, may)| may.as_ref().err()) {
        return Finding::blind(check, blind);
    }
    let missing: Vec<&Right> = asked
        .iter()
        .filter(|(_, may)| may == &Ok(false))
        .map(|(right, _)| right)
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            check,
            format!("you may do all of the {} things", asked.len()),
        );
    }
    let short: Vec<String> = missing.iter().map(|right| right.short()).collect();
    let remedy = "let somebody install who has these rights, such as a cluster admin; jobs need none of them";
    Finding::failed(check, format!("you may not {}", short.join(", ")), remedy)
}

/// Whether the service account `account` may do what Drey needs in its pods.
pub(super) fn pod_finding(account: &Account, cluster_id: &str) -> Finding {
    let Account {
        name: account,
        asked,
    } = account;
    let check = &table::SERVICE_ACCOUNT;
    if let Some(blind) = asked.iter().find_map(|(_, may)| may.as_ref().err()) {
        return Finding::blind(check, blind);
    }
    let missing: Vec<&Needed> = asked
        .iter()
        .filter(|(_, may)| may == &Ok(false))
        .map(|(needed, _)| needed)
        .collect();
    if missing.is_empty() {
        return Finding::ok(check, format!("{account} may do all of deploy/rbac.yaml"));
    }
    let short: Vec<String> = missing.iter().map(|needed| needed.right.short()).collect();
    let found = format!("{account} may not {}", short.join(", "));
    let remedy = format!(
        "bind the Role `drey` of deploy/rbac.yaml, written for cluster id {cluster_id}, to {account}, or list the service \
         account in the chart's values"
    );
    if missing.iter().any(|needed| needed.vital) {
        Finding::failed(check, found, remedy)
    } else {
        Finding::warning(check, found, remedy)
    }
}
