//! The Kubernetes node of a test run, and the images on it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, RwLock};

use super::installation::ROOT;

/// The image with the binary under test.
pub const DREY_IMAGE: &str = "drey.test/drey:test";

/// One Kubernetes node, shared by all scenarios. `make` starts it before and ends it after the tests; without `make` the
/// first scenario starts it, and it stays.
#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    network: String,
    kubectl: String,
    kubeconfig: String,
    /// Held for writing by a scenario that does something to the node itself, for reading by all others.
    pub alone: RwLock<()>,
}

impl Node {
    /// The node, up, with all images.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(Self::up)
    }

    fn up() -> Self {
        let dir = Path::new(ROOT).join("target/k8s");
        let said = node_sh(&["up".as_ref(), dir.as_os_str()]);
        let [network, kubectl, kubeconfig] = said.lines().collect::<Vec<_>>()[..] else {
            panic!("unexpected output of node.sh: {said}");
        };
        let images = output(Command::new(Path::new(ROOT).join("tests/setup.sh")).arg("images"));
        let drey = drey_image(&dir.join("drey"));
        node_sh(&[
            "load".as_ref(),
            dir.as_os_str(),
            images.trim().as_ref(),
            drey.as_os_str(),
        ]);
        Self {
            network: network.to_owned(),
            kubectl: kubectl.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            dir,
            alone: RwLock::new(()),
        }
    }

    /// A command inside the node's network, where services and pods can be reached.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network)).arg(program);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// kubectl, as a person with all rights.
    pub fn kubectl(&self) -> Command {
        self.inside(&self.kubectl)
    }

    /// A directory of the machine for a namespace's volume.
    pub fn volume(&self, namespace: &str) -> PathBuf {
        self.dir.join("volumes").join(namespace)
    }

    /// Kills a container from outside, as its id is in the status of a pod.
    pub fn kill_container(&self, id: &str) {
        let id = id.trim_start_matches("containerd://");
        let socket = self.dir.join("containerd.sock");
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(socket);
        output(ctr.args([
            "--namespace",
            "k8s.io",
            "tasks",
            "kill",
            "--signal",
            "SIGKILL",
            id,
        ]));
    }

    /// Stops the API server as if it had lost its network: connections stay, and nothing is answered.
    pub fn freeze_api_server(&self) -> Frozen {
        let pid = fs::read_to_string(self.dir.join("pid/apiserver")).unwrap();
        let pid = pid.trim().to_owned();
        output(Command::new("kill").args(["-STOP", &pid]));
        Frozen(pid)
    }

    /// Kills the kubelet and starts it again.
    pub fn restart_kubelet(&self) {
        node_sh(&["kubelet".as_ref(), self.dir.as_os_str()]);
    }
}

/// The API server answers again when this is dropped.
#[derive(Debug)]
pub struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        let thawed = Command::new("kill").args(["-CONT", &self.0]).status();
        assert!(
            thawed.is_ok_and(|status| status.success()),
            "the API server is still frozen"
        );
    }
}

fn node_sh(args: &[&OsStr]) -> String {
    output(Command::new(Path::new(ROOT).join("tests/cluster/node.sh")).args(args))
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "failed: {command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An archive with the image of the binary under test, as `images/drey/Dockerfile` has it.
fn drey_image(dir: &Path) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_drey"));
    let archive = dir.join("image.tar");
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if changed(&archive) > changed(binary) {
        return archive;
    }
    let (root, layer, image) = (
        dir.join("root"),
        dir.join("layer.tar"),
        dir.join("image.json"),
    );
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    output(
        Command::new("strip")
            .arg("-o")
            .arg(root.join("usr/bin/drey"))
            .arg(binary),
    );
    let config = serde_json::json!({"Entrypoint": ["/usr/bin/drey"], "User": "65532:65532"});
    let spec = serde_json::json!({"name": DREY_IMAGE, "layers": [layer], "config": config});
    fs::write(&image, spec.to_string()).unwrap();
    let image_py = || {
        let mut command = Command::new("python3");
        command
            .arg("-B")
            .arg(Path::new(ROOT).join("tests/cluster/image.py"));
        command
    };
    output(image_py().arg("layer").arg(&root).arg(&layer));
    output(image_py().arg("archive").arg(&archive).arg(&image));
    archive
}
