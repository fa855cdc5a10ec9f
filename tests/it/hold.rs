//! A TaskManager that was told to go, and what it makes of a real API server. The pods are objects without a kubelet, so
//! that each moment lasts as long as a test needs; the TaskManager is a script that ends as a JVM does, with 143.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{ApiServer, Process, eventually, run_mark, wait_until};

const MAP: &str = "configmap/drey-orders";

/// One TaskManager's pod, its JobManager's pod, and the launcher.
struct Pods<'a> {
    api: &'a ApiServer,
    task_manager: String,
    job_manager: String,
    /// The TaskManager's name in requests and answers.
    name: String,
    launcher: Process,
}

impl<'a> Pods<'a> {
    /// A JobManager that holds the lock, and a TaskManager that runs.
    fn start(api: &'a ApiServer, case: &str) -> Self {
        let (task_manager, job_manager) = (format!("tm-{case}"), format!("jm-{case}"));
        let created = [&task_manager, &job_manager].map(|name| api.create(&pod(name)));
        let [task_uid, job_uid] = created.map(|pod| pod["metadata"]["uid"].clone());
        let lock = json!({"holders": [{
            "pod": {"uid": job_uid, "name": job_manager},
            "since": "2020-01-01T00:00:00Z",
        }]});
        let data = json!({"data": {"lock.json": lock.to_string()}});
        api.patch(MAP, false, &data);
        let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.7"}});
        api.patch(&format!("pod/{task_manager}"), true, &status);
        let mut pods = Self {
            api,
            launcher: launcher(api, case, &task_manager),
            task_manager,
            job_manager,
            name: format!("tm-{}", task_uid.as_str().unwrap()),
        };
        pods.launcher.wait_for_log("TaskManager started");
        pods
    }

    /// What a kubelet does when the pod goes.
    fn delete(&self, grace: &str) {
        let name = &self.task_manager;
        let grace = format!("--grace-period={grace}");
        self.api
            .kubectl(&["delete", "pod", name, "--wait=false", &grace]);
        self.launcher.term();
    }

    fn key(&self, key: &str) -> Option<String> {
        let text = self.api.kubectl(&["get", MAP, "-o", "json"]);
        let map: Value = serde_json::from_str(&text).unwrap();
        Some(map["data"][key].as_str()?.to_owned())
    }

    /// The supervisor takes a savepoint under this id, or none any more.
    fn savepoint(&self, trigger: Option<&str>) {
        let intent = trigger.map(|trigger| {
            json!({
                "trigger": trigger, "kind": {"stop": {"drain": false}}, "reason": "shutdown", "job-id": "0".repeat(32),
                "stored": "2020-01-01T00:00:00Z", "deadline": "2030-01-01T00:00:00Z",
            })
        });
        let jobs = json!({"application": {"lineage": 0, "intent": intent, "history": []}});
        let pointer = json!({"format": 1, "cluster-id": "orders", "generation": 1, "jobs": jobs});
        let data = json!({"data": {"pointer.json": pointer.to_string()}});
        self.api.patch(MAP, false, &data);
    }

    fn answer(&self, text: Option<&str>) {
        let name = &self.name;
        let data = json!({format!("answer.{name}"): text, format!("request.{name}"): null});
        self.api.patch(MAP, false, &json!({ "data": data }));
    }

    /// Waits for its request.
    fn asks(&mut self) -> Value {
        let key = format!("request.{}", self.name);
        let text = eventually("the TaskManager asks", || {
            assert!(self.launcher.is_running(), "{}", self.launcher.log());
            self.key(&key)
        });
        serde_json::from_str(&text).unwrap()
    }

    /// It ends as its JVM does, for this reason, and leaves nothing behind.
    fn goes(&mut self, why: &str) {
        assert_eq!(self.launcher.exit_code(), 143);
        self.launcher
            .wait_for_logs(&["TaskManager is told to end", why]);
    }

    fn left_nothing(&self) {
        for kind in ["request", "answer"] {
            assert_eq!(self.key(&format!("{kind}.{}", self.name)), None, "{kind}");
        }
    }
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            // With a node, a deleted pod waits for its kubelet, which never comes.
            "nodeName": "none",
            "terminationGracePeriodSeconds": 120,
            "containers": [{"name": "flink-main-container", "image": "none"}],
        },
    })
}

fn launcher(api: &ApiServer, case: &str, pod: &str) -> Process {
    let script = api.path("taskmanager.sh");
    fs::write(
        &script,
        "#!/bin/sh\ntrap 'exit 143' TERM\nwhile :; do sleep 0.05; done\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (run, this) = run_mark();
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env(run, this)
        .env("KUBECONFIG", api.kubeconfig())
        .env("DREY_POD_NAME", pod)
        .env("DREY_CLUSTER_ID", "orders")
        .env("DREY_TASK_MANAGER_HOLD", "1s")
        .args(["launch", "--"])
        .arg(script)
        .arg("start-foreground");
    Process::start(&mut command, api.path(&format!("launch-{case}.log")))
}

#[test]
fn a_task_manager_stays_until_it_is_answered_its_job_manager_is_gone_or_its_time_is_spent() {
    let api = ApiServer::start();
    api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "drey-orders"},
    }));

    let mut pods = Pods::start(&api, "answered");
    // Of an earlier life of its container.
    pods.answer(Some("released"));
    pods.delete("60");
    let request = pods.asks();
    assert_eq!(
        (&request["kind"], &request["pod"], &request["ip"]),
        (&json!("release"), &json!("tm-answered"), &json!("10.0.0.7"))
    );
    pods.launcher.wait_for_log("may need this TaskManager");
    let id = "81f8793e95f481f8793e95f481f8793e";
    let told = |what: &str| format!("{what} trigger_id={id}");
    pods.savepoint(Some(id));
    pods.launcher
        .wait_for_log(&told("TaskManager is kept for a savepoint"));
    pods.savepoint(None);
    pods.launcher
        .wait_for_log(&told("Savepoint that the TaskManager was kept for is over"));
    pods.answer(Some("released"));
    pods.goes("the supervisor has answered");
    pods.left_nothing();

    let mut pods = Pods::start(&api, "job-manager-gone");
    pods.delete("60");
    pods.asks();
    let ended = json!({"status": {"phase": "Failed"}});
    api.patch(&format!("pod/{}", pods.job_manager), true, &ended);
    pods.goes("no JobManager runs");
    pods.left_nothing();

    let mut pods = Pods::start(&api, "none-holds");
    api.patch(MAP, false, &json!({"data": {"lock.json": "{}"}}));
    pods.delete("60");
    pods.goes("no JobManager runs");
    pods.left_nothing();

    let mut pods = Pods::start(&api, "spent");
    pods.delete("7");
    pods.goes("the grace period is spent");
    pods.left_nothing();

    let mut pods = Pods::start(&api, "map-gone");
    api.kubectl(&["delete", MAP]);
    pods.delete("60");
    pods.goes("cannot be reached");
}

#[test]
fn a_task_manager_goes_after_seconds_when_the_api_server_does_not_answer() {
    let api = ApiServer::start();
    api.create(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "drey-orders"},
    }));
    let mut pods = Pods::start(&api, "away");
    api.pause();
    pods.launcher.term();
    pods.goes("cannot be reached");
    wait_until("its script is gone", || !pods.launcher.is_running());
}
