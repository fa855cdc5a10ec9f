//! Why something could not be done with a job, as an exit code and as what can be done about it.

use crate::kubernetes::{KubeError, PointerMapError};

/// Why something could not be done with a job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It may work later.
    #[error("{0}")]
    Later(String),
    /// It was refused, or has failed.
    #[error("{0}")]
    Refused(String),
    /// What was asked for cannot be done.
    #[error("{0}")]
    Usage(String),
}

impl From<KubeError> for JobError {
    fn from(error: KubeError) -> Self {
        match error {
            // Whoever runs the pipeline needs what its own Role has.
            KubeError::Forbidden {
                who,
                verb,
                resource,
                group,
                name,
            } => Self::Refused(format!(
                "{who} may not {verb} {resource} {name}: add {{apiGroups: [\"{group}\"], resources: [{resource}], verbs: \
                 [{verb}]}} to its Role, as in deploy/rbac-ci.yaml"
            )),
            KubeError::Unauthorized => Self::Refused(
                "the Kubernetes API server does not accept the user of the kubeconfig: check its token or certificate"
                    .to_owned(),
            ),
            KubeError::Setup(_) => Self::Usage(error.to_string()),
            error if error.is_retryable() => Self::Later(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<PointerMapError> for JobError {
    fn from(error: PointerMapError) -> Self {
        match error {
            PointerMapError::Kube(error) => error.into(),
            PointerMapError::Conflict(_) => Self::Later(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}
