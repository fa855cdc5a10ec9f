//! A person edits the pointer's ConfigMap while the job runs: the job runs on, each edit is answered with an event, and what
//! was not meant as a choice of the next restore point is put back.

use serde_json::{Value, json};

use crate::support::{Job, Mode, Run, Version, plain_path, wait_until};

const MAP: &str = "configmap/drey-example";

fn edit(job: &Job, patch: &Value) {
    job.kubectl(&["patch", MAP, "--type=merge", "--patch", &patch.to_string()]);
}

/// Has a savepoint taken by the supervisor of a job that runs on.
fn savepoint(job: &Job, run: &Run) -> String {
    let command = ["exec", &run.pod, "--container=drey", "--"];
    let said = job.kubectl(&[&command[..], &["/drey/drey", "savepoint"]].concat());
    plain_path(said.trim())
}

/// Whether the map is as Drey keeps it: with this restore point, the pointer, and the lock that the JobManager's pod holds.
fn is_whole(job: &Job, run: &Run, path: &str) -> bool {
    let map = job.namespace.get(&[MAP]).unwrap_or_default();
    let json = |key: &str| -> Value {
        let text = map["data"][key].as_str().unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    };
    let stands = map["data"]["savepoint-path"].as_str();
    stands.is_some_and(|stands| plain_path(stands) == path)
        && json("pointer.json")["jobs"]["application"]["run"].is_object()
        && json("lock.json")["holders"][0]["pod"]["name"] == run.pod.as_str()
}

#[test]
fn edits_of_the_pointer_by_hand_never_disturb_the_job_and_a_path_that_was_set_counts() {
    let job = Job::new("edits", Mode::Standalone, Version::v2());
    let run = job.start_and_work();
    let chosen = savepoint(&job, &run);
    let newest = savepoint(&job, &run);
    let wait_whole = |what: &str| wait_until(what, || is_whole(&job, &run, &newest));

    edit(&job, &json!({"data": {"savepoint-path": "/no/such/path"}}));
    job.wait_told("PointerRefused", "/no/such/path");
    wait_whole("garbage to be replaced");

    edit(&job, &json!({"data": {"savepoint-path": ""}}));
    job.wait_told("PointerRestored", "The key savepoint-path was removed");
    wait_whole("an emptied key to be filled");

    edit(
        &job,
        &json!({"data": {"pointer.json": "[]", "lock.json": "{"}}),
    );
    job.wait_told("PointerRestored", "pointer.json is no JSON object");
    wait_whole("damaged keys to be mended");

    edit(&job, &json!({"data": {"lock.json": null}}));
    job.wait_told("PointerRestored", "lock.json");
    wait_whole("the lock to be held again");

    edit(&job, &json!({"data": null}));
    job.wait_told("PointerRestored", "pointer.json was taken away");
    wait_whole("an emptied map to be filled");

    job.kubectl(&["delete", MAP]);
    job.wait_told("PointerRestored", "ConfigMap was deleted");
    wait_whole("a deleted map to be made again");

    edit(&job, &json!({"immutable": true}));
    job.wait_told("PointerUnwritable", "immutable");
    job.kubectl(&["delete", MAP]);
    wait_whole("an immutable map to be made again, once it is deleted");

    edit(&job, &json!({"data": {"savepoint-path": chosen}}));
    job.wait_told("PointerSet", &chosen);
    run.wait_for_checkpoints(1);
    assert_eq!(job.wait_running().job, run.job, "the job was disturbed");

    job.kubectl(&["delete", "pod", &run.pod, "--wait=false"]);
    let after = job.wait_running_again(&run);
    assert_eq!(after.restored(), Some(chosen));
}
