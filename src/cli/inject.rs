//! `drey inject` and `drey uninject`: Drey into manifests and out of them, without a cluster.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use super::{USAGE, failure};
use crate::inject::offline::{Act, File, rewrite};
use crate::inject::{Role, Settings};

/// What `drey inject --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  drey inject -f flink.yaml --image registry.example/drey:1 | kubectl apply -f -
  drey inject -f native/ --recursive --in-place

Deployments, StatefulSets, Jobs and the like are changed where their pod runs Flink, unless it has the annotation \
drey.io/inject: \"false\". So are pod templates of Flink's native mode, and Flink's configuration for it, which gets \
kubernetes.entry.path. Everything else stays as it is, byte for byte. Standard error says what was done.";

/// The files to change.
#[derive(Debug, clap::Args)]
pub(super) struct FilesArgs {
    /// A file, a directory with *.yaml, *.yml and *.json, or `-` for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Look into the directories below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Write the files themselves instead of standard output
    #[arg(short, long)]
    in_place: bool,
}

/// What to put in.
#[derive(Debug, clap::Args)]
pub(super) struct InjectArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Drey's image
    #[arg(long, default_value = "drey:latest")]
    image: String,
    /// Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Make the sidecar an ordinary container, for Kubernetes before 1.29
    #[arg(long)]
    ordinary_sidecar: bool,
    /// What a pod template of Flink's native mode is for, where nothing else says so
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
}

/// Where to take it out.
#[derive(Debug, clap::Args)]
pub(super) struct UninjectArgs {
    #[command(flatten)]
    files: FilesArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "lowercase")]
enum RoleArg {
    JobManager,
    TaskManager,
}

pub(super) fn inject(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        image: args.image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        // Who has the file decides about it.
        allowed_images: vec!["*".to_owned()],
        native_sidecar: !args.ordinary_sidecar,
        opted_in: true,
    };
    let role = args.role.map(|role| match role {
        RoleArg::JobManager => Role::JobManager,
        RoleArg::TaskManager => Role::TaskManager,
    });
    run(&args.files, &Act::Inject(Box::new(settings), role))
}

pub(super) fn uninject(args: &UninjectArgs) -> anyhow::Result<ExitCode> {
    run(&args.files, &Act::Uninject)
}

fn run(args: &FilesArgs, act: &Act) -> anyhow::Result<ExitCode> {
    let paths = paths(args)?;
    let files = paths
        .iter()
        .map(|path| read(path))
        .collect::<anyhow::Result<Vec<File>>>()?;
    let done = rewrite(&files, act);
    let mut messages = io::stderr().lock();
    for line in done.report.iter().chain(&done.refused) {
        let _ = writeln!(messages, "{line}");
    }
    if !done.refused.is_empty() {
        let _ = writeln!(messages, "error: nothing was written");
        return Ok(ExitCode::FAILURE);
    }
    match args.in_place {
        true => in_place(&paths, &files, &done.files)?,
        false => io::stdout()
            .write_all(joined(&done.files).as_bytes())
            .context("could not write to standard output")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// All files in a row, as one stream of documents.
fn joined(files: &[File]) -> String {
    let mut text = String::new();
    for file in files {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let begins = file
            .text
            .lines()
            .next()
            .is_some_and(|line| line.starts_with("---"));
        if !text.is_empty() && !begins {
            text.push_str("---\n");
        }
        text.push_str(&file.text);
    }
    text
}

/// Each by a rename, so that none is ever half-written; only those that changed.
fn in_place(paths: &[PathBuf], before: &[File], after: &[File]) -> anyhow::Result<()> {
    let changed = paths
        .iter()
        .zip(before.iter().zip(after))
        .filter(|(_, (old, new))| old.text != new.text);
    for (path, (_, new)) in changed {
        replace(path, &new.text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let real = fs::canonicalize(path)?;
    let mut name = real.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".drey-{}", std::process::id()));
    let beside = real.with_file_name(name);
    let permissions = fs::metadata(&real)?.permissions();
    let done = fs::write(&beside, text)
        .and_then(|()| fs::set_permissions(&beside, permissions))
        .and_then(|()| fs::rename(&beside, &real));
    if done.is_err() {
        // The error of the writing is the one to report.
        let _ = fs::remove_file(&beside);
    }
    done
}

fn paths(args: &FilesArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in &args.files {
        if is_input(path) && args.in_place {
            return Err(failure(
                "standard input cannot be written in place; leave `--in-place` out",
                USAGE,
            ));
        }
        if path.is_dir() {
            let before = found.len();
            directory(path, args.recursive, &mut found)?;
            if found.len() == before {
                let text = format!(
                    "{} has no *.yaml, *.yml or *.json in it; name a file, or say `--recursive`",
                    path.display()
                );
                return Err(failure(text, USAGE));
            }
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn directory(path: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| unreadable(path, &error))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if recursive && !path.is_symlink() {
                directory(&path, recursive, found)?;
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = match is_input(path) {
        true => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(path),
    };
    let text = text.map_err(|error| unreadable(path, &error))?;
    let name = path.display().to_string();
    Ok(File { name, text })
}

fn is_input(path: &Path) -> bool {
    path == Path::new("-")
}

fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    let text = format!(
        "could not read {}: {error}; name a file that can be read",
        path.display()
    );
    failure(text, USAGE)
}
