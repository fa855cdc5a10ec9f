//! Two JobManagers with Kubernetes HA: the leader's supervisor alone acts, the standby goes on with the same job, and after
//! a stop-with-savepoint nothing runs from what Flink's metadata remember.

use serde_json::Value;

use crate::support::{JOB_MANAGER, Job, Mode, Rest, Run, Version, eventually, wait_until};

/// The leader that Flink's election names, once every task runs there.
fn wait_leader(job: &Job, wanted: impl Fn(&Run) -> bool) -> Run {
    eventually("a leader with every task running", || {
        let ip = leader_ip(job)?;
        let pods = job.namespace.pods(JOB_MANAGER);
        let pod = pods
            .iter()
            .find(|pod| pod["status"]["podIP"] == ip.as_str())?;
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let rest = Rest::of(&job.namespace, pod)?;
        let (id, state) = rest.job()?;
        let run = Run {
            pod: pod["metadata"]["name"].as_str()?.to_owned(),
            job: id,
            rest,
        };
        (state == "RUNNING" && wanted(&run) && run.rest.all_running(&run.job)).then_some(run)
    })
}

fn leader_ip(job: &Job) -> Option<String> {
    let map = job
        .namespace
        .get(&["configmap", "example-cluster-config-map"])?;
    let leader = map["data"]["org.apache.flink.k8s.leader.restserver"].as_str()?;
    let (_, address) = leader.split_once("//")?;
    Some(address.split(':').next()?.to_owned())
}

fn start(purpose: &str, version: Version) -> (Job, Run) {
    let job = Job::new(purpose, Mode::HighAvailability, version);
    job.start();
    wait_until("two JobManagers", || ready(&job) == 2);
    let leader = wait_leader(&job, |_| true);
    leader.wait_for_checkpoints(2);
    (job, leader)
}

fn ready(job: &Job) -> usize {
    let pods = job.namespace.pods(JOB_MANAGER);
    let ready = |pod: &&Value| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        statuses.is_some_and(|all| all.iter().all(|it| it["ready"] == true))
    };
    pods.iter().filter(ready).count()
}

#[test]
fn an_evicted_leader_takes_a_checkpoint_and_the_standby_goes_on_with_the_same_job() {
    let (job, before) = start("ha-evict", Version::v2());

    job.namespace.evict(&before.pod);

    let after = wait_leader(&job, |run| run.pod != before.pod);
    assert_eq!(after.job, before.job, "the same job goes on");
    let restored = after.restored().expect("not from empty state");
    assert!(restored.starts_with("/state/checkpoints/"), "{restored}");
    assert!(!job.told("CheckpointStarted").is_empty());
    after.wait_for_checkpoints(2);
    job.stop_and_judge(1000);
}

#[test]
fn a_rollout_of_both_takes_a_changed_configuration_over_from_the_savepoint() {
    let (job, before) = start("ha-rollout", Version::v2());

    // High availability by itself would go on with the job graph as it was submitted.
    let properties = "FLINK_PROPERTIES=jobmanager.rpc.address: $(POD_IP)
kubernetes.cluster-id: example
kubernetes.namespace: $(NAMESPACE)
high-availability.type: kubernetes
high-availability.storageDir: file:///state/ha
execution.checkpointing.interval: 700ms";
    let container = "--containers=jobmanager";
    job.kubectl(&["set", "env", job.deployment(), container, properties]);
    job.kubectl(&["rollout", "status", job.deployment(), "--timeout=240s"]);

    let after = wait_leader(&job, |run| run.pod != before.pod);
    let restored = after.restored().expect("not from empty state");
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    let path = format!("/jobs/{}/checkpoints/config", after.job);
    let config = after
        .rest
        .try_get(&path)
        .expect("the checkpoints' configuration");
    assert_eq!(config["interval"], 700, "the configuration is the old one");
    after.wait_for_checkpoints(2);
    job.stop_and_judge(1000);
}

#[test]
fn scaled_to_0_and_back_both_resume_from_the_savepoint_and_not_from_the_metadata() {
    let (job, before) = start("ha-scale", Version::v1());

    job.kubectl(&["scale", job.deployment(), "--replicas=0"]);
    job.wait_no_job_manager();
    let savepoint = job.pointer().expect("a savepoint is recorded");
    job.kubectl(&["scale", job.deployment(), "--replicas=2"]);

    let after = wait_leader(&job, |run| run.pod != before.pod);
    assert_eq!(after.restored(), Some(savepoint));
    after.wait_for_checkpoints(2);
    job.stop_and_judge(1000);
}

#[test]
fn a_killed_leader_is_replaced_by_the_standby_and_comes_back_as_one() {
    let (job, before) = start("ha-kill", Version::v2());

    job.kill_container(&before.pod, job.container());

    let after = wait_leader(&job, |_| true);
    assert_eq!(after.job, before.job, "the same job goes on");
    after.wait_for_checkpoints(2);
    wait_until("two JobManagers again", || ready(&job) == 2);
    job.stop_and_judge(1000);
}
