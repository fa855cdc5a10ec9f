//! `drey-launch` in a container of Flink's image: a home and a configuration that cannot be written to, and the entrypoint
//! between Drey and Flink. The container is a mount namespace; its entrypoint is the one of `images/flink`, which has the
//! commands, variables and side effects of the official one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Cluster, Process, ROOT, Version};

/// `$0` is the directory with all mounts, `$1` Flink's home, `$2` the job's directory, the rest is to be executed.
const CONTAINER: &str = r#"set -e
mount --bind "$1" "$0/flink"
mount --bind "$2" "$0/flink/usrlib"
mount --bind "$0/mount" "$0/flink/conf"
for point in flink flink/usrlib flink/conf; do mount -o remount,ro,bind "$0/$point"; done
shift 2
exec "$@""#;

/// A cluster whose Flink runs in containers.
struct Containers {
    cluster: Cluster,
    mounted: u32,
}

impl Containers {
    fn new(version: Version) -> Self {
        let cluster = Cluster::new(version);
        for name in ["flink", "mount", "bin"] {
            fs::create_dir(cluster.path(name)).unwrap();
        }
        cluster.drey_ok(&["install", &cluster.path("bin").display().to_string()]);
        let mut containers = Self {
            cluster,
            mounted: 0,
        };
        containers.mount("test.file: first\ntest.both: file\n");
        containers
    }

    /// Replaces the mounted ConfigMap as a kubelet does.
    fn mount(&mut self, more: &str) {
        self.mounted += 1;
        let mount = self.cluster.path("mount");
        let version = format!("..{}", self.mounted);
        fs::create_dir(mount.join(&version)).unwrap();
        for (from, _) in self.cluster.configuration() {
            let name = from.file_name().unwrap();
            fs::copy(&from, mount.join(&version).join(name)).unwrap();
            if self.mounted == 1 {
                symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
            }
        }
        let file = self.cluster.configuration_file();
        let name = file.file_name().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(mount.join(&version).join(name), text + more).unwrap();
        symlink(&version, mount.join("..new")).unwrap();
        fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    }

    /// Starts `drey-launch ARGS` in a container of its own.
    fn launch(&self, name: &str, properties: &str, args: &[&str]) -> Process {
        let cluster = &self.cluster;
        let usrlib = cluster.installation.lib.with_file_name("usrlib");
        let home = cluster.path("flink");
        let mut command = cluster.command("unshare");
        for plain in [
            "FLINK_LIB_DIR",
            "FLINK_PLUGINS_DIR",
            "FLINK_CONF_DIR",
            "FLINK_LOG_DIR",
        ] {
            command.env_remove(plain);
        }
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}/bin:{path}", home.display()))
            .env("FLINK_HOME", &home)
            .env("FLINK_PROPERTIES", properties)
            .env("ENABLE_BUILT_IN_PLUGINS", self.plugin())
            // Set by Flink in its own pods.
            .env("_POD_NODE_ID", "node")
            .env("DREY_STATE_DIR", self.state(name))
            .env("DREY_SOCKET", cluster.path("state/drey.sock"))
            .env("DREY_ENTRYPOINT", entrypoint())
            .args(["--mount", "--map-root-user", "sh", "-c", CONTAINER])
            .arg(cluster.path(""))
            .args([&cluster.installation.home, &usrlib])
            .arg(cluster.path("bin/drey-launch"))
            .args(args);
        self.start(&mut command, name)
    }

    fn start(&self, command: &mut Command, name: &str) -> Process {
        let log = self.cluster.log_file(&format!("launch-{name}"));
        let out = self.cluster.log_file(name);
        Process::start_with_output(command, log, &out)
    }

    fn job_manager(&self, properties: &str) -> Process {
        let out = self.cluster.path("out").display().to_string();
        self.launch(
            "jm",
            properties,
            &[
                "standalone-job",
                "--job-classname",
                "io.drey.example.ExampleJob",
                "--out",
                &out,
                "--rate",
                "1000",
            ],
        )
    }

    fn state(&self, name: &str) -> PathBuf {
        self.cluster.path(&format!("state-{name}"))
    }

    /// A jar of `opt`, to be enabled as a plugin.
    fn plugin(&self) -> String {
        let opt = fs::read_dir(self.cluster.installation.home.join("opt")).unwrap();
        let first = opt.map(|entry| entry.unwrap().file_name()).min();
        first.unwrap().into_string().unwrap()
    }

    /// What the JobManager says of its configuration.
    fn value(&self, key: &str) -> Option<String> {
        let entries = self.cluster.rest().get("/jobmanager/config");
        let entry = entries
            .as_array()?
            .iter()
            .find(|entry| entry["key"] == key)?;
        Some(entry["value"].as_str()?.to_owned())
    }

    #[track_caller]
    fn assert_values(&self, expected: &[(&str, &str)]) {
        for (key, value) in expected {
            assert_eq!(self.value(key).as_deref(), Some(*value), "{key}");
        }
    }
}

fn entrypoint() -> PathBuf {
    Path::new(ROOT).join("images/flink/docker-entrypoint.sh")
}

const PROPERTIES: &str = "test.both: several  words\n# a comment\ntest.own: $IT_CLUSTER\nquery.server.port: 0\n\
                          execution.shutdown-on-application-finish: true\ndrey.run-id: none\n";

#[test]
fn properties_win_over_a_mounted_file_and_drey_over_both_and_a_restart_reads_the_mount_again() {
    let mut containers = Containers::new(Version::v1());
    let mut sidecar = containers.cluster.sidecar().go();
    // As Flink itself starts it in native Kubernetes mode.
    let native = [
        "bash",
        "-c",
        "kubernetes-taskmanager.sh -Dtaskmanager.resource-id=tm",
    ];
    let mut task_manager = containers.launch("tm", "", &native);
    let mut launch = containers.job_manager(PROPERTIES);
    sidecar.wait_for_logs(&["Flink started", "Job is running"]);
    let own = containers.cluster.path("");
    let own = own.display().to_string();
    containers.assert_values(&[
        ("test.file", "first"),
        ("test.both", "several  words"),
        ("test.own", own.trim_end_matches('/')),
        ("query.server.port", "0"),
        // What the entrypoint would set itself.
        ("jobmanager.rpc.address", "127.0.0.1"),
        ("execution.shutdown-on-application-finish", "false"),
    ]);
    // The file's 0, for which Flink has put what it found, and not the entrypoint's 6124.
    assert_ne!(
        containers.value("blob.server.port").as_deref(),
        Some("6124")
    );
    let run = containers.cluster.entry().run.expect("a run");
    containers.assert_values(&[
        ("drey.run-id", run.id.as_str()),
        (
            "$internal.pipeline.job-id",
            &run.job_id.expect("a job id").to_string(),
        ),
    ]);
    let plugin = containers.plugin();
    let enabled = Path::new("ahead/home/plugins").join(plugin.trim_end_matches(".jar"));
    assert!(
        containers
            .state("jm")
            .join(enabled)
            .join(&plugin)
            .is_symlink()
    );
    containers.cluster.rest().wait_for_checkpoints(2);

    containers.mount("test.file: second\n");
    launch.term();
    assert_eq!(launch.exit_code(), 0, "{}", launch.log());
    let mut launch = containers.job_manager("");
    sidecar.wait_for_logs(&["Flink ended", "Flink started", "Job is running"]);
    containers.assert_values(&[("test.file", "second")]);
    assert_eq!(containers.value("test.both"), None);
    assert_eq!(
        containers.cluster.rest().restored().map(PathBuf::from),
        Some(containers.cluster.newest_path())
    );
    containers.cluster.rest().wait_for_checkpoints(1);
    launch.term();
    assert_eq!(launch.exit_code(), 0, "{}", launch.log());
    containers.cluster.assert_exactly_once(200);

    // Outside Kubernetes there is nobody to ask: the TaskManager ends at once, with its own exit code.
    task_manager.term();
    assert_eq!(task_manager.exit_code(), 143, "{}", task_manager.log());
    task_manager.wait_for_logs(&["TaskManager started", "TaskManager is told to end"]);
}
