//! What the pods may do. Every scenario in standalone mode has the Role `drey` of `deploy/rbac.yaml` and nothing else, and
//! every namespace enforces Pod Security `restricted`.

use serde_json::json;

use crate::support::{Job, Mode, Version, pod_spec};

/// A range of user ids as OpenShift gives to a namespace.
const ARBITRARY: u32 = 1_000_730_000;

#[test]
fn the_role_grants_what_is_needed_and_nothing_else() {
    let job = Job::only("rights", Mode::Standalone, Version::v2());
    job.start();
    let account = format!("--as=system:serviceaccount:{}:flink", job.namespace.name);

    let listed = job.kubectl(&["auth", "can-i", "--list", "--no-headers", &account]);

    let mut granted: Vec<String> = listed
        .lines()
        // What every account may do: ask about itself and about the API.
        .filter(|line| !line.starts_with(' ') && !line.starts_with("selfsubject"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    granted.sort();
    assert_eq!(
        granted,
        [
            "configmaps [] [] [create]",
            "configmaps [] [drey-example] [get list watch patch]",
            "deployments.apps [] [] [get]",
            "events [] [] [create patch]",
            "jobs.batch [] [] [get]",
            "namespaces [] [] [get]",
            "pods [] [] [get list watch]",
            "replicasets.apps [] [] [get]",
            "statefulsets.apps [] [] [get]",
        ]
    );
}

#[test]
fn an_arbitrary_user_id_can_run_it() {
    let job = Job::new("arbitrary-user", Mode::Standalone, Version::v1()).edit(|object, _| {
        pod_spec(object)["securityContext"] = json!({
            "runAsNonRoot": true, "runAsUser": ARBITRARY, "runAsGroup": 0, "fsGroup": ARBITRARY,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
    });
    let before = job.start_and_work();

    job.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    job.resumes_from_a_savepoint(&before);
}
