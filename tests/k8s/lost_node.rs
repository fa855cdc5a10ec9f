//! The node under a JobManager's pod is lost: the pod's object stays, its address is silent, and nobody confirms its end.
//!
//! There is one node only, so what a lost one leaves in the API server is made by hand: a Node without a kubelet, and a pod
//! on it that holds the lock and has an address that nobody has.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{JOB_MANAGER, Job, Mode, Version, load, pod_spec, wait_until};

/// Reserved for documentation (RFC 5737): no route leads there.
const NOWHERE: &str = "192.0.2.1";

/// A job whose lock is held by the pod `lost`.
struct Lost {
    job: Job,
    /// The lost node, and what else has no namespace.
    name: String,
}

impl Lost {
    fn new(purpose: &str, break_after: &'static str) -> Self {
        let job = Job::only(purpose, Mode::Standalone, Version::v2());
        // Whose turn it is, is all that is to be seen: no TaskManager is needed.
        let job = job.edit(move |object, component| match component {
            "taskmanager" => object["spec"]["replicas"] = json!(0),
            _ => {
                let env = &mut pod_spec(object)["initContainers"][1]["env"];
                let setting = json!({"name": "DREY_LOCK_BREAK_AFTER", "value": break_after});
                env.as_array_mut().unwrap().push(setting);
            }
        });
        let name = job.namespace.name.clone();
        let lost = Self { job, name };
        lost.make_holder();
        lost
    }

    fn make_holder(&self) {
        let metadata = |name: &str| json!({"name": name});
        self.job.namespace.apply(&[
            json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata(&self.name)}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("flink")}),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": metadata("lost"),
                "spec": {
                    "nodeName": self.name, "serviceAccountName": "flink", "tolerations": [{"operator": "Exists"}],
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "jobmanager", "image": self.job.image(),
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            }),
        ]);
        let status = json!({"phase": "Running", "podIP": NOWHERE, "podIPs": [{"ip": NOWHERE}]});
        self.patch_status("pod/lost", &status);
        let pod = json!({
            "uid": self.pod()["metadata"]["uid"], "name": "lost", "ip": NOWHERE, "node": self.name,
            "template": "another",
        });
        let lock = json!({"holders": [{"pod": pod, "since": Timestamp::now()}]});
        self.job.namespace.apply(&[json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("drey-example"),
            "data": {"lock.json": lock.to_string()},
        })]);
    }

    fn patch_status(&self, object: &str, status: &Value) {
        let patch = json!({"status": status}).to_string();
        let patch = ["--type=merge", "--patch", &patch];
        self.job
            .kubectl(&[&["patch", object, "--subresource=status"], &patch[..]].concat());
    }

    fn pod(&self) -> Value {
        self.job.namespace.pod("lost")
    }

    /// Starts the job, waits until its pod says that it waits, and has the lost one told to go.
    fn start_and_tell_to_go(&self) {
        self.job.start();
        self.job
            .wait_told("StartWaits", "pod lost runs the JobManager");
        self.job
            .kubectl(&["delete", "pod/lost", "--grace-period=1", "--wait=false"]);
    }

    /// The pod that holds the lock, and since when.
    fn holder(&self) -> Option<(String, Timestamp)> {
        let map = self.job.namespace.get(&["configmap/drey-example"])?;
        let lock: Value = serde_json::from_str(map["data"]["lock.json"].as_str()?).ok()?;
        let holder = &lock["holders"][0];
        let name = holder["pod"]["name"].as_str()?.to_owned();
        Some((name, holder["since"].as_str()?.parse().ok()?))
    }

    /// Since when the pod of the job holds the lock.
    fn wait_passed_on(&self) -> Timestamp {
        let pods = self.job.namespace.pods(JOB_MANAGER);
        let waiter = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let mut since = None;
        wait_until("the lock to pass on", || {
            since = self.holder().filter(|(name, _)| *name == waiter);
            since.is_some()
        });
        since.unwrap().1
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if std::env::var_os("DREY_TEST_KEEP").is_none() {
            let all = format!("node/{0},clusterrolebinding/{0}", self.name);
            for object in all.split(',') {
                let args = ["delete", object, "--ignore-not-found", "--wait=false"];
                self.job.namespace.try_kubectl(&args);
            }
        }
    }
}

#[test]
fn a_pod_on_a_lost_node_keeps_the_lock_for_its_grace_and_lock_break_after() {
    let lost = Lost::new("lost-node", "3s");

    lost.start_and_tell_to_go();
    let since = lost.wait_passed_on();

    let by = lost.pod()["metadata"]["deletionTimestamp"].clone();
    let by: Timestamp = by
        .as_str()
        .expect("its object is still there")
        .parse()
        .unwrap();
    let waited = since.duration_since(by);
    assert!(waited >= SignedDuration::from_secs(3), "only {waited:#}");
    lost.job.wait_told("StartWaits", "the lock passes on at");
}

#[test]
fn with_lock_break_after_never_a_person_says_that_the_pod_is_gone() {
    let lost = Lost::new("lost-never", "never");

    lost.start_and_tell_to_go();
    lost.job.wait_told(
        "StartWaits",
        "lock-break-after is never, so once it is certain",
    );
    assert_eq!(lost.holder().unwrap().0, "lost");
    lost.job
        .kubectl(&["delete", "pod/lost", "--grace-period=0", "--force"]);

    lost.wait_passed_on();
}

/// With `deploy/rbac-nodes.yaml`.
#[test]
fn a_node_that_is_marked_out_of_service_frees_the_lock_at_once() {
    let lost = Lost::new("lost-marked", "never");
    let mut rights = load("rbac-nodes.yaml");
    rights[1]["metadata"]["name"] = json!(lost.name);
    rights[1]["subjects"][0]["namespace"] = json!(lost.name);
    lost.job.namespace.apply(&rights);

    lost.start_and_tell_to_go();
    // From a node that is not Ready Kubernetes itself would take the pod's object away.
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": Timestamp::now(),
        "lastTransitionTime": Timestamp::now(),
    });
    let node = format!("node/{}", lost.name);
    lost.patch_status(&node, &json!({"conditions": [ready]}));
    let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    lost.job.kubectl(&["taint", "node", &lost.name, taint]);

    lost.wait_passed_on();
    assert!(lost.pod()["metadata"]["deletionTimestamp"].is_string());
}
