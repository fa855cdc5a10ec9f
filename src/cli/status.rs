//! `drey status`: how the supervised jobs stand, also as a page for a browser.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::json;
use tokio::net::TcpListener;

use super::config::Output;
use super::{USAGE, demand, failure, print, runtime, settings, unexpected, watch};
use crate::config::{Settings, SettingsArgs};
use crate::control::{Call, JobReport, Reply, Status};
use crate::status_page::server::Server;
use crate::telemetry::one_line;

/// How the supervised jobs stand.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Show it again whenever something changes, until interrupted
    #[arg(long)]
    watch: bool,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Serve a page for a browser, on the loopback interface alone, until Ctrl-C
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = PAGE,
        conflicts_with_all = ["output", "watch"]
    )]
    serve: Option<SocketAddr>,
}

/// Where the page is when no address is given.
const PAGE: &str = "127.0.0.1:9248";

pub(super) fn run(args: &StatusArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    if let Some(address) = args.serve {
        return serve(address, &settings);
    }
    if args.watch {
        return watch::run(&settings, args.output, text);
    }
    match demand(&settings, &Call::Status)? {
        Reply::Status(status) => print(args.output, &text(&status), &json!(status)),
        other => Err(unexpected(&other)),
    }
}

fn serve(address: SocketAddr, settings: &Settings) -> anyhow::Result<ExitCode> {
    if !address.ip().is_loopback() {
        let text = format!("--serve {address}: the page is for this machine alone, as {PAGE}");
        return Err(failure(text, USAGE));
    }
    // That there is nobody to ask is said here, and not by a page.
    demand(settings, &Call::Status)?;
    runtime()?.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let why = one_line(&error, 200);
            failure(
                format!("could not listen at {address}: {why}; name another one with `--serve=`"),
                USAGE,
            )
        })?;
        println!("http://{}/", listener.local_addr()?);
        Server::new(settings.socket.clone()).serve(listener).await;
        Ok(ExitCode::SUCCESS)
    })
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let flink = match (&status.flink_version, status.flink_pid) {
        (Some(version), Some(pid)) => {
            let rest = status.rest_url.as_deref().unwrap_or_default();
            let reach = if status.reachable {
                "answers"
            } else {
                "does not answer"
            };
            format!("{version}, process {pid}, {reach} at {rest}")
        }
        _ => "is not running".to_owned(),
    };
    let _ = writeln!(text, "Cluster  {}", status.cluster_id);
    let _ = writeln!(text, "Flink    {flink}");
    let _ = writeln!(text, "Pointer  {}", status.pointer);
    if status.shutting_down {
        let _ = writeln!(text, "Shutdown under way");
    }
    if status.suspended {
        let name = status.pointer.trim_start_matches("configmap/");
        let _ = writeln!(
            text,
            "SUSPENDED by the annotation drey.io/suspend; resume with: kubectl annotate configmap {name} drey.io/suspend-"
        );
    } else if let Some(why) = &status.waits_for {
        let _ = writeln!(text, "Start waits: {why}");
    }
    for (key, job) in &status.jobs {
        text.push_str(&job_text(key, job));
    }
    text
}

fn job_text(key: &str, job: &JobReport) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {what:<14}{value}");
        }
    };
    line("name", job.name.clone());
    line("job id", job.job_id.map(|id| id.to_string()));
    line("status", job.status.map(|status| status.to_string()));
    line(
        "tasks",
        job.tasks
            .map(|(running, total)| format!("{running} of {total} running")),
    );
    line("restored from", job.restored_from.clone());
    line(
        "checkpoint",
        job.completed_checkpoint.map(|id| format!("{id} completed")),
    );
    line(
        "interval",
        job.checkpoint_interval_ms.map(|ms| format!("{ms} ms")),
    );
    line("restore point", job.restore_point.clone());
    line(
        "savepoint",
        job.savepoint_in_progress.then(|| "in progress".to_owned()),
    );
    for problem in &job.problems {
        line("PROBLEM", Some(problem.clone()));
    }
    format!("Job      {key}\n{text}")
}
