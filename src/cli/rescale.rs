//! `drey rescale`: another parallelism while the job runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::config::Output;
use super::{demand, print, settings, unexpected};
use crate::config::{SettingsArgs, parse_duration};
use crate::control::{Call, Reply, RescaleCall, RescaledVertex};

/// Another parallelism for a job that runs.
#[derive(Debug, clap::Args)]
pub(super) struct RescaleArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Of all vertices that are not named with `--vertex`
    #[arg(long, value_name = "N", required_unless_present = "vertex", value_parser = parallelism)]
    parallelism: Option<u32>,
    /// Of one vertex, by its id or name; may be given several times
    #[arg(long, value_name = "ID=N", value_parser = vertex)]
    vertex: Vec<(String, u32)>,
    /// The job, by name or id, when there are several
    #[arg(long)]
    job: Option<String>,
    /// How long it may take until all tasks run like this; after that it is taken back
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn parallelism(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(parallelism) if parallelism > 0 => Ok(parallelism),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// Names of vertices may have a `=` in them.
fn vertex(text: &str) -> Result<(String, u32), String> {
    let (name, number) = text
        .rsplit_once('=')
        .ok_or("expected ID=N, such as bc764cd8ddf7a0cff126f51c16239658=4")?;
    Ok((name.to_owned(), parallelism(number)?))
}

pub(super) fn run(args: &RescaleArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let vertices: BTreeMap<String, u32> = args.vertex.iter().cloned().collect();
    let call = Call::Rescale(RescaleCall {
        parallelism: args.parallelism,
        vertices,
        job: args.job.clone(),
        timeout_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    match demand(&settings, &call)? {
        Reply::Rescaled {
            vertices,
            checkpoint,
            took_ms,
        } => {
            let value =
                json!({ "vertices": vertices, "checkpoint": checkpoint, "took-ms": took_ms });
            print(args.output, &text(&vertices, checkpoint, took_ms), &value)
        }
        other => Err(unexpected(&other)),
    }
}

fn text(vertices: &[RescaledVertex], checkpoint: Option<u64>, took_ms: u64) -> String {
    let mut text = String::new();
    for vertex in vertices {
        let _ = writeln!(
            text,
            "{}  {} -> {}  {}",
            vertex.id, vertex.before, vertex.after, vertex.name
        );
    }
    let _ = match checkpoint {
        Some(id) => writeln!(
            text,
            "Rescaled in {took_ms} ms; checkpoint {id} is complete"
        ),
        None => writeln!(text, "The job runs like this already"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_is_what_comes_before_the_last_equals_sign() {
        assert_eq!(vertex("a=b=4"), Ok(("a=b".to_owned(), 4)));
        for bad in ["4", "a=0", "a=-1", "a="] {
            assert!(vertex(bad).is_err(), "{bad}");
        }
    }
}
