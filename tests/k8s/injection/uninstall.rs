//! The chart is upgraded and taken away.

use super::is_injected;
use crate::support::{JOB_MANAGER, Job, Mode, Version, Webhook, eventually, wait_until};

/// What is there of the chart and of what the webhook has made.
fn installed() -> Vec<String> {
    let everywhere = "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                      clusterroles,clusterrolebindings";
    let there = "all,secrets,leases,serviceaccounts,roles,rolebindings,poddisruptionbudgets";
    let mut names = Vec::new();
    for kinds in [everywhere, there] {
        let said = Webhook::kubectl(&["get", kinds, "--output=name"]);
        let ours = said.lines().filter(|name| name.contains("drey"));
        names.extend(ours.map(ToOwned::to_owned));
    }
    names
}

/// Whom API servers trust, for each entry.
fn authorities() -> String {
    let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
    Webhook::kubectl(&[
        "get",
        "mutatingwebhookconfiguration",
        "drey",
        "--output",
        path,
    ])
}

#[test]
fn an_upgrade_keeps_the_certificate_and_an_uninstall_leaves_the_jobs_and_their_pointers() {
    let job = Job::only_alone("uninstall", Mode::Standalone, Version::v1()).injected();
    let before = job.start_and_work();
    let trusted = authorities();
    assert!(Webhook::answers_strangers());

    let ca = format!(
        "--from-file=ca.crt={}",
        job.namespace.node.client_ca().display()
    );
    Webhook::kubectl(&["create", "configmap", "api-servers", &ca]);
    Webhook::upgrade(&[
        "replicas=2",
        "log.format=json",
        "webhook.namespaceOptIn=false",
        "certificates.clientCAConfigMap=api-servers",
    ]);
    wait_until("strangers not to be answered", || {
        !Webhook::answers_strangers()
    });
    let kept = authorities();
    assert_eq!(kept.split_whitespace().count(), 2, "not for both entries");
    assert!(trusted.starts_with(&kept), "another authority");

    Webhook::uninstall();
    // Its pods answer for a while after they were told to go.
    wait_until("nothing of the chart to be left", || installed().is_empty());
    Webhook::kubectl(&["delete", "configmap", "api-servers"]);
    assert_eq!(job.wait_running().job, before.job);
    assert!(job.namespace.get(&["configmap", "drey-example"]).is_some());

    // Nobody injects the replacement. The tripwire keeps it from starting from empty state.
    job.namespace.evict(&before.pod);
    let plain = eventually("the end of a JobManager without Drey", || {
        let pods = job.namespace.pods(JOB_MANAGER);
        let pod = pods.into_iter().find(|pod| !is_injected(pod))?;
        let status = &pod["status"]["containerStatuses"][0];
        status["lastState"]["terminated"]["exitCode"].as_u64()?;
        Some(pod["metadata"]["name"].as_str()?.to_owned())
    });

    Webhook::install();
    job.kubectl(&["delete", "pod", &plain, "--wait=false"]);
    job.resumes_from_a_savepoint(&before);
}
