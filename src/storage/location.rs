//! Where a savepoint or checkpoint is, read exactly as Flink's `org.apache.flink.core.fs.Path` reads it.
//!
//! Flink's paths look like URIs but are not percent-encoded: `Path(String)` takes everything behind scheme and authority
//! literally (`%20`, `#` and `?` included), and `toString` prints it back unescaped. Nothing is decoded or encoded here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name of the file that makes a directory a savepoint or checkpoint (`AbstractFsCheckpointStorageAccess.METADATA_FILE_NAME`).
pub const METADATA_FILE: &str = "_metadata";

/// A path that Flink wrote or will read, with the spelling it came in.
///
/// Equality is that of the spelling. Whether two spellings mean the same place says [`Location::same_place`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location {
    text: String,
    /// Scheme and authority in front of `path`, as they were written.
    prefix: String,
    path: String,
    target: Target,
}

/// What has to be asked for a location.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    Local(PathBuf),
    Object { bucket: Bucket, key: String },
    Unsupported { scheme: String },
}

/// One bucket or container: one client is made for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Bucket {
    S3 {
        bucket: String,
    },
    Gcs {
        bucket: String,
    },
    Azure {
        account: String,
        domain: String,
        container: String,
    },
}

/// Why a text is not a location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The text is empty.
    #[error("the path is empty; give an absolute path or a URI such as s3://bucket/path")]
    Empty,
    /// A relative path means another place in each process.
    #[error(
        "the path {0} is relative to Flink's working directory; give an absolute path or a URI with a scheme"
    )]
    Relative(String),
    /// `file://x/y` has the host `x`; Flink refuses it too (`FileSystem.getUnguardedFileSystem`).
    #[error(
        "the local path {text} has the host {host}; did you forget a slash? (file:///{host}{path})"
    )]
    LocalHost {
        /// The text as given.
        text: String,
        /// What stands where a host would.
        host: String,
        /// What follows it.
        path: String,
    },
    /// No bucket or container.
    #[error("{0} names no bucket; write it as {1}")]
    NoBucket(String, &'static str),
    /// The text is not repeated, because it would show the secret.
    #[error(
        "a {0} URI has credentials before the bucket; take them out and configure them instead"
    )]
    CredentialsInUri(String),
    /// A control character: no object store allows it in a key.
    #[error(
        "the path {0:?} has a control character or a part that leads out of the bucket; use another path"
    )]
    BadKey(String),
}

impl Location {
    /// Reads a path as Flink does.
    ///
    /// An unknown scheme is not an error here: such a path can still be recorded; only asking for it fails.
    ///
    /// # Errors
    /// The text cannot mean a place, for Flink either; see [`LocationError`].
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        let parts = Parts::of(text);
        let path = normalize(parts.path);
        let target = target(text, &parts, &path)?;
        Ok(Self {
            text: text.to_owned(),
            prefix: parts.prefix.to_owned(),
            path,
            target,
        })
    }

    /// The text as it was given: what to write into Flink's configuration.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme in lower case; none for a plain path.
    pub fn scheme(&self) -> Option<String> {
        self.prefix
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase())
    }

    /// The last part of the path: `savepoint-…`, `chk-7` or a file name; empty at the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The location of `name` below this one. `name` may have several parts.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let path = normalize(&format!("{}/{name}", self.path));
        self.with_path(path)
    }

    /// The directory this location is in; none at the root of a file system or bucket.
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.path.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        Some(self.with_path(if parent.is_empty() {
            "/".to_owned()
        } else {
            parent.to_owned()
        }))
    }

    /// The directory of a restore point: a path to the `_metadata` file means the directory it is in, as for Flink.
    #[must_use]
    pub fn directory(&self) -> Self {
        match self.parent() {
            Some(parent) if self.name() == METADATA_FILE => parent,
            _ => self.clone(),
        }
    }

    /// Where `_metadata` files are if this directory has Flink's `s3.entropy.key` in its path: Flink writes state files
    /// below random names there, and metadata without them (`EntropyInjector.removeEntropyMarkerIfPresent`).
    #[must_use]
    pub fn without_entropy(&self, key: &str) -> Self {
        let on_s3 = matches!(
            self.target,
            Target::Object {
                bucket: Bucket::S3 { .. },
                ..
            }
        );
        if !on_s3 || key.is_empty() || !self.path.contains(key) {
            return self.clone();
        }
        self.with_path(normalize(&self.path.replacen(key, "", 1)))
    }

    /// Whether both mean the same file or object: `/x`, `file:/x` and `file:///x` do, so do `s3://b/k` and `s3a://b/k`.
    pub fn same_place(&self, other: &Self) -> bool {
        match &self.target {
            Target::Unsupported { .. } => self.prefix == other.prefix && self.path == other.path,
            target => *target == other.target,
        }
    }

    /// Whether Drey can look into it. If not, it can only be recorded unverified.
    pub fn is_supported(&self) -> bool {
        !matches!(self.target, Target::Unsupported { .. })
    }

    /// The path in the local file system, if it is there.
    pub fn local_path(&self) -> Option<&std::path::Path> {
        match &self.target {
            Target::Local(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    fn with_path(&self, path: String) -> Self {
        let target = match &self.target {
            Target::Local(_) => Target::Local(PathBuf::from(&path)),
            Target::Object { bucket, .. } => Target::Object {
                bucket: bucket.clone(),
                key: key(&path),
            },
            Target::Unsupported { scheme } => Target::Unsupported {
                scheme: scheme.clone(),
            },
        };
        Self {
            text: format!("{}{path}", self.prefix),
            prefix: self.prefix.clone(),
            path,
            target,
        }
    }
}

/// A text cut like `Path(String)` cuts it.
struct Parts<'a> {
    prefix: &'a str,
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let slash = text.find('/').unwrap_or(text.len());
        let (scheme, mut start) = match text.find(':') {
            Some(colon) if colon < slash => (Some(&text[..colon]), colon + 1),
            _ => (None, 0),
        };
        let mut authority = None;
        if text.len() - start > 2 && text[start..].starts_with("//") {
            let from = start + 2;
            let end = text[from..].find('/').map_or(text.len(), |at| from + at);
            authority = Some(&text[from..end]);
            start = end;
        }
        Self {
            prefix: &text[..start],
            scheme,
            authority,
            path: &text[start..],
        }
    }
}

/// `Path.normalizePath` and `URI.normalize`: backslashes are slashes, one slash at a time, none at the end, no dots.
fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(['/', '\\']) {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn key(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn target(text: &str, parts: &Parts<'_>, path: &str) -> Result<Target, LocationError> {
    let authority = parts.authority.unwrap_or_default();
    let Some(scheme) = parts.scheme.map(str::to_ascii_lowercase) else {
        return local(text, parts, path);
    };
    let bucket = match scheme.as_str() {
        "file" => return local(text, parts, path),
        "s3" | "s3a" | "s3p" => Bucket::S3 {
            bucket: bucket(text, &scheme, authority, "s3://BUCKET/PATH")?,
        },
        "gs" => Bucket::Gcs {
            bucket: bucket(text, &scheme, authority, "gs://BUCKET/PATH")?,
        },
        "abfs" | "abfss" | "wasb" | "wasbs" => azure(text, authority)?,
        _ => return Ok(Target::Unsupported { scheme }),
    };
    let key = key(path);
    if object_store::path::Path::parse(&key).is_err() {
        return Err(LocationError::BadKey(text.to_owned()));
    }
    Ok(Target::Object { bucket, key })
}

fn local(text: &str, parts: &Parts<'_>, path: &str) -> Result<Target, LocationError> {
    if let Some(host) = parts.authority.filter(|host| !host.is_empty()) {
        return Err(LocationError::LocalHost {
            text: text.to_owned(),
            host: host.to_owned(),
            path: parts.path.to_owned(),
        });
    }
    if !parts.path.starts_with(['/', '\\']) {
        return Err(LocationError::Relative(text.to_owned()));
    }
    Ok(Target::Local(PathBuf::from(path)))
}

fn bucket(
    text: &str,
    scheme: &str,
    authority: &str,
    form: &'static str,
) -> Result<String, LocationError> {
    if authority.contains('@') {
        return Err(LocationError::CredentialsInUri(scheme.to_owned()));
    }
    if authority.is_empty() {
        return Err(LocationError::NoBucket(text.to_owned(), form));
    }
    Ok(authority.to_owned())
}

/// `CONTAINER@ACCOUNT.dfs.core.windows.net`; `dfs` and `blob` are two doors to the same container.
fn azure(text: &str, authority: &str) -> Result<Bucket, LocationError> {
    let form = "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH";
    let missing = || LocationError::NoBucket(text.to_owned(), form);
    let (container, host) = authority.split_once('@').ok_or_else(missing)?;
    let (account, domain) = host.split_once('.').ok_or_else(missing)?;
    if container.is_empty() || account.is_empty() {
        return Err(missing());
    }
    let domain = domain
        .strip_prefix("dfs.")
        .or_else(|| domain.strip_prefix("blob."))
        .unwrap_or(domain);
    Ok(Bucket::Azure {
        account: account.to_owned(),
        domain: domain.to_ascii_lowercase(),
        container: container.to_owned(),
    })
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({:?})", self.text)
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.text
    }
}

#[cfg(test)]
mod tests;
