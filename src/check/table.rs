//! Every check that there is. The table in README is made from it.

use serde::Serialize;

/// What a check is about, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The API server.
    Kubernetes,
    /// What an installation needs.
    Installation,
    /// What is installed.
    Webhook,
    /// Flink's pods.
    Pods,
    /// What a restart depends on.
    Jobs,
}

impl Group {
    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Kubernetes => "Kubernetes",
            Self::Installation => "Installation",
            Self::Webhook => "Webhook",
            Self::Pods => "Pods",
            Self::Jobs => "Jobs",
        }
    }
}

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Stable, for machines and for links.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// For people.
    pub title: &'static str,
    /// What it looks at, for README.
    pub meaning: &'static str,
}

impl Check {
    const fn new(
        id: &'static str,
        group: Group,
        title: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            id,
            group,
            title,
            meaning,
        }
    }

    /// Where it is described.
    #[must_use]
    pub fn doc(&self) -> String {
        format!("README.md#check-{}", self.id)
    }
}

macro_rules! checks {
    ($($name:ident = $id:literal, $group:ident, $title:literal, $meaning:literal;)*) => {
        $(pub(super) const $name: Check = Check::new($id, Group::$group, $title, $meaning);)*

        /// All of them, in the order of README.
        pub const CHECKS: &[Check] = &[$($name),*];
    };
}

checks! {
    API_SERVER = "api-server", Kubernetes, "API server",
        "The kubeconfig works and the API server answers. If it does not answer, the exit code is 75.";
    KUBERNETES_VERSION = "kubernetes-version", Kubernetes, "Kubernetes version",
        "`--pre`: at least 1.28, whose match conditions keep the pods of others independent of the webhook.";
    NATIVE_SIDECARS = "native-sidecars", Kubernetes, "Native sidecars",
        "`--pre`: at least 1.29; before that the sidecar is an ordinary container.";
    ADMISSION_WEBHOOKS = "admission-webhooks", Kubernetes, "Mutating webhooks",
        "`--pre`: the API server serves `MutatingWebhookConfiguration`. Whether it also calls webhooks is seen only afterwards, by `webhook-answers`.";
    ADMISSION_POLICY = "admission-policy", Kubernetes, "Admission policies",
        "`--pre`: the API server serves `ValidatingAdmissionPolicy` (1.30), the optional policy that refuses pods which were not injected.";
    RIGHTS_TO_INSTALL = "rights-to-install", Installation, "Rights to install",
        "`--pre`: you may create what the chart creates.";
    OTHER_INSTALLATION = "other-installation", Installation, "Other installations",
        "`--pre`: nothing else has Drey's names: its webhook configuration or its `…drey.io` webhooks.";
    WAITING_PODS = "waiting-pods", Installation, "Pods that wait for Drey",
        "`--pre`: no pod has opted in and runs without Drey, and none has a foreign container named `drey`.";
    WEBHOOK_REACHABLE = "webhook-reachable", Installation, "Way to the webhook",
        "`--pre`: what is known of the way from the API server to the webhook. In managed clusters a firewall or the pod network can be in between.";
    WEBHOOK_CONFIGURATION = "webhook-configuration", Webhook, "Webhook configuration",
        "The MutatingWebhookConfiguration `drey` has its entries, with failure policy and match conditions.";
    WEBHOOK_REPLICAS = "webhook-replicas", Webhook, "Webhook pods",
        "The webhook's Deployment has its replicas, and they are ready.";
    WEBHOOK_CA = "webhook-ca", Webhook, "CA bundle",
        "Each entry has a `caBundle`, and the certificate in Secret `drey-webhook-tls` verifies with it, as the API server does it.";
    WEBHOOK_CERTIFICATE = "webhook-certificate", Webhook, "Certificate",
        "The webhook's certificate is valid, and more than 30 % of its lifetime are left: it is renewed in time.";
    WEBHOOK_ANSWERS = "webhook-answers", Webhook, "Webhook answers",
        "A JobManager and a TaskManager pod are created in a dry run, and come back injected. Nothing is stored.";
    WEBHOOK_VERSION = "webhook-version", Webhook, "Webhook version",
        "The webhook has the version of this program.";
    PODS_INJECTED = "pods-injected", Pods, "Opted-in pods are injected",
        "Each running pod that opted in, itself or by its namespace, has Drey in it.";
    PODS_VERSION = "pods-version", Pods, "Version in the pods",
        "What is in the pods has the webhook's version.";
    GRACE_PERIOD = "grace-period", Pods, "Grace period",
        "The JobManager's grace period is enough for a savepoint that takes as long as the last one, and `DREY_SHUTDOWN_TIMEOUT` fits into it.";
    TASK_MANAGER_GRACE = "task-manager-grace", Pods, "TaskManagers' grace period",
        "It is at least the JobManager's: without TaskManagers no savepoint completes.";
    POINTER = "pointer", Jobs, "Pointer",
        "The ConfigMap `drey-CLUSTER_ID` can be read and understood, and is not frozen.";
    RESTORE_POINT = "restore-point", Jobs, "Newest restore point",
        "Its `_metadata` is read to the last byte, with the credentials of the environment or of Flink's configuration.";
    SAVEPOINT_DIR = "savepoint-dir", Jobs, "Savepoint directory",
        "There is one, it is not on the pod's own disk, and the pods can write, list and read it: proved by the last savepoint, which the sidecar has read back.";
    CHECKPOINTING = "checkpointing", Jobs, "Checkpoints",
        "An interval is configured, and a directory. Drey itself keeps them (`RETAIN_ON_CANCELLATION`).";
    HEALTH = "health", Jobs, "Health",
        "The job gets on: no restart loop and no stuck checkpoints, as its supervisor has noted in the pointer; or it is suspended by its annotation.";
    RETENTION = "retention", Jobs, "Retention",
        "Old savepoints that are to be deleted are, within the hour.";
    HIGH_AVAILABILITY = "high-availability", Jobs, "High availability",
        "It has a storage directory, and several JobManagers have high availability.";
    CONFIGURATION = "configuration", Jobs, "Flink's configuration",
        "What stands in the ConfigMap, or in the file with the job's arguments, is in effect: not left for the next start by `on-config-change`, not refused, not rolled back.";
    RESCALING = "rescaling", Jobs, "Rescaling",
        "Whether the parallelism can be changed while the job runs, and for how long that lasts; nothing is said with the default scheduler.";
    SERVICE_ACCOUNT = "service-account", Jobs, "Rights of the service account",
        "Flink's service account may do what `deploy/rbac.yaml` grants.";
}
