//! The pipelines that `deploy/examples/ci` documents: the very steps that stand there, in a pod that has a shell, `drey`, `kubectl`
//! and a kubeconfig with the rights of `deploy/rbac-ci.yaml`.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{
    Job, Mode, ROOT, Run, Version, load, output, output_of, parse, plain_path, use_images,
};

const NAMES: [&str; 3] = ["github.yaml", "gitlab.yaml", "argocd.yaml"];

/// What the shell of a pipeline runs in one go.
struct Step {
    script: String,
    env: Vec<(String, String)>,
}

/// A documented pipeline, for this namespace and this cluster id.
fn pipeline(job: &Job, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{ROOT}/deploy/examples/ci/{name}")).unwrap();
    let namespace = format!("namespace {}", job.namespace.name);
    let text = text
        .replace("orders", "example")
        .replace("namespace flink", &namespace);
    parse(&text, name)
}

fn array<'a>(value: &'a Value, what: &str) -> &'a Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no {what}: {value}"))
}

/// The `run` steps, with what GitHub puts in for its expressions.
fn github(job: &Job, kubeconfig: &str) -> Vec<Step> {
    let workflow = pipeline(job, NAMES[0]);
    let steps = array(&workflow[0]["jobs"]["deploy"]["steps"], "steps").iter();
    let steps = steps.filter_map(|step| Some((step["run"].as_str()?, &step["env"])));
    let value = |text: &Value| match text.as_str().unwrap() {
        "${{ secrets.KUBECONFIG_FILE }}" => kubeconfig.to_owned(),
        text => text.replace("${{ runner.temp }}", "/work"),
    };
    let step = |(script, env): (&str, &Value)| {
        let own = env.as_object().into_iter().flatten();
        let own = own.map(|(name, text)| (name.clone(), value(text)));
        Step {
            script: script.to_owned(),
            env: own
                .chain([("RUNNER_TEMP".to_owned(), "/work".to_owned())])
                .collect(),
        }
    };
    steps.map(step).collect()
}

/// The one script, whose lines GitLab gives to one shell, with GitLab's own variables.
fn gitlab(job: &Job, registry: &str, commit: &str) -> Step {
    let jobs = pipeline(job, NAMES[1]);
    let lines = array(&jobs[0]["deploy"]["script"], "script").iter();
    let lines: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
    let env = [
        ("KUBECONFIG", "/work/kubeconfig"),
        ("CI_REGISTRY_IMAGE", registry),
        ("CI_COMMIT_SHORT_SHA", commit),
    ];
    Step {
        script: lines.join("\n"),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

/// The hooks before a sync, in the order of their waves.
fn argo_hooks(job: &Job) -> Vec<Value> {
    let of = |object: &Value, key: &str| {
        let name = format!("argocd.argoproj.io/{key}");
        let value = object["metadata"]["annotations"][&name].as_str();
        value.map(str::to_owned)
    };
    let mut objects = pipeline(job, NAMES[2]);
    objects.retain(|object| of(object, "hook").as_deref() == Some("PreSync"));
    objects.sort_by_key(|object| of(object, "sync-wave").map_or(0, |it| it.parse().unwrap()));
    objects
}

/// A pod that runs a pipeline's steps, and may do nothing by itself.
struct Runner<'a> {
    job: &'a Job,
}

impl<'a> Runner<'a> {
    fn start(job: &'a Job) -> Self {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runner"},
            "spec": {
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 9999, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationGracePeriodSeconds": 0,
                "initContainers": [{
                    "name": "install", "image": "drey:latest", "args": ["install", "/tools"],
                    "volumeMounts": [{"name": "tools", "mountPath": "/tools"}],
                }],
                "containers": [{
                    "name": "runner", "image": "example-job:latest", "command": ["sleep", "infinity"], "workingDir": "/work",
                    "volumeMounts": [
                        {"name": "tools", "mountPath": "/tools"}, {"name": "work", "mountPath": "/work"},
                        {"name": "state", "mountPath": "/state", "readOnly": true},
                    ],
                }],
                "volumes": [
                    {"name": "tools", "emptyDir": {}}, {"name": "work", "emptyDir": {}},
                    {"name": "state", "persistentVolumeClaim": {"claimName": "flink-state"}},
                ],
            },
        });
        let restricted =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        for kind in ["initContainers", "containers"] {
            pod["spec"][kind][0]["securityContext"] = restricted.clone();
        }
        use_images(&mut pod, job.namespace.node, &job.image());
        job.namespace.apply(&[pod]);
        job.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/runner",
            "--timeout=240s",
        ]);
        let runner = Self { job };
        runner.bring_kubectl();
        runner
    }

    fn bring_kubectl(&self) {
        let program = output(Command::new("which").arg(self.job.namespace.node.program()));
        let mut copy = self.exec(&["sh", "-c", "cat >/tools/kubectl && chmod +x /tools/kubectl"]);
        output(copy.stdin(fs::File::open(program.trim()).unwrap()));
    }

    /// A file in the directory that the pipeline has checked out.
    fn write(&self, name: &str, text: &str) {
        let mut command = self.exec(&["sh", "-c", &format!("cat >{name}")]);
        let written = output_of(&mut command, Some(text));
        assert!(written.status.success(), "{written:?}");
    }

    fn exec(&self, command: &[&str]) -> Command {
        let mut args = vec!["exec", "--stdin", "runner", "--container=runner", "--"];
        args.extend(command);
        self.job.namespace.command(&args)
    }

    /// What a step that must succeed has written to standard output.
    fn run(&self, step: &Step) -> String {
        let env = step
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let path = "PATH=/tools:/usr/local/bin:/usr/bin:/bin".to_owned();
        let env: Vec<String> = env.chain([path]).collect();
        let mut command = vec!["env"];
        command.extend(env.iter().map(String::as_str));
        command.extend(["bash", "-e", "-c", &step.script]);
        let Output {
            status,
            stdout,
            stderr,
        } = self.exec(&command).output().unwrap();
        let errors = String::from_utf8_lossy(&stderr);
        eprintln!("$ {}\n{errors}", step.script);
        assert!(status.success(), "{}: {errors}", step.script);
        String::from_utf8(stdout).unwrap().trim().to_owned()
    }

    /// Runs a whole pipeline; what its last step has written.
    fn run_all(&self, steps: &[Step]) -> String {
        let said: Vec<String> = steps.iter().map(|step| self.run(step)).collect();
        said.last().expect("a pipeline with steps").clone()
    }
}

/// The account of `rbac-ci.yaml`; what `kubectl apply` makes needs rights of its own.
fn account(job: &Job) -> String {
    let mut objects = load("rbac-ci.yaml");
    let mut role = objects[1].clone();
    let mut binding = objects[2].clone();
    for object in [&mut role, &mut binding] {
        object["metadata"]["name"] = json!("ci-apply");
    }
    binding["roleRef"]["name"] = json!("ci-apply");
    role["rules"] = json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "create", "patch"]},
    ]);
    objects.extend([role, binding]);
    job.namespace.apply(&objects);
    let token = job.kubectl(&["create", "token", "drey-ci", "--duration=1h"]);
    let ca = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
    let cluster = json!({"server": "https://kubernetes.default.svc", "certificate-authority": ca});
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ci",
        "clusters": [{"name": "ci", "cluster": cluster}],
        "users": [{"name": "ci", "user": {"token": token.trim()}}],
        "contexts": [{"name": "ci", "context": {"cluster": "ci", "user": "ci"}}],
    })
    .to_string()
}

fn resumed_from(job: &Job, path: &str) -> Run {
    let run = job.wait_running();
    assert_eq!(run.restored().as_deref(), Some(&*plain_path(path)));
    run
}

/// Runs a hook as Argo CD does, and waits for it; its log.
fn run_hook(job: &Job, mut hook: Value) -> String {
    use_images(&mut hook, job.namespace.node, &job.image());
    let mut create = job
        .namespace
        .command(&["create", "--output=name", "--filename=-"]);
    let made = output_of(&mut create, Some(&hook.to_string()));
    assert!(made.status.success(), "{made:?}");
    let name = String::from_utf8(made.stdout).unwrap();
    let name = name.trim();
    job.kubectl(&["wait", "--for=condition=Complete", name, "--timeout=240s"]);
    job.kubectl(&["logs", name])
}

/// One job through all of them: made by its first deployment, deployed again, given another image, and synced.
#[test]
fn the_documented_pipelines_deploy_a_job_and_lose_nothing() {
    let job = Job::only("pipelines", Mode::Standalone, Version::v2());
    job.namespace.apply(&job.rights());
    let kubeconfig = account(&job);
    let runner = Runner::start(&job);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": job.standalone()});
    runner.write("job.yaml", &list.to_string());
    runner.write("uids.txt", "numbers\ncount\nfiles\n");

    let steps = github(&job, &kubeconfig);
    assert_eq!(runner.run_all(&steps), "empty state");
    let from = runner.run_all(&steps);
    resumed_from(&job, &from).wait_for_checkpoints(2);

    let node = job.namespace.node;
    node.tag_image(&job.image(), &node.image("example:4f2c1ab9"));
    let registry = node.image("").trim_end_matches('/').to_owned();
    let from = runner.run(&gitlab(&job, &registry, "4f2c1ab9"));
    resumed_from(&job, &from).wait_for_checkpoints(2);

    let hooks = argo_hooks(&job).into_iter();
    let said: Vec<String> = hooks.map(|hook| run_hook(&job, hook)).collect();
    let savepoint = job.pointer().unwrap();
    assert!(said.concat().contains(&savepoint), "{said:?}");
    job.namespace.apply(&job.standalone());
    resumed_from(&job, &savepoint);
    job.stop_and_judge(1000);
}
