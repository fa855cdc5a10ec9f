//! The API server does not answer: Flink runs on, the same pod goes on, and what was written meanwhile is merged.

use crate::support::{Job, Mode, Version, eventually, status, wait_until};

#[test]
fn the_same_pod_resumes_while_the_api_server_is_away_and_the_pointer_follows_when_it_is_back() {
    let job = Job::alone("api-away", Mode::Standalone, Version::v2());
    let before = job.start_and_work();
    let run = || {
        let map = job.namespace.get(&["configmap", "drey-example"])?;
        let pointer: serde_json::Value =
            serde_json::from_str(map["data"]["pointer.json"].as_str()?).ok()?;
        Some(pointer["jobs"]["application"]["run"]["id"].to_string())
    };
    let first = eventually("the pointer", run);
    let pod = job.namespace.pod(&before.pod);
    let container = status(&pod, job.container())["containerID"]
        .as_str()
        .unwrap()
        .to_owned();

    let away = job.namespace.node.freeze_api_server();
    job.namespace.node.kill_container(&container);
    // The kubelet starts the container again without asking anybody.
    let id = eventually("the job in the same pod", || {
        let (id, state) = before.rest.job()?;
        (id != before.job && state == "RUNNING").then_some(id)
    });
    wait_until("every task to run", || before.rest.all_running(&id));
    drop(away);

    wait_until("the new run in the pointer", || {
        run().is_some_and(|run| run != first)
    });
    job.resumes_from_a_checkpoint(&before);
}
