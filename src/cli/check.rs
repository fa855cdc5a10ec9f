//! `drey check`: whether Drey can be installed, or works.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::config::Output;
use super::{TRY_AGAIN, USAGE, failure, print, runtime, settings};
use crate::check::gather::{self, Scope, Trouble, changed, marks};
use crate::check::{self, Report};
use crate::config::{Settings, SettingsArgs};
use crate::kubernetes::Kube;

/// Changes that come together are looked at together.
const CALM: Duration = Duration::from_millis(500);

/// Between two looks where nothing tells of a change: what cannot be watched, such as a certificate.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

pub(super) const HELP: &str = "\
Exit codes: 0 nothing failed; 1 something failed; 64 bad usage; 75 the API server does not answer. \
The API server is that of KUBECONFIG, else of ~/.kube/config, in a pod that of its service account. What you may not read \
is unknown, which is no failure.";

/// Whether Drey can be installed, or works.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Before an installation: whether Drey can be installed
    #[arg(long)]
    pre: bool,
    /// The namespace of the Flink clusters; that of the kubeconfig's context if not given
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The Flink clusters of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// The namespace of the webhook
    #[arg(long, value_name = "NAME", default_value = "drey-system")]
    webhook_namespace: String,
    /// How it is shown
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// A warning is a failure, too
    #[arg(long)]
    strict: bool,
    /// Look again, after each change, until nothing fails or the time is over
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait: Option<Duration>,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
}

pub(super) fn run(args: &CheckArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&SettingsArgs::default(), env)?;
    let report = runtime()?.block_on(until_good(args, &settings))?;
    let text = report.text(io::stdout().is_terminal());
    print(args.output, &text, &report.json())?;
    Ok(match (report.unreachable, report.passes(args.strict)) {
        (true, _) => ExitCode::from(TRY_AGAIN),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// The first report that passes, or the last one in the time there is.
async fn until_good(args: &CheckArgs, settings: &Settings) -> anyhow::Result<Report> {
    let kube = match Kube::of_caller(None).await {
        Ok(kube) => kube,
        Err(error) => return Ok(Report::refused(&error.to_string())),
    };
    let scope = scope(args, &kube);
    let deadline = Instant::now() + args.wait.unwrap_or_default();
    let mut pauses = PAUSES.into_iter();
    let mut pause = CALM;
    loop {
        let seen = match args.wait {
            Some(_) => Some(marks(&kube, &scope).await),
            None => None,
        };
        let report = look(args, &kube, &scope, settings).await?;
        let Some(seen) = seen else {
            return Ok(report);
        };
        if report.passes(args.strict) || Instant::now() >= deadline {
            return Ok(report);
        }
        pause = pauses.next().unwrap_or(pause);
        let next = deadline.min(Instant::now() + pause);
        if timeout_at(next, changed(seen)).await.is_ok() {
            sleep(CALM).await;
        }
    }
}

fn scope(args: &CheckArgs, kube: &Kube) -> Scope {
    let context = kube.namespace().to_owned();
    let namespace = args.namespace.clone().unwrap_or(context);
    Scope {
        namespace: (!args.all_namespaces).then(|| namespace.clone()),
        dry_run: namespace,
        webhook: args.webhook_namespace.clone(),
    }
}

async fn look(
    args: &CheckArgs,
    kube: &Kube,
    scope: &Scope,
    settings: &Settings,
) -> anyhow::Result<Report> {
    let report = if args.pre {
        gather::before(kube, scope)
            .await
            .map(|facts| check::before(&facts))
    } else {
        let facts = gather::after(kube, scope, settings).await;
        facts.map(|facts| check::after(&facts))
    };
    match report {
        Ok(report) => Ok(report),
        Err(Trouble::Unreachable(why)) => Ok(Report::unreachable(&why)),
        Err(Trouble::Refused(why)) => Ok(Report::refused(&why)),
        Err(Trouble::NoNamespace(name)) => {
            let text = format!(
                "there is no namespace {name}: name one with `--namespace`, or take all with `-A`"
            );
            Err(failure(text, USAGE))
        }
    }
}
