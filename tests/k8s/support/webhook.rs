//! The webhook, installed by Helm on the node that all scenarios share.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use serde_json::json;
use tempfile::NamedTempFile;

use super::installation::ROOT;
use super::node::{Node, output};
use super::wait::wait_until;

/// Whether this process has installed it. Only a scenario that has the node for itself takes it away again.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// The one installation of the chart.
#[derive(Debug)]
pub struct Webhook;

impl Webhook {
    /// Its namespace.
    pub const NAMESPACE: &str = "drey-system";

    /// Installs the chart if that has not been done, and waits until the webhook is ready.
    pub fn install() {
        let mut installed = INSTALLED.lock().unwrap();
        if !*installed {
            Self::upgrade(&[]);
            *installed = true;
        }
    }

    /// Installs the chart, or upgrades what is installed to these further values.
    pub fn upgrade(values: &[&str]) {
        let node = Node::shared();
        let image = node.image("drey");
        // The name of the image stays the same when the binary changes: on a node that was kept, pods have to be made anew.
        let binary = fs::metadata(env!("CARGO_BIN_EXE_drey")).unwrap();
        let built = binary.modified().unwrap().duration_since(UNIX_EPOCH);
        let chart = Path::new(ROOT).join("deploy/chart").display().to_string();
        let mut args = vec![
            "upgrade".to_owned(),
            "--install".to_owned(),
            "drey".to_owned(),
            chart,
            "--create-namespace".to_owned(),
            "--wait".to_owned(),
            "--timeout=4m".to_owned(),
            format!("--set=image.repository={image}"),
            "--set=image.tag=test".to_owned(),
            format!("--set=image.pullPolicy={}", node.pull_policy()),
            "--set=admissionPolicy.enabled=true".to_owned(),
            format!(
                "--set=podAnnotations.built=at-{}",
                built.unwrap().as_nanos()
            ),
        ];
        args.extend(values.iter().map(|value| format!("--set={value}")));
        let said = Self::helm(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8_lossy(&said.stderr);
        if !said.status.success() {
            Self::show();
        }
        assert!(said.status.success(), "helm upgrade: {errors}");
        Self::wait_reached();
    }

    /// Waits until the API server reaches it: kube-proxy learns of a ready pod a moment after the Deployment does.
    fn wait_reached() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "reached", "namespace": "default", "annotations": {"drey.io/inject": "true"}},
            "spec": {"containers": [{"name": "flink", "image": "none", "args": ["standalone-job"]}]},
        });
        let file = NamedTempFile::with_suffix(".json").unwrap();
        fs::write(file.path(), pod.to_string()).unwrap();
        wait_until("the API server to reach the webhook", || {
            let mut kubectl = Node::shared().kubectl();
            kubectl.args(["create", "--dry-run=server", "--filename"]);
            let said = kubectl.arg(file.path()).output().unwrap();
            !String::from_utf8_lossy(&said.stderr).contains("failed calling webhook")
        });
    }

    /// Takes everything away that Helm has installed.
    pub fn uninstall() {
        let mut installed = INSTALLED.lock().unwrap();
        *installed = false;
        let said = Self::helm(&["uninstall", "drey", "--wait"]);
        let errors = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "helm uninstall: {errors}");
    }

    /// Takes all of the webhook's pods away, or brings them back.
    pub fn scale(replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        Self::kubectl(&["scale", "deployment/drey-webhook", &replicas]);
        if replicas.ends_with("=0") {
            wait_until("no pod of the webhook", || {
                Self::kubectl(&["get", "pods", "--output=name"]).is_empty()
            });
        } else {
            Self::wait_ready();
        }
    }

    /// Waits until every replica is ready, and so reached through the Service.
    pub fn wait_ready() {
        Self::kubectl(&[
            "rollout",
            "status",
            "deployment/drey-webhook",
            "--timeout=120s",
        ]);
        Self::wait_reached();
    }

    /// Whether somebody without a certificate gets an answer, whatever it is.
    pub fn answers_strangers() -> bool {
        let path = "jsonpath=https://{.spec.clusterIP}/";
        let url = Self::kubectl(&["get", "service", "drey-webhook", "--output", path]);
        let mut curl = Node::shared().inside("curl");
        curl.args(["--silent", "--insecure", "--max-time", "20", &url]);
        curl.output().unwrap().status.success()
    }

    /// Standard output of a kubectl in the webhook's namespace, which must succeed.
    pub fn kubectl(args: &[&str]) -> String {
        let mut kubectl = Node::shared().kubectl();
        output(kubectl.args(["--namespace", Self::NAMESPACE]).args(args))
    }

    fn helm(args: &[&str]) -> Output {
        let helm = output(Command::new(Path::new(ROOT).join("tests/setup.sh")).arg("helm"));
        let mut helm = Node::shared().inside(helm.trim());
        helm.args(["--namespace", Self::NAMESPACE]).args(args);
        helm.output().unwrap()
    }

    fn show() {
        for args in [
            &["get", "pods,events", "--output=wide"][..],
            &["logs", "deployment/drey-webhook", "--tail=60"],
        ] {
            let mut kubectl = Node::shared().kubectl();
            kubectl.args(["--namespace", Self::NAMESPACE]).args(args);
            eprintln!("--- {args:?}: {:?}", kubectl.status());
        }
    }
}
