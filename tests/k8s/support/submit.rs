//! The submission of the example job in native mode, with Flink's own command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::installation::Installation;
use super::job::{Form, Job};
use super::manifests;

impl Job {
    /// Submits the job, with a copy of `deploy/native`, or with what `deploy/examples/native` adds to Flink's own
    /// configuration.
    pub(super) fn submit(&self) {
        let dir = tempfile::tempdir().unwrap();
        let (text, logging) = match self.form {
            Form::Injected => manifests::native_example(&Installation::of(&self.version).home),
            _ => manifests::native(),
        };
        let mut options = self.options.clone();
        let mut option = |key: &str, value: &str| options.push((key.to_owned(), value.to_owned()));
        option("kubernetes.namespace", &self.namespace.name);
        option("kubernetes.container.image.ref", &self.image());
        let pull = self.namespace.node.pull_policy();
        option("kubernetes.container.image.pull-policy", pull);
        if self.form == Form::Plain {
            option("kubernetes.entry.path", "/docker-entrypoint.sh");
        }
        for component in ["jobmanager", "taskmanager"] {
            let mut template = self.template(component);
            self.change(&mut template, component);
            let file = dir.path().join(format!("{component}.yaml"));
            fs::write(&file, template.to_string()).unwrap();
            let key = format!("kubernetes.pod-template-file.{component}");
            option(&key, &file.display().to_string());
        }
        let text = manifests::set_options(&text, &options);
        fs::write(dir.path().join("config.yaml"), text).unwrap();
        let name = "log4j-console.properties";
        fs::copy(logging.join(name), dir.path().join(name)).unwrap();
        let output = self.flink_cli(dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "flink run: {said}");
    }

    fn template(&self, component: &str) -> Value {
        let file = match self.form {
            Form::Injected => "examples/native/pod-template.yaml".to_owned(),
            _ => format!("native/{component}.yaml"),
        };
        manifests::load(&file).remove(0)
    }

    fn flink_cli(&self, configuration: &Path) -> Command {
        let installation = Installation::of(&self.version);
        let flink = installation.home.join("bin/flink");
        let mut command = self.namespace.node.inside(flink);
        let action = if self.version.at_least(2, 0) {
            "run"
        } else {
            "run-application"
        };
        command
            .env("FLINK_CONF_DIR", configuration)
            .env("FLINK_LOG_DIR", configuration)
            .env("JAVA_HOME", &installation.java_home)
            .env("JVM_ARGS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
            .args([action, "--target", "kubernetes-application"])
            .args(["--class", "io.drey.example.ExampleJob"])
            .arg("local:///opt/flink/usrlib/example-job.jar")
            .args(["--out", "/state/out"])
            .args(&self.args);
        command
    }
}
