//! `drey job`: what a CD pipeline does with a job.

mod preflight;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::config::Output;
use super::savepoint::format;
use super::{TRY_AGAIN, USAGE, failure, print, runtime, settings};
use crate::config::SettingsArgs;
use crate::domain::savepoint::SavepointFormat;
use crate::job_update::{Change, Come, JobError, Progress, Stopped, Target};
use crate::job_update::{start, stop, suspend, upgrade};
use crate::kubernetes::Kube;
use crate::telemetry::one_line;

pub(super) const HELP: &str = "\
Exit codes: 0 done; 1 refused or failed; 64 bad usage; 75 not in time, or the API server does not answer. \
The API server is that of KUBECONFIG, else of ~/.kube/config, in a pod that of its service account. The path of the \
restore point goes to standard output, what is going on to standard error.";

/// What a CD pipeline does with a job.
#[derive(Debug, clap::Args)]
pub(super) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JobCommand {
    /// Stop the job with a savepoint, then delete its cluster
    ///
    /// Deleted are the Deployments or StatefulSets of the cluster id with all that belongs to them, and Flink's
    /// high-availability ConfigMaps; the pointer stays, and so do Services and ConfigMaps that Flink did not make. Without a
    /// savepoint nothing is deleted.
    #[command(after_help = HELP)]
    Stop(StopArgs),
    /// Start the job from its restore point, from empty state if there has never been one, and wait until it runs
    ///
    /// With a command behind `--` that command makes the cluster: `kubectl apply`, `helm upgrade`, `flink run`. Without
    /// one the cluster that is there is scaled back.
    #[command(after_help = HELP)]
    Start(StartArgs),
    /// Stop the job with a savepoint, then scale its cluster to 0
    #[command(after_help = HELP)]
    Suspend(StopArgs),
    /// Scale a suspended cluster back and wait until its job runs
    #[command(after_help = HELP)]
    Resume(Common),
    /// Name the state that a new job will not take over, before the old one is stopped
    ///
    /// It needs the uids or the ids of the new job's operators. The id of an operator without a uid changes with the job
    /// graph, so such a job cannot be looked at beforehand. Exits with 1 when state would be left behind.
    Preflight(Box<preflight::PreflightArgs>),
    /// Give the cluster another image, parallelism or options, and wait until the job runs again
    #[command(after_help = HELP)]
    Upgrade(UpgradeArgs),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The cluster id
    cluster_id: String,
    /// The namespace; that of the kubeconfig's context if not given
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    timeout: Duration,
    /// How the result is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct StopArgs {
    #[command(flatten)]
    common: Common,
    /// The savepoint's format; canonical before another state backend or a new major version of Flink
    #[arg(long, value_name = "canonical|native", value_parser = format)]
    format: Option<SavepointFormat>,
}

#[derive(Debug, clap::Args)]
struct StartArgs {
    #[command(flatten)]
    common: Common,
    /// What makes the cluster
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct UpgradeArgs {
    #[command(flatten)]
    common: Common,
    /// The image of JobManager and TaskManagers
    #[arg(long)]
    image: Option<String>,
    /// The job's parallelism, where its code sets none
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,
    /// An option of Flink's configuration; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(super) fn run(args: &JobArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    if let JobCommand::Preflight(args) = &args.command {
        return preflight::run(args, env);
    }
    settings(&SettingsArgs::default(), env)?;
    let mut progress = Progress::default();
    let done = runtime()?.block_on(carry_out(&args.command, &mut progress));
    progress.close();
    done
}

async fn carry_out(command: &JobCommand, progress: &mut Progress) -> anyhow::Result<ExitCode> {
    match command {
        JobCommand::Stop(args) => {
            let target = target(&args.common).await?;
            let done = stop(&target, args.format, progress).await;
            stopped(&args.common, &target, done.map_err(failed)?, progress)
        }
        JobCommand::Suspend(args) => {
            let target = target(&args.common).await?;
            let done = suspend(&target, args.format, progress).await;
            stopped(&args.common, &target, done.map_err(failed)?, progress)
        }
        JobCommand::Start(args) => {
            let target = target(&args.common).await?;
            let done = start(&target, &args.command, progress).await;
            come(&args.common, done.map_err(failed)?, progress)
        }
        JobCommand::Preflight(_) => Ok(ExitCode::SUCCESS),
        JobCommand::Resume(common) => {
            let target = target(common).await?;
            let done = start(&target, &[], progress).await;
            come(common, done.map_err(failed)?, progress)
        }
        JobCommand::Upgrade(args) => {
            let target = target(&args.common).await?;
            let change = Change {
                image: args.image.clone(),
                parallelism: args.parallelism,
                set: args.set.clone(),
            };
            let done = upgrade(&target, &change, progress).await;
            come(&args.common, done.map_err(failed)?, progress)
        }
    }
}

async fn target(common: &Common) -> anyhow::Result<Target> {
    if !crate::config::is_cluster_id(&common.cluster_id) {
        let text = format!("{:?} is no cluster id", common.cluster_id);
        return Err(failure(text, USAGE));
    }
    let kube = Kube::of_caller(common.namespace.as_deref()).await;
    let kube = kube.map_err(|error| failure(one_line(&error, 400), USAGE))?;
    Ok(Target::new(kube, &common.cluster_id, common.timeout))
}

fn failed(error: JobError) -> anyhow::Error {
    let code = match &error {
        JobError::Later(_) => TRY_AGAIN,
        JobError::Refused(_) => 1,
        JobError::Usage(_) => USAGE,
    };
    failure(one_line(&error, 2000), code)
}

fn stopped(
    common: &Common,
    target: &Target,
    stopped: Stopped,
    progress: &mut Progress,
) -> anyhow::Result<ExitCode> {
    progress.close();
    let (what, path) = match stopped {
        Stopped::NoCluster => ("no-cluster", None),
        Stopped::Savepoint(path) => ("stopped", Some(path)),
        Stopped::Before(path) => ("stopped-before", path),
    };
    let text = match (&path, what) {
        (_, "no-cluster") => format!("there is no cluster {}: nothing to do\n", target.name()),
        (Some(path), _) => format!("{path}\n"),
        (None, _) => "there has never been a restore point\n".to_owned(),
    };
    print(
        common.output,
        &text,
        &json!({"outcome": what, "path": path}),
    )
}

fn come(common: &Common, come: Come, progress: &mut Progress) -> anyhow::Result<ExitCode> {
    progress.close();
    let from = come.from.as_deref().unwrap_or("empty state");
    let text = if come.before {
        "nothing to wait for: the cluster is as it was\n".to_owned()
    } else {
        format!("{from}\n")
    };
    let value = json!({"restored-from": come.from, "ran-before": come.before});
    print(common.output, &text, &value)
}
