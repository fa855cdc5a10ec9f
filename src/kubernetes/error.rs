//! Why a request to the API server failed, as what can be done about it.

use kube::core::response::Status;

/// The longest text of the API server that is repeated.
const TEXT: usize = 300;

/// What was asked of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt<'a> {
    /// The verb as a Role names it.
    pub(crate) verb: &'static str,
    /// The resource as a Role names it.
    pub(crate) resource: &'static str,
    /// Its API group as a Role names it.
    pub(crate) group: &'static str,
    /// The object; empty where there is none yet.
    pub(crate) name: &'a str,
}

/// Why the API server did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// It does not answer, or cannot do it now.
    #[error("could not {verb} {resource} {name}: the Kubernetes API server does not answer: {why}")]
    Unreachable {
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
        /// What happened instead.
        why: String,
    },
    /// Who asks has not the right.
    #[error(
        "{who} may not {verb} {resource} {name}: {}",
        remedy(verb, resource, group, name)
    )]
    Forbidden {
        /// As whom the API server knows it.
        who: String,
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// The API group.
        group: &'static str,
        /// The object.
        name: String,
    },
    /// The API server does not know who asks.
    #[error(
        "the Kubernetes API server does not accept who asks: check the token or certificate of the kubeconfig, or in a pod that its \
         service account exists and that its token is mounted"
    )]
    Unauthorized,
    /// There is no such object.
    #[error("there is no {resource} {name}")]
    NotFound {
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
    },
    /// The object is not what it was when it was read, or is there already.
    #[error("{resource} {name} was changed by somebody else meanwhile")]
    Conflict {
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
    },
    /// The namespace is being deleted, or is gone: nothing new can be stored in it.
    #[error("the namespace of {resource} {name} is being deleted")]
    Gone {
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
    },
    /// More than an object may hold.
    #[error("{resource} {name} would be larger than Kubernetes allows: {why}")]
    TooLarge {
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
        /// Which limit.
        why: String,
    },
    /// The object was made immutable.
    #[error(
        "{resource} {name} is immutable, so nothing can be recorded in it: delete it, it is made again"
    )]
    Immutable {
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
    },
    /// The client could not be set up.
    #[error("could not set up the Kubernetes client: {0}")]
    Setup(String),
    /// Anything else.
    #[error("could not {verb} {resource} {name}: {why}")]
    Other {
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// The object.
        name: String,
        /// What the API server says.
        why: String,
    },
}

impl KubeError {
    /// The same request may work later, without anybody doing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        // A token that is refused may be one that is just being renewed.
        matches!(self, Self::Unreachable { .. } | Self::Unauthorized)
    }

    /// A right is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    pub(crate) fn unreachable(attempt: Attempt<'_>, why: &str) -> Self {
        Self::Unreachable {
            verb: attempt.verb,
            resource: attempt.resource,
            name: attempt.name.to_owned(),
            why: shorten(why),
        }
    }

    pub(crate) fn of(attempt: Attempt<'_>, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::refused(attempt, status),
            kube::Error::SerdeError(_)
            | kube::Error::BuildRequest(_)
            | kube::Error::FromUtf8(_)
            | kube::Error::HttpError(_) => Self::other(attempt, &chain(error)),
            _ => Self::unreachable(attempt, &chain(error)),
        }
    }

    pub(crate) fn refused(attempt: Attempt<'_>, status: &Status) -> Self {
        let resource = attempt.resource;
        let name = attempt.name.to_owned();
        let message = status.message.as_str();
        match (status.code, status.reason.as_str()) {
            (401, _) => Self::Unauthorized,
            (403, _) if terminating(status) => Self::Gone { resource, name },
            // A quota and an admission webhook answer 403 too; only a missing right says "cannot".
            (403, _) if message.contains(" cannot ") => Self::Forbidden {
                who: who(message),
                verb: attempt.verb,
                resource,
                group: attempt.group,
                name,
            },
            (404, _) if kind_of(status) == "namespaces" && resource != "namespaces" => {
                Self::Gone { resource, name }
            }
            (404, _) => Self::NotFound { resource, name },
            (409, _) => Self::Conflict { resource, name },
            (413, _) | (422, _) if too_large(message) || status.code == 413 => Self::TooLarge {
                resource,
                name,
                why: shorten(message),
            },
            (422, _) if message.contains("immutable") => Self::Immutable { resource, name },
            (429 | 500..=599, _) if too_large(message) => Self::TooLarge {
                resource,
                name,
                why: shorten(message),
            },
            (429 | 500..=599, _) => Self::unreachable(attempt, message),
            _ => Self::other(attempt, message),
        }
    }

    pub(crate) fn other(attempt: Attempt<'_>, why: &str) -> Self {
        Self::Other {
            verb: attempt.verb,
            resource: attempt.resource,
            name: attempt.name.to_owned(),
            why: shorten(why),
        }
    }
}

/// Who is refused, out of `… is forbidden: User "system:serviceaccount:NAMESPACE:NAME" cannot …`.
fn who(message: &str) -> String {
    let user = message
        .split_once("User \"")
        .and_then(|(_, rest)| rest.split_once("\" cannot "));
    let Some((user, _)) = user else {
        return "who asks".to_owned();
    };
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|it| it.split_once(':'));
    match account {
        Some((namespace, name)) => format!("service account {name} of namespace {namespace}"),
        None => format!("user {user}"),
    }
}

/// The rule that is missing, as it is written in a Role.
fn remedy(verb: &str, resource: &str, group: &str, name: &str) -> String {
    let kind = match resource {
        "nodes" | "mutatingwebhookconfigurations" => "ClusterRole",
        _ => "Role",
    };
    // A right to create cannot be bound to a name: the API server does not look at it then.
    let names = if resource == "configmaps" && verb != "create" {
        format!(", resourceNames: [{name}]")
    } else {
        String::new()
    };
    format!(
        "add {{apiGroups: [\"{group}\"], resources: [{resource}]{names}, verbs: [{verb}]}} to its {kind}"
    )
}

fn kind_of(status: &Status) -> &str {
    status.details.as_ref().map_or("", |details| &details.kind)
}

fn terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
        || status.message.contains("is being terminated")
}

fn too_large(message: &str) -> bool {
    ["Too long", "too large", "larger than"]
        .iter()
        .any(|text| message.contains(text))
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    crate::telemetry::one_line(error, TEXT)
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(user: &str) -> String {
        let mut status = Status::failure(
            &format!(
                "configmaps \"drey-a\" is forbidden: User \"{user}\" cannot get resource \"configmaps\""
            ),
            "Forbidden",
        );
        status.code = 403;
        let attempt = Attempt {
            verb: "get",
            resource: "configmaps",
            group: "",
            name: "drey-a",
        };
        KubeError::refused(attempt, &status).to_string()
    }

    #[test]
    fn a_missing_right_names_who_has_not_got_it_and_the_rule() {
        let rule = r#"add {apiGroups: [""], resources: [configmaps], resourceNames: [drey-a], verbs: [get]} to its Role"#;
        assert_eq!(
            forbidden("system:serviceaccount:prod:flink"),
            format!(
                "service account flink of namespace prod may not get configmaps drey-a: {rule}"
            )
        );
        assert_eq!(
            forbidden("jane@example.org"),
            format!("user jane@example.org may not get configmaps drey-a: {rule}")
        );
    }
}
