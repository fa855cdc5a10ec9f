//! What a pod runs: which of its containers is Flink's, which process that is, and of which cluster.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::annotations::{Wishes, bad};
use super::{Facts, Refused, Role};
use crate::config::{self, Mode, quoted};
use crate::launcher::{Command, CommandError, Starts};

/// The container of native mode (`Constants.MAIN_CONTAINER_NAME`).
pub(super) const NATIVE_CONTAINER: &str = "flink-main-container";

/// The label by which Flink's native mode names the cluster (`Constants.LABEL_APP_KEY`), as do many manifests of others.
pub(super) const APP: &str = "app";

/// Where the program is in every container of the pod.
pub(super) const PROGRAM: &str = "/drey/drey";

/// The program under the name by which it is Flink's entrypoint.
pub(super) const LAUNCHER: &str = "/drey/drey-launch";

/// Flink in a pod.
#[derive(Debug)]
pub(super) struct Flink<'a> {
    pub(super) role: Role,
    pub(super) container: &'a Container,
    pub(super) cluster: Cluster<'a>,
    pub(super) launch: Launch,
    /// Its arguments name a restore point, with which the launcher does not start it.
    pub(super) start_path: Option<String>,
}

/// How the cluster is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster<'a> {
    Named(&'a str),
    /// By the label [`APP`] that the pod will have.
    ByLabel,
}

/// How the launcher comes before Flink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launch {
    /// It is the command already.
    There,
    /// Flink writes the command itself, by `kubernetes.entry.path`.
    LeftToFlink,
    /// It runs the image's entrypoint.
    Entrypoint,
    /// It runs the container's command.
    Command,
}

impl Launch {
    /// The words that go before the container's command.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::There | Self::LeftToFlink => &[],
            Self::Entrypoint => &[LAUNCHER],
            Self::Command => &[PROGRAM, "launch", "--"],
        }
    }
}

/// Finds Flink; `None` when nothing in the pod looks like it.
pub(super) fn find<'a>(
    pod: &'a Pod,
    wishes: &Wishes<'a>,
    facts: &Facts,
) -> Result<Option<Flink<'a>>, Refused> {
    let Some(container) = container(pod, wishes)? else {
        return Ok(None);
    };
    let said = starts_of(container);
    let labelled = native_role(pod);
    let Some(role) = wishes
        .role
        .or(facts.template)
        .or(labelled)
        .or(said.map(role_of))
    else {
        return Ok(None);
    };
    if let Some(other) = said.map(role_of).filter(|other| *other != role) {
        let name = quoted(&container.name);
        let what = format!("container {name} starts a {} by its command", other.name());
        return Err(bad(
            "role",
            &what,
            "take the annotation out, or name another `drey.io/container`",
        ));
    }
    let mut flink = Flink {
        role,
        container,
        cluster: cluster(pod, wishes, facts)?,
        launch: launch(container, facts),
        start_path: None,
    };
    if flink.launch != Launch::LeftToFlink {
        flink.start_path = supervisable(container, role, said, wishes)?;
    }
    Ok(Some(flink))
}

pub(crate) fn role_of(starts: Starts) -> Role {
    match starts {
        Starts::JobManager { .. } => Role::JobManager,
        Starts::TaskManager => Role::TaskManager,
    }
}

/// The containers that look like Flink's: by native mode's name for it, else by their commands.
pub(crate) fn flink_containers(pod: &Pod) -> Vec<&Container> {
    let all = containers(pod);
    match all.iter().find(|it| it.name == NATIVE_CONTAINER) {
        Some(native) => vec![native],
        None => all.iter().filter(|it| starts_of(it).is_some()).collect(),
    }
}

/// What a container starts, as its command says, whether or not a launcher comes before it.
pub(crate) fn starts_of(container: &Container) -> Option<Starts> {
    starts(&words(container)?)
}

fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

fn container<'a>(pod: &'a Pod, wishes: &Wishes<'_>) -> Result<Option<&'a Container>, Refused> {
    let all = containers(pod);
    let named = |name: &str| all.iter().find(|container| container.name == name);
    if let Some(name) = wishes.container {
        let names: Vec<&str> = all
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        return named(name).map(Some).ok_or_else(|| {
            let what = format!("the pod has no container {}", quoted(name));
            bad(
                "container",
                &what,
                &format!("use one of {}", quoted(&names.join(", "))),
            )
        });
    }
    match flink_containers(pod)[..] {
        [one] => Ok(Some(one)),
        [one, other, ..] => {
            let (one, other) = (quoted(&one.name), quoted(&other.name));
            let what = format!("containers {one} and {other} both look like Flink's");
            Err(bad(
                "container",
                &what,
                "name the right one by this annotation",
            ))
        }
        // Somebody has said what it is, and there is no choice.
        [] => Ok(all
            .first()
            .filter(|_| wishes.role.is_some() && all.len() == 1)),
    }
}

/// The words that start it, without the launcher's; `None` when the image alone decides.
fn words(container: &Container) -> Option<Vec<&str>> {
    let list = |list: &'_ Option<Vec<String>>| -> usize { list.as_ref().map_or(0, Vec::len) };
    if list(&container.command) + list(&container.args) == 0 {
        return None;
    }
    let command = container.command.iter().flatten();
    let mut words: Vec<&str> = command
        .chain(container.args.iter().flatten())
        .map(String::as_str)
        .collect();
    if let Some(at) = launcher(&words) {
        let mut behind = words.iter().skip(at);
        let own = behind
            .position(|word| *word == "--")
            .filter(|_| words.get(at + 1) == Some(&"launch"));
        words.drain(..=at + own.unwrap_or(0));
    }
    Some(words)
}

fn starts(words: &[&str]) -> Option<Starts> {
    Starts::read(words.iter().copied())
}

/// Where the launcher is, if it is there: before all words of Flink, maybe behind a program that another webhook has put in front.
fn launcher(words: &[&str]) -> Option<usize> {
    let is_launcher = |at: &usize| {
        let name = Path::new(words[*at]).file_name().and_then(OsStr::to_str);
        match name {
            Some("drey-launch") => true,
            Some("drey") => words.get(at + 1) == Some(&"launch"),
            _ => false,
        }
    };
    let at = (0..words.len()).find(is_launcher)?;
    starts(&words[..at]).is_none().then_some(at)
}

pub(crate) fn native_role(pod: &Pod) -> Option<Role> {
    let labels = pod.metadata.labels.as_ref()?;
    let label = |name: &str| labels.get(name).map(String::as_str);
    match (label("type"), label("component")) {
        (Some("flink-native-kubernetes"), Some("jobmanager")) => Some(Role::JobManager),
        (Some("flink-native-kubernetes"), Some("taskmanager")) => Some(Role::TaskManager),
        _ => None,
    }
}

fn cluster<'a>(pod: &'a Pod, wishes: &Wishes<'a>, facts: &Facts) -> Result<Cluster<'a>, Refused> {
    let given = wishes
        .settings
        .iter()
        .find(|(spec, _)| spec.key == "cluster-id");
    if let Some((_, id)) = given {
        return Ok(Cluster::Named(id));
    }
    let labels = pod.metadata.labels.as_ref();
    match labels.and_then(|labels| labels.get(APP)) {
        Some(id) if config::is_cluster_id(id) => Ok(Cluster::Named(id)),
        Some(id) => {
            let what = format!("the label `app`, {}, cannot be a cluster id", quoted(id));
            Err(bad(
                "cluster-id",
                &what,
                "give one by this annotation, the same for JobManager and TaskManagers",
            ))
        }
        None if facts.template.is_some() => Ok(Cluster::ByLabel),
        None => Err(bad(
            "cluster-id",
            "the pod has no label `app` to take the cluster id from",
            "give one by this annotation, the same for JobManager and TaskManagers",
        )),
    }
}

fn launch(container: &Container, facts: &Facts) -> Launch {
    let args = container.args.iter().flatten();
    let command = container.command.iter().flatten();
    let all: Vec<&str> = command.chain(args).map(String::as_str).collect();
    if facts.template.is_some() {
        Launch::LeftToFlink
    } else if launcher(&all).is_some() {
        Launch::There
    } else if container.command.as_ref().is_none_or(Vec::is_empty) {
        Launch::Entrypoint
    } else {
        Launch::Command
    }
}

/// Refuses what the launcher would refuse when it is too late. The start path in the arguments, if there is one.
fn supervisable(
    container: &Container,
    role: Role,
    said: Option<Starts>,
    wishes: &Wishes<'_>,
) -> Result<Option<String>, Refused> {
    let name = quoted(&container.name);
    let words = words(container).unwrap_or_default();
    if said.is_none() && role == Role::TaskManager {
        let what =
            format!("the command of container {name} does not say that it starts a TaskManager");
        return Err(bad(
            "role",
            &what,
            "give it the argument `taskmanager`, or the path of `taskmanager.sh`",
        ));
    }
    if role == Role::TaskManager {
        return Ok(None);
    }
    if said.is_none() && !wishes.gives("mode") {
        let what = format!("the command of container {name} does not say what it starts");
        return Err(bad(
            "mode",
            &what,
            "give `application` or `session` by this annotation",
        ));
    }
    if said == Some(Starts::JobManager { native: false }) && is_shell(&words) {
        let what = format!(
            "container {name} starts Flink by a shell, behind which Drey cannot give Flink arguments"
        );
        let remedy = "make the command a script in the image and name it here, with Flink's arguments as `args`";
        return Err(bad("entrypoint", &what, remedy));
    }
    let mode = wishes
        .values
        .as_ref()
        .map_or(Mode::Auto, |values| values.mode);
    // Without a program of its own it goes through the image's entrypoint.
    let entrypoint = words.first().is_none_or(|word| known_to_entrypoint(word));
    let command: Vec<OsString> = entrypoint
        .then_some("docker-entrypoint.sh")
        .into_iter()
        .chain(words)
        .map(OsString::from)
        .collect();
    match Command::new(&command, mode) {
        Ok(_) => Ok(None),
        Err(CommandError::RestorePoint(argument)) => Ok(Some(argument)),
        Err(error) => Err(Refused::new(format!("container {name}: {error}"))),
    }
}

/// Whether it is what Flink's image starts by its name, and no program.
fn known_to_entrypoint(word: &str) -> bool {
    ["jobmanager", "standalone-job"].contains(&word)
}

/// `bash -c "…"` and the like.
fn is_shell(words: &[&str]) -> bool {
    let shells = ["sh", "bash", "dash", "ash", "zsh"];
    let name = words
        .first()
        .and_then(|word| Path::new(word).file_name()?.to_str());
    let flag = |word: &&str| word.starts_with('-') && word.ends_with('c');
    name.is_some_and(|name| shells.contains(&name)) && words.iter().skip(1).take(3).any(flag)
}
