//! The Kubernetes node of a test run, and the images on it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{OnceLock, RwLock};

use super::installation::ROOT;

/// The Kubernetes that all scenarios share: a node of the tests' own, or with `DREY_TEST_KUBECONFIG` a cluster that is there.
/// `make` starts the own node before and ends it after the tests; without `make` the first scenario starts it, and it stays.
#[derive(Debug)]
pub struct Node {
    /// Of the own node.
    own: Option<Own>,
    kubectl: String,
    kubeconfig: String,
    /// Held for writing by a scenario that does something to the node itself, for reading by all others.
    pub alone: RwLock<()>,
}

/// Where the own node is.
#[derive(Debug)]
struct Own {
    dir: PathBuf,
    network: String,
}

impl Node {
    /// The node, up, with all images.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(|| match std::env::var("DREY_TEST_KUBECONFIG") {
            Ok(kubeconfig) => Self::existing(kubeconfig),
            Err(_) => Self::up(),
        })
    }

    fn existing(kubeconfig: String) -> Self {
        Self {
            own: None,
            kubectl: "kubectl".to_owned(),
            kubeconfig,
            alone: RwLock::new(()),
        }
    }

    fn up() -> Self {
        let dir = Path::new(ROOT).join("target/k8s");
        let said = node_sh(&["up".as_ref(), dir.as_os_str()]);
        let [network, kubectl, kubeconfig] = said.lines().collect::<Vec<_>>()[..] else {
            panic!("unexpected output of node.sh: {said}");
        };
        let node = Self {
            kubectl: kubectl.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            own: Some(Own {
                network: network.to_owned(),
                dir,
            }),
            alone: RwLock::new(()),
        };
        let images = output(Command::new(Path::new(ROOT).join("tests/setup.sh")).arg("images"));
        let drey = drey_image(&node.dir().join("drey"), &node.image("drey:test"));
        node_sh(&[
            "load".as_ref(),
            node.dir().as_os_str(),
            images.trim().as_ref(),
            drey.as_os_str(),
        ]);
        node
    }

    /// Whether it is a node of the tests' own.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Where the own node keeps everything.
    fn dir(&self) -> &Path {
        let own = self.own.as_ref();
        own.map(|own| own.dir.as_path())
            .expect("this scenario takes a node of its own: name it in OWN_NODE of the Makefile")
    }

    /// The name of an image; on the own node it is there already.
    pub fn image(&self, name: &str) -> String {
        let prefix = std::env::var("DREY_TEST_IMAGE_PREFIX");
        format!("{}/{name}", prefix.as_deref().unwrap_or("drey.test"))
    }

    /// `imagePullPolicy`.
    pub fn pull_policy(&self) -> &'static str {
        if self.is_own() {
            "Never"
        } else {
            "IfNotPresent"
        }
    }

    /// A command that can reach the cluster: inside the own node's network, services and pods as well.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.own {
            Some(own) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", own.network)).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The program kubectl.
    pub fn program(&self) -> &str {
        &self.kubectl
    }

    /// kubectl, as a person with all rights.
    pub fn kubectl(&self) -> Command {
        self.inside(&self.kubectl)
    }

    /// A directory of the machine for a namespace's volume.
    pub fn volume(&self, namespace: &str) -> PathBuf {
        self.dir().join("volumes").join(namespace)
    }

    /// The CA of the certificate that its API server shows webhooks.
    pub fn client_ca(&self) -> PathBuf {
        self.dir().join("pki/ca.crt")
    }

    /// Kills a container from outside, as its id is in the status of a pod.
    pub fn kill_container(&self, id: &str) {
        let id = id.trim_start_matches("containerd://");
        self.containerd(&["tasks", "kill", "--signal", "SIGKILL", id]);
    }

    /// Gives an image one more name.
    pub fn tag_image(&self, image: &str, name: &str) {
        self.containerd(&["images", "tag", "--force", image, name]);
    }

    fn containerd(&self, args: &[&str]) {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.dir().join("containerd.sock"));
        output(ctr.args(["--namespace", "k8s.io"]).args(args));
    }

    /// Stops the API server as if it had lost its network: connections stay, and nothing is answered.
    pub fn freeze_api_server(&self) -> Frozen {
        let pid = fs::read_to_string(self.dir().join("pid/apiserver")).unwrap();
        let pid = pid.trim().to_owned();
        output(Command::new("kill").args(["-STOP", &pid]));
        Frozen(pid)
    }

    /// Shuts the node down in an orderly way, with all its pods, and starts its kubelet again.
    pub fn reboot(&self) {
        node_sh(&["reboot".as_ref(), self.dir().as_os_str()]);
    }

    /// Kills the kubelet and starts it again.
    pub fn restart_kubelet(&self) {
        node_sh(&["kubelet".as_ref(), self.dir().as_os_str()]);
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

/// What a command says that reads `input`, or nothing.
pub fn output_of(command: &mut Command, input: Option<&str>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(input.unwrap_or_default().as_bytes())
        .unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// An archive with the image of the binary under test, as `images/drey/Dockerfile` has it.
fn drey_image(dir: &Path, name: &str) -> PathBuf {
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
    let spec = serde_json::json!({"name": name, "layers": [layer], "config": config});
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
