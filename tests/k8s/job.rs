//! What a person does with a job from outside its pods: an upgrade, a night without pods, a fork.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Job, Mode, Run, TASK_MANAGER, Version, plain_path, wait_until};

/// Runs `drey job` as a pipeline does, with nothing but a kubeconfig.
fn drey(job: &Job, args: &[&str]) -> Output {
    drey_of(job, "example", args)
}

fn drey_of(job: &Job, cluster: &str, args: &[&str]) -> Output {
    let mut command = job.namespace.node.inside(env!("CARGO_BIN_EXE_drey"));
    let namespace = format!("--namespace={}", job.namespace.name);
    let (verb, rest) = args.split_first().unwrap();
    command.args(["job", *verb, cluster, &namespace, "--timeout=4m"]);
    // The tests' own, which are no settings.
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.to_string_lossy().starts_with("DREY_TEST_")) {
        command.env_remove(name);
    }
    command.args(rest).output().unwrap()
}

/// What a `drey job` that must succeed has written to standard output.
fn done(job: &Job, args: &[&str]) -> String {
    let output = drey(job, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "drey job {args:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().to_owned()
}

fn resumed_from(job: &Job, path: &str) -> Run {
    let run = job.wait_running();
    assert_eq!(run.restored().as_deref(), Some(&*plain_path(path)));
    run
}

/// What the JobManager's JVM takes of its memory at most, by its own words.
fn heap(run: &Run) -> u64 {
    let environment = run.rest.try_get("/jobmanager/environment").unwrap();
    let options = environment["jvm"]["options"].as_array().unwrap();
    let option = |it: &Value| it.as_str()?.strip_prefix("-Xmx")?.parse().ok();
    options.iter().find_map(option).unwrap()
}

#[test]
fn an_upgrade_changes_image_and_configuration_of_a_native_cluster_in_one_rollout() {
    let job = Job::only("upgrade", Mode::Native, Version::v2());
    let before = job.start_and_work();
    let (image, largest) = (job.image_by_another_name(), heap(&before));

    let from = done(
        &job,
        &[
            "upgrade",
            "--image",
            &image,
            "--parallelism=1",
            "--set=restart-strategy.type=fixed-delay",
            "--set=jobmanager.memory.process.size=1200m",
        ],
    );

    let after = job.wait_running_again(&before);
    assert_eq!(after.restored(), Some(plain_path(&from)));
    let map = job.kubectl(&["get", "configmap/flink-config-example", "-o", "json"]);
    for changed in [&image, "restart-strategy.type", "1200m"] {
        assert!(map.contains(changed), "no {changed}: {map}");
    }
    let deployment = job.namespace.get(&[job.deployment()]).unwrap();
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let flink = containers
        .into_iter()
        .flatten()
        .find(|it| it["name"] == job.container())
        .unwrap();
    assert_eq!(flink["image"], json!(image));
    for kind in ["requests", "limits"] {
        assert_eq!(flink["resources"][kind]["memory"], "1200Mi", "{flink}");
    }
    let now = heap(&after);
    assert!(now > largest, "a heap of {now} bytes, before {largest}");
    let sets = job.namespace.get(&["replicasets"]).unwrap();
    assert_eq!(
        sets["items"].as_array().map(Vec::len),
        Some(2),
        "one rollout"
    );
    job.stop_and_judge(1000);
}

#[test]
fn a_suspended_job_has_no_pods_and_resumes_from_its_savepoint() {
    let job = Job::new("suspend", Mode::Standalone, Version::v1());
    job.start_and_work();

    let path = done(&job, &["suspend"]);
    job.wait_no_job_manager();
    job.namespace.wait_no_pods(TASK_MANAGER);
    assert_eq!(done(&job, &["suspend"]), path, "it is suspended already");

    assert_eq!(done(&job, &["resume"]), path);
    resumed_from(&job, &path);
    job.stop_and_judge(1000);
}

/// No right but to change the pointer's ConfigMap, and the pods stay.
#[test]
fn an_annotation_holds_a_job_in_its_pods_until_it_is_taken_away() {
    let job = Job::new("annotation", Mode::Native, Version::v2());
    let before = job.start_and_work();
    let annotate = |value: &str| {
        job.kubectl(&["annotate", "configmap", "drey-example", value]);
    };
    let status = |pod: &str| {
        job.kubectl(&[
            "exec",
            pod,
            "--container=drey",
            "--",
            "/drey/drey",
            "status",
        ])
    };

    annotate("drey.io/suspend=true");
    job.wait_told("Suspended", "drey.io/suspend holds the job");
    let savepoint = job.pointer().unwrap();
    assert!(savepoint.starts_with("/state/savepoints/"), "{savepoint}");
    let said = status(&before.pod);
    assert!(said.contains("Flink    is not running"), "{said}");
    assert!(said.contains("SUSPENDED"), "{said}");

    annotate("drey.io/suspend-");
    let after = resumed_from(&job, &savepoint);
    assert_ne!(after.job, before.job);
    assert_eq!(after.pod, before.pod, "the pods stay");
    let said = status(&after.pod);
    assert!(!said.contains("SUSPENDED"), "{said}");
    job.stop_and_judge(1000);
}

/// The fork writes elsewhere, and needs the rights of its own pointer beside those of its parent's.
#[test]
fn a_fork_starts_from_its_parents_savepoint_and_both_run_on() {
    let job = Job::only("fork", Mode::Standalone, Version::v2());
    let parent = job.start_and_work();
    let take = [
        "exec",
        &parent.pod,
        "--container=drey",
        "--",
        "/drey/drey",
        "savepoint",
    ];
    let savepoint = job.kubectl(&take).trim().to_owned();
    job.namespace.apply(&rights_of_branch());
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    let items: Vec<Value> = job.standalone().into_iter().map(branch).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(file.path(), list.to_string()).unwrap();

    let file = file.path().display().to_string();
    let (kubectl, namespace) = (job.namespace.node.program(), &job.namespace.name);
    let apply = [
        "start",
        "--",
        kubectl,
        "apply",
        "--namespace",
        namespace,
        "--filename",
        &file,
    ];
    let output = drey_of(&job, "branch", &apply);

    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), savepoint);
    // With its first checkpoint the fork needs nothing of its parent's any more, and takes its note away.
    let log = ["logs", "deployment/branch-jobmanager", "--container=drey"];
    wait_until("the fork to need its parent no more", || {
        let log = job.kubectl(&log);
        log.contains("The parent may delete what this fork started from")
    });
    let map = job.namespace.get(&["configmap/drey-example"]).unwrap();
    let pointer: Value =
        serde_json::from_str(map["data"]["pointer.json"].as_str().unwrap()).unwrap();
    assert_eq!(pointer["forks"]["branch"], Value::Null);
    parent.wait_for_checkpoints(2);
    assert_eq!(job.wait_running().job, parent.job, "the parent runs on");
    job.stop_and_judge(1000);
}

fn rights_of_branch() -> Vec<Value> {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["drey-branch"],
        "verbs": ["get", "list", "watch", "patch"]}]);
    let subject = json!([{"kind": "ServiceAccount", "name": "flink"}]);
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "drey-branch"});
    let kind = |kind: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": "drey-branch"}})
    };
    let (mut allowed, mut bound) = (kind("Role"), kind("RoleBinding"));
    allowed["rules"] = rules;
    (bound["roleRef"], bound["subjects"]) = (role, subject);
    vec![allowed, bound]
}

/// The same manifest for the cluster id `branch`, a fork.
fn branch(object: Value) -> Value {
    let mut text = object.to_string();
    for name in [
        "\"example\"",
        "example-jobmanager",
        "example-taskmanager",
        "example-config",
    ] {
        text = text.replace(name, &name.replace("example", "branch"));
    }
    text = text.replace("/state/out", "/state/out-of-branch");
    let mut object: Value = serde_json::from_str(&text).unwrap();
    // A FileSink has its directory in its state, and would go on in its parent's.
    let job = object.pointer_mut("/spec/template/spec/containers/0/args");
    if let Some(args) = job.and_then(Value::as_array_mut)
        && args.iter().any(|arg| arg == "--out")
    {
        args.extend([json!("--sink-uid"), json!("files-of-branch")]);
    }
    let containers = object.pointer_mut("/spec/template/spec/initContainers");
    for container in containers
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
            env.push(json!({"name": "DREY_FORK_FROM", "value": "example"}));
            env.push(json!({"name": "DREY_FORK_CONFIRMED", "value": "true"}));
            env.push(json!({"name": "DREY_ALLOW_NON_RESTORED_STATE", "value": "true"}));
        }
    }
    object
}

/// Flink's major version changes under the same state.
#[test]
fn a_job_of_flink_1_goes_on_in_flink_2() {
    let old = Job::only("flink-2", Mode::Standalone, Version::v1());
    old.start_and_work();

    let path = done(&old, &["stop", "--format=canonical"]);
    let new = old.with_version(Version::v2());
    new.start();

    resumed_from(&new, &path).wait_for_checkpoints(2);
    new.stop_and_judge(1000);
}
