//! The example job in pods, as `deploy/` has it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::installation::{ROOT, Version};
use super::manifests;
use super::namespace::Namespace;
use super::rest::Rest;
use super::run::{Run, plain_path, status};
use super::wait::{eventually, wait_until};
use super::webhook::Webhook;

/// The pods of the JobManager, in both modes.
pub const JOB_MANAGER: &str = "app=example,component=jobmanager";

/// The pods of the TaskManagers, in both modes.
pub const TASK_MANAGER: &str = "app=example,component=taskmanager";

/// Who makes the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Flink itself, from `deploy/native`.
    Native,
    /// Deployments, from `deploy/standalone`.
    Standalone,
    /// Two JobManagers with Kubernetes HA, from `deploy/standalone-ha`.
    HighAvailability,
    /// Deployments of a session cluster, from `deploy/session`.
    Session,
}

impl Mode {
    /// With `DREY_TEST_EXCHANGE_MODES` native mode where a scenario has standalone mode, and the other way round.
    fn wanted(self) -> Self {
        match self {
            _ if std::env::var_os("DREY_TEST_EXCHANGE_MODES").is_none() => self,
            Self::Native => Self::Standalone,
            Self::Standalone => Self::Native,
            other => other,
        }
    }
}

/// How Drey comes into the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As `deploy/` has it, by hand.
    ByHand,
    /// By the webhook: `deploy/examples`.
    Injected,
    /// Not at all.
    Plain,
}

/// What a test changes in the manifest of a Deployment or a pod template; its second argument is `jobmanager` or
/// `taskmanager`.
type Edit = Box<dyn Fn(&mut Value, &str)>;

/// One Flink job in a namespace of its own.
pub struct Job {
    pub namespace: Namespace,
    mode: Mode,
    pub(super) version: Version,
    pub(super) form: Form,
    pub(super) options: Vec<(String, String)>,
    pub(super) args: Vec<String>,
    edits: Vec<Edit>,
}

impl Job {
    /// A job with Drey, not started yet.
    pub fn new(purpose: &str, mode: Mode, version: Version) -> Self {
        Self::in_namespace(Namespace::new(purpose, false), mode.wanted(), version)
    }

    /// A job whose mode is what the scenario is about, so that it is never exchanged.
    pub fn only(purpose: &str, mode: Mode, version: Version) -> Self {
        Self::in_namespace(Namespace::new(purpose, false), mode, version)
    }

    /// A job that has the node for itself.
    pub fn alone(purpose: &str, mode: Mode, version: Version) -> Self {
        Self::in_namespace(Namespace::new(purpose, true), mode.wanted(), version)
    }

    /// [`Job::alone`] and [`Job::only`] in one.
    pub fn only_alone(purpose: &str, mode: Mode, version: Version) -> Self {
        Self::in_namespace(Namespace::new(purpose, true), mode, version)
    }

    fn in_namespace(namespace: Namespace, mode: Mode, version: Version) -> Self {
        let options = [
            ("execution.checkpointing.interval", "500ms"),
            // What makes lost processes be noticed soon, and answers be fresh.
            ("heartbeat.interval", "500"),
            ("heartbeat.timeout", "8000"),
            ("cluster.registration.error-delay", "200"),
            ("cluster.registration.refused-registration-delay", "200"),
            ("cluster.registration.max-timeout", "1000"),
            ("web.refresh-interval", "100"),
        ];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            namespace,
            mode,
            version,
            form: Form::ByHand,
            options: options.into(),
            args: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// The same job with another version of Flink.
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The same pods without Drey in them.
    pub fn plain(mut self) -> Self {
        self.form = Form::Plain;
        self
    }

    /// The same job with nothing of Drey but the annotation, from `deploy/examples`: for the webhook.
    pub fn injected(mut self) -> Self {
        Webhook::install();
        self.form = Form::Injected;
        self
    }

    /// Sets an option of Flink.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.options.retain(|(known, _)| known != key);
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// More arguments of the example job.
    pub fn job_args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Changes the manifests of `jobmanager` and `taskmanager`.
    pub fn edit(mut self, edit: impl Fn(&mut Value, &str) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// The image of Flink with the job in it.
    pub fn image(&self) -> String {
        let name = format!("example-job:{}", self.version.as_str());
        self.namespace.node.image(&name)
    }

    /// The same image by another name, which the node has from now on as well.
    pub fn image_by_another_name(&self) -> String {
        let name = format!("{}-again", self.image());
        self.namespace.node.tag_image(&self.image(), &name);
        name
    }

    /// A path in the volume of the job, on a node of the tests' own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.namespace.volume().join(name)
    }

    /// kubectl in the job's namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.namespace.kubectl(args)
    }

    /// Gives the JobManager's container in the Deployment a new variable: another pod template.
    pub fn change_template(&self) {
        let container = format!("--containers={}", self.container());
        self.kubectl(&["set", "env", self.deployment(), &container, "CHANGED=yes"]);
    }

    /// The JobManager's Deployment.
    pub fn deployment(&self) -> &'static str {
        match self.mode {
            Mode::Native => "deployment/example",
            _ => "deployment/example-jobmanager",
        }
    }

    /// Starts the job, or starts it again after it was deleted.
    pub fn start(&self) {
        self.namespace.apply(&self.rights());
        match self.mode {
            Mode::Native => self.submit(),
            _ => self.namespace.apply(&self.standalone()),
        }
    }

    /// Starts the job in standalone mode, with other manifests made of its own.
    pub fn start_with(&self, change: impl FnOnce(Vec<Value>) -> Vec<Value>) {
        self.namespace.apply(&self.rights());
        self.namespace.apply(&change(self.standalone()));
    }

    /// A job that has run for a while.
    pub fn start_and_work(&self) -> Run {
        self.start();
        let run = self.wait_running();
        run.wait_for_checkpoints(2);
        run
    }

    /// The rights of `deploy/rbac.yaml`. With Drey, and where Flink itself needs none, those of Flink are left out, so that
    /// each scenario shows what Drey needs.
    pub fn rights(&self) -> Vec<Value> {
        let mut rights = manifests::load("rbac.yaml");
        if self.form != Form::Plain && matches!(self.mode, Mode::Standalone | Mode::Session) {
            rights.retain(|object| {
                object["kind"] == "ServiceAccount" || object["metadata"]["name"] != "flink"
            });
        }
        rights
    }

    /// The manifests of standalone mode, as this test has them.
    pub fn standalone(&self) -> Vec<Value> {
        let mut objects = match self.mode {
            Mode::Session if self.form == Form::Injected => {
                manifests::load("examples/session.yaml")
            }
            _ if self.form == Form::Injected => manifests::load("examples/standalone.yaml"),
            Mode::HighAvailability => manifests::kustomized(self.namespace.node, "standalone-ha"),
            Mode::Session => manifests::load("session/flink.yaml"),
            _ => manifests::load("standalone/flink.yaml"),
        };
        for object in &mut objects {
            for key in ["config.yaml", "FLINK_PROPERTIES"] {
                if let Some(text) = object["data"][key].as_str() {
                    object["data"][key] = json!(manifests::set_options(text, &self.options));
                }
            }
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            if let Some(component) = labels["component"].as_str().map(ToOwned::to_owned) {
                if component == "jobmanager" {
                    let args = &mut manifests::flink_container(object)["args"];
                    let args = args.as_array_mut().unwrap();
                    args.extend(self.args.iter().map(|arg| json!(arg)));
                }
                self.change(object, &component);
            }
        }
        objects
    }

    /// The changes of this test to the manifest of a component.
    pub(super) fn change(&self, object: &mut Value, component: &str) {
        manifests::use_images(object, self.namespace.node, &self.image());
        if self.form == Form::Plain {
            manifests::without_drey(object);
        }
        for edit in &self.edits {
            edit(object, component);
        }
    }

    /// Waits until every task runs in the JobManager of a pod that stays.
    pub fn wait_running(&self) -> Run {
        self.wait_run("every task to run", |_| true)
    }

    /// Waits until every task runs in another life of the job than `before`.
    pub fn wait_running_again(&self, before: &Run) -> Run {
        self.wait_run("every task to run again", |run| {
            (&run.pod, &run.job) != (&before.pod, &before.job)
        })
    }

    fn wait_run(&self, what: &str, wanted: impl Fn(&Run) -> bool) -> Run {
        eventually(what, || {
            let pods = self.namespace.pods(JOB_MANAGER);
            pods.iter().find_map(|pod| {
                let run = self.run_in(pod)?;
                (wanted(&run) && run.rest.all_running(&run.job)).then_some(run)
            })
        })
    }

    fn run_in(&self, pod: &Value) -> Option<Run> {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let rest = Rest::of(&self.namespace, pod)?;
        let (job, state) = rest.job()?;
        let pod = pod["metadata"]["name"].as_str()?.to_owned();
        (state == "RUNNING").then_some(Run { pod, job, rest })
    }

    /// What the pointer's ConfigMap has for a person to read: the newest restore point.
    pub fn pointer(&self) -> Option<String> {
        let map = self.namespace.get(&["configmap", "drey-example"])?;
        Some(plain_path(map["data"]["savepoint-path"].as_str()?))
    }

    /// The messages of all events with this reason.
    pub fn told(&self, reason: &str) -> Vec<String> {
        let selector = format!("--field-selector=reason={reason}");
        let events = self
            .namespace
            .get(&["events", &selector])
            .unwrap_or_default();
        let items = events["items"].as_array().into_iter().flatten();
        let message = |event: &Value| Some(event["message"].as_str()?.to_owned());
        items.filter_map(message).collect()
    }

    /// Waits for an event with this reason whose message has `text` in it.
    pub fn wait_told(&self, reason: &str, text: &str) {
        wait_until(&format!("an event {reason} with {text:?}"), || {
            self.told(reason)
                .iter()
                .any(|message| message.contains(text))
        });
    }

    /// The name of Flink's container.
    pub fn container(&self) -> &'static str {
        match self.mode {
            Mode::Native => "flink-main-container",
            _ => "jobmanager",
        }
    }

    /// Fails unless the job comes back after `before`, from a savepoint that is the newest restore point, and has put
    /// out everything exactly once at its end.
    pub fn resumes_from_a_savepoint(&self, before: &Run) {
        let after = self.resumes(before);
        let restored = after.restored();
        let from = restored.as_deref().unwrap_or("empty state");
        assert!(
            from.starts_with("/state/savepoints/"),
            "restored from {from}"
        );
        self.stop_and_judge(1000);
    }

    /// Fails unless the job comes back after `before`, from a checkpoint that it has completed, and has put out
    /// everything exactly once at its end.
    pub fn resumes_from_a_checkpoint(&self, before: &Run) {
        let after = self.resumes(before);
        let restored = after.restored();
        let from = restored.as_deref().unwrap_or("empty state");
        assert!(
            from.starts_with("/state/checkpoints/"),
            "restored from {from}"
        );
        self.stop_and_judge(1000);
    }

    /// Fails unless the job comes back after `before`, and not from empty state.
    pub fn resumes(&self, before: &Run) -> Run {
        let after = self.wait_running_again(before);
        assert!(after.restored().is_some(), "restored from empty state");
        after.wait_for_checkpoints(2);
        after
    }

    /// Kills a container of a pod from outside, and waits until the kubelet has started it again.
    pub fn kill_container(&self, pod: &str, container: &str) {
        let before = self.namespace.pod(pod);
        let before = status(&before, container);
        let id = before["containerID"].as_str().unwrap();
        self.namespace.node.kill_container(id);
        self.wait_restarted(pod, container);
    }

    /// Waits until a container has been started again at least once in its pod.
    pub fn wait_restarted(&self, pod: &str, container: &str) {
        wait_until(&format!("{container} to be started again"), || {
            let pod = self.namespace.pod(pod);
            let now = status(&pod, container);
            now["restartCount"].as_u64() > Some(0) && !now["state"]["running"].is_null()
        });
    }

    /// Ends the job for good, as a person does who will start it again some day, and fails unless all that it has ever
    /// put out is there exactly once.
    pub fn stop_and_judge(&self, min: u64) {
        self.kubectl(&["scale", self.deployment(), "--replicas=0"]);
        self.wait_no_job_manager();
        self.assert_exactly_once(min);
    }

    /// Waits until no pod of the JobManager is left.
    pub fn wait_no_job_manager(&self) {
        self.namespace.wait_no_pods(JOB_MANAGER);
    }

    /// The verdict of `check.py` on the committed output, and whether it is good. To be asked for when the job has
    /// stopped, or when it certainly is not good.
    pub fn verdict(&self, min: u64) -> (bool, String) {
        self.verdict_on("out", min)
    }

    /// [`Job::verdict`] on another directory of the volume.
    pub fn verdict_on(&self, directory: &str, min: u64) -> (bool, String) {
        let mut command = Command::new("python3");
        command.args(["-B", &format!("{ROOT}/images/example-job/check.py")]);
        // A copy is there as long as this.
        let files = self.namespace.files(&self.image(), directory);
        command.arg(files.path());
        let output = command.args(["--min", &min.to_string()]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text)
    }

    /// Fails unless the committed output has at least `min` events, each exactly once.
    pub fn assert_exactly_once(&self, min: u64) {
        let (good, text) = self.verdict(min);
        assert!(good, "{text}");
    }
}
