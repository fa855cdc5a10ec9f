//! Flink's configuration is edited while the job runs: the job is stopped with a savepoint and runs on with the new
//! configuration in the same pod, or goes on as it was, or gets the last good configuration back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Job, Mode, Run, Version, eventually, flink_container, pod_spec, wait_until};

/// A key that Flink shows and that changes nothing.
const KEY: &str = "web.history";

fn supervised(purpose: &str, mode: Mode, version: Version) -> Job {
    Job::only(purpose, mode, version).edit(|object, component| {
        if component == "jobmanager" {
            let sidecar = &mut pod_spec(object)["initContainers"][1];
            let env = sidecar["env"].as_array_mut().unwrap();
            env.push(json!({"name": "DREY_ON_CONFIG_CHANGE", "value": "restart"}));
        }
    })
}

fn edit(job: &Job, map: &str, change: impl Fn(&str) -> String) {
    let found = job.namespace.get(&["configmap", map]).unwrap();
    let text = found["data"]["config.yaml"].as_str().unwrap();
    let patch = json!({"data": {"config.yaml": change(text)}}).to_string();
    job.kubectl(&["patch", "configmap", map, "--type=merge", "--patch", &patch]);
}

fn with(line: &str) -> impl Fn(&str) -> String {
    move |text| format!("{}\n{line}\n", text.trim_end())
}

fn in_effect(run: &Run, key: &str) -> Option<String> {
    let all = run.rest.try_get("/jobmanager/config")?;
    let found = all.as_array()?.iter().find(|entry| entry["key"] == key)?;
    Some(found["value"].as_str()?.to_owned())
}

/// The job's next life, in the same pod.
fn runs_again(job: &Job, before: &Run) -> Run {
    let after = job.resumes(before);
    assert_eq!(after.pod, before.pod, "no other pod is needed");
    after
}

/// The configuration is known to work, and so would be gone back to.
fn wait_known(job: &Job) {
    wait_until("the good configuration kept", || {
        let map = job
            .namespace
            .get(&["configmap", "drey-example"])
            .unwrap_or_default();
        let text = map["data"]["configuration.json"]
            .as_str()
            .unwrap_or_default();
        let record: Value = serde_json::from_str(text).unwrap_or_default();
        record["good"].is_object() && record["trial"].is_null()
    });
}

/// All TaskManagers have the new configuration, with three slots each.
fn wait_slots(run: &Run) {
    eventually("TaskManagers of the new configuration", || {
        let all = run.rest.try_get("/taskmanagers")?;
        let all = all["taskmanagers"].as_array()?.clone();
        let new = |task_manager: &Value| task_manager["slotsNumber"] == 3;
        (!all.is_empty() && all.iter().all(new)).then_some(())
    });
}

/// TaskManagers as well: Flink makes them, so those of the old configuration are ended.
#[test]
fn an_edited_configuration_takes_effect_in_native_mode() {
    let job = supervised("config-native", Mode::Native, Version::v2());
    let before = job.start_and_work();
    wait_known(&job);

    edit(&job, "flink-config-example", |text| {
        let slots = "numberOfTaskSlots: ";
        let (start, rest) = text.split_once(slots).unwrap();
        let end = rest.find(|c: char| !"\"'0123456789".contains(c)).unwrap();
        with(&format!("{KEY}: 3"))(&format!("{start}{slots}3{}", &rest[end..]))
    });

    let after = runs_again(&job, &before);
    assert_eq!(in_effect(&after, KEY).as_deref(), Some("3"));
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    job.wait_told("ConfigApplied", "works");
    wait_slots(&after);
    // On the pod and on its owner.
    let told: BTreeSet<String> = job.told("ConfigChanged").into_iter().collect();
    assert_eq!(told.len(), 1, "one restart: {told:?}");
    job.stop_and_judge(1000);
}

/// With the job's arguments in a ConfigMap of their own, which come after those that the job was deployed with.
fn with_arguments(job: Job) -> Job {
    let text = "--name\nfirst\n";
    job.namespace.apply(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "arguments"}, "data": {"job": text}}),
    ]);
    job.edit(|object, component| {
        if component == "jobmanager" {
            let volume = json!({"name": "arguments", "configMap": {"name": "arguments"}});
            pod_spec(object)["volumes"]
                .as_array_mut()
                .unwrap()
                .push(volume);
            let flink = flink_container(object);
            let add = |list: &mut Value, entry| list.as_array_mut().unwrap().push(entry);
            add(
                &mut flink["volumeMounts"],
                json!({"name": "arguments", "mountPath": "/etc/job"}),
            );
            let file = json!({"name": "DREY_ARGUMENTS_FILE", "value": "/etc/job/job"});
            add(&mut flink["env"], file);
        }
    })
}

fn job_name(run: &Run) -> Option<String> {
    let job = run.rest.try_get(&format!("/jobs/{}", run.job))?;
    Some(job["name"].as_str()?.to_owned())
}

/// High availability by itself would go on with the job graph and the checkpoint that its metadata remember.
#[test]
fn an_edited_configuration_and_edited_arguments_win_over_the_metadata_of_high_availability() {
    let job = supervised("config-ha", Mode::Native, Version::v2())
        .set("high-availability.type", "kubernetes")
        .set("high-availability.storageDir", "file:///state/ha");
    let job = with_arguments(job);
    let before = job.start_and_work();
    wait_known(&job);
    assert_eq!(job_name(&before).as_deref(), Some("first"));

    let arguments = json!({"data": {"job": "--name\nsecond\n"}}).to_string();
    job.kubectl(&[
        "patch",
        "configmap",
        "arguments",
        "--type=merge",
        "--patch",
        &arguments,
    ]);
    edit(&job, "flink-config-example", with(&format!("{KEY}: 3")));

    job.wait_told("ConfigApplied", "works");
    // With high availability the job keeps its id.
    let after = job.wait_running();
    assert_eq!((&after.pod, &after.job), (&before.pod, &before.job));
    assert_eq!(in_effect(&after, KEY).as_deref(), Some("3"));
    assert_eq!(job_name(&after).as_deref(), Some("second"));
    let restored = after.restored().unwrap();
    assert!(restored.starts_with("/state/savepoints/"), "{restored}");
    let told: BTreeSet<String> = job.told("ConfigChanged").into_iter().collect();
    assert_eq!(told.len(), 1, "one restart: {told:?}");
    job.stop_and_judge(1000);
}

fn parallelism(run: &Run) -> Vec<u64> {
    let job = run.rest.try_get(&format!("/jobs/{}", run.job));
    let vertices = job.as_ref().and_then(|job| job["vertices"].as_array());
    let of = |vertex: &Value| vertex["parallelism"].as_u64();
    vertices.into_iter().flatten().filter_map(of).collect()
}

/// The job neither stops nor changes its pod or id: 1 -> 4 -> 2 while it runs.
#[test]
fn an_edited_parallelism_takes_effect_in_place() {
    let job = supervised("config-parallelism", Mode::Native, Version::v2())
        .set("jobmanager.scheduler", "adaptive")
        .set(
            "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
            "0s",
        )
        .set("taskmanager.numberOfTaskSlots", "4")
        .set("parallelism.default", "1");
    let run = job.start_and_work();
    wait_known(&job);
    assert_eq!(parallelism(&run), [1, 1]);
    let wanted = |text: &str, parallelism: u32| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("parallelism.default"));
        let kept: Vec<&str> = lines.collect();
        format!("{}\nparallelism.default: {parallelism}\n", kept.join("\n"))
    };

    for (before, after) in [(1, 4), (4, 2)] {
        edit(&job, "flink-config-example", |text| wanted(text, after));
        job.wait_told("ConfigChanged", &format!("from {before} to {after}"));
        eventually("all tasks with the new parallelism", || {
            (parallelism(&run) == [u64::from(after); 2]).then_some(())
        });
        wait_known(&job);
        run.wait_for_checkpoints(1);
    }
    let now = job.wait_running();
    assert_eq!((&now.pod, &now.job), (&run.pod, &run.job), "no restart");
    assert_eq!(job.told("ConfigRolledBack"), [""; 0]);
    job.stop_and_judge(1000);
}

#[test]
fn in_standalone_mode_a_good_edit_takes_effect_a_bad_one_is_refused_and_a_deadly_one_rolled_back() {
    let job = supervised("config-standalone", Mode::Standalone, Version::v2());
    job.namespace.apply(&[
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "config"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"],
                "resourceNames": ["example-config"], "verbs": ["list", "watch"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "config"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "config"},
            "subjects": [{"kind": "ServiceAccount", "name": "flink"}]}),
    ]);
    let before = job.start_and_work();
    wait_known(&job);

    edit(&job, "example-config", |text| {
        let text = text.replace("numberOfTaskSlots: 2", "numberOfTaskSlots: 3");
        with(&format!("{KEY}: 3"))(&text)
    });
    let after = runs_again(&job, &before);
    assert_eq!(in_effect(&after, KEY).as_deref(), Some("3"));
    wait_slots(&after);
    job.wait_told("ConfigApplied", "works");

    edit(
        &job,
        "example-config",
        with("taskmanager.memory.managed.size: plenty"),
    );
    job.wait_told(
        "ConfigRefused",
        "taskmanager.memory.managed.size is not a size",
    );
    after.wait_for_checkpoints(1);
    assert_eq!(job.wait_running().job, after.job, "the job was disturbed");

    edit(&job, "example-config", |text| {
        let text = text.replace("taskmanager.memory.managed.size: plenty", "");
        with("blob.storage.directory: /proc/nowhere")(&text)
    });
    job.wait_told("ConfigRolledBack", "has ended");
    let back = runs_again(&job, &after);
    assert_eq!(in_effect(&back, "blob.storage.directory"), None);
    assert_eq!(
        in_effect(&back, KEY).as_deref(),
        Some("3"),
        "the last good one"
    );
    job.stop_and_judge(1000);
}
