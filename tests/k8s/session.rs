//! A session cluster: its jobs are stopped with savepoints when its pod goes, and the next JobManager gets each of them
//! back from its own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    JOB_MANAGER, Job, Mode, Rest, Version, eventually, flink_container, plain_path,
};

const NAMES: [&str; 2] = ["bills", "orders"];

/// The jobs of one JobManager, all of whose tasks run: their ids by name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Jobs {
    pod: String,
    ids: BTreeMap<String, String>,
}

/// Waits until every listed job runs in a pod that `wanted` wants, and has completed a checkpoint there.
fn running(cluster: &Job, wanted: impl Fn(&str) -> bool) -> (Jobs, Rest) {
    eventually("all jobs to run", || {
        let pods = cluster.namespace.pods(JOB_MANAGER);
        pods.iter().find_map(|pod| {
            let name = pod["metadata"]["name"].as_str()?.to_owned();
            if !wanted(&name) || !pod["metadata"]["deletionTimestamp"].is_null() {
                return None;
            }
            let rest = Rest::of(&cluster.namespace, pod)?;
            let jobs = jobs(&rest)?;
            let works = |id: &String| {
                let done = rest.checkpoints(id)?["counts"]["completed"].as_u64()?;
                (done > 1 && rest.all_running(id)).then_some(())
            };
            jobs.values().all(|id| works(id).is_some()).then_some((
                Jobs {
                    pod: name,
                    ids: jobs,
                },
                rest,
            ))
        })
    })
}

/// The running jobs, when they are those that are listed, each once.
fn jobs(rest: &Rest) -> Option<BTreeMap<String, String>> {
    let overview = rest.try_get("/jobs/overview")?;
    let mut all: Vec<(String, String)> = Vec::new();
    for job in overview["jobs"].as_array()? {
        let text = |key: &str| job[key].as_str().map(ToOwned::to_owned);
        if job["state"] == "RUNNING" {
            all.push((text("name")?, text("jid")?));
        }
    }
    all.sort();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    (names == NAMES).then(|| all.into_iter().collect())
}

/// Each job's newest restore point, as the pointer has it.
fn pointer(cluster: &Job) -> BTreeMap<String, String> {
    let map = cluster.namespace.get(&["configmap", "drey-example"]);
    let map = map.expect("the pointer's ConfigMap");
    let pointer: Value =
        serde_json::from_str(map["data"]["pointer.json"].as_str().unwrap()).unwrap();
    let parent = |name: &&str| {
        let path = pointer["jobs"][*name]["run"]["parent"]["path"].as_str();
        Some(((*name).to_owned(), plain_path(path?)))
    };
    NAMES.iter().filter_map(parent).collect()
}

/// Each job was restored from the savepoint that the pod before had taken of it.
fn came_back(cluster: &Job, (after, rest): &(Jobs, Rest)) {
    let chosen = pointer(cluster);
    assert_eq!(chosen.len(), NAMES.len(), "{chosen:?}");
    for (name, id) in &after.ids {
        let stats = rest.checkpoints(id).expect("checkpoint statistics");
        let restored = &stats["latest"]["restored"]["external_path"];
        let restored = plain_path(restored.as_str().expect("not from empty state"));
        assert!(restored.starts_with("/state/savepoints/"), "{restored}");
        assert_eq!(chosen.get(name), Some(&restored));
    }
}

fn stop_and_judge(cluster: &Job) {
    cluster.kubectl(&["scale", cluster.deployment(), "--replicas=0"]);
    cluster.wait_no_job_manager();
    for name in NAMES {
        let (good, verdict) = cluster.verdict_on(name, 1000);
        assert!(good, "{name}: {verdict}");
    }
}

#[test]
fn the_jobs_of_a_deleted_session_pod_come_back_in_its_replacement() {
    let cluster = Job::new("session-delete", Mode::Session, Version::v2());
    cluster.start();
    let (before, _) = running(&cluster, |_| true);

    cluster.kubectl(&["delete", "pod", &before.pod, "--wait=false"]);

    let after = running(&cluster, |pod| pod != before.pod);
    came_back(&cluster, &after);
    let told = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]);
    assert!(told.contains("JobSubmitted"), "{told}");
    stop_and_judge(&cluster);
}

/// The new pod is not Ready before it has its turn, and the old one is not told to go before the new one is Ready.
#[test]
fn a_session_cluster_behind_a_readiness_probe_gives_its_jobs_to_a_new_template() {
    let cluster =
        Job::new("session-rollout", Mode::Session, Version::v1()).edit(|object, component| {
            if component == "jobmanager" {
                flink_container(object)["readinessProbe"] =
                    json!({"tcpSocket": {"port": "rest"}, "periodSeconds": 1});
            }
        });
    cluster.start();
    let (before, _) = running(&cluster, |_| true);

    cluster.change_template();

    let after = running(&cluster, |pod| pod != before.pod);
    came_back(&cluster, &after);
    cluster.kubectl(&["rollout", "status", cluster.deployment(), "--timeout=240s"]);
    stop_and_judge(&cluster);
}
