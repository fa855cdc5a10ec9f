//! Who may ask, and over what: the file that Prometheus' own exporters take (`--web.config.file`).
//!
//! File and certificates are read again for each connection, so that new ones need no restart.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// How many good passwords are remembered: to check one costs 50 ms and more of a core, as it is meant to.
const REMEMBERED: usize = 100;

/// What the passwords of users who do not exist are checked against, so that the time does not tell who does.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says something else.
    #[error("{path}: {what}; {remedy}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Certificate, key and CA do not fit together.
    #[error("the certificates that {path} names cannot be used; check certificate, key and CA")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: String,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    min_version: String,
}

/// Who may ask, and over what.
#[derive(Debug)]
pub struct Web {
    file: Option<PathBuf>,
    /// Whose password is checked now.
    turn: Arc<Semaphore>,
    random: RandomState,
    /// Hashes of what was found good.
    good: Mutex<HashSet<u64>>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            file: None,
            turn: Arc::new(Semaphore::new(1)),
            random: RandomState::new(),
            good: Mutex::default(),
        }
    }
}

impl Web {
    /// What `file` says; everybody without TLS when there is none.
    ///
    /// # Errors
    /// When it cannot be used as it is now.
    pub fn new(file: Option<PathBuf>) -> Result<Self, WebError> {
        let web = Self {
            file,
            ..Self::default()
        };
        web.tls()?;
        Ok(web)
    }

    /// TLS of the next connection; `None` without.
    ///
    /// # Errors
    /// When file or certificates cannot be used now.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, WebError> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        let Some(tls) = load(path)?.tls_server_config else {
            return Ok(None);
        };
        let config = server_config(path, &tls)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Whether a request may be answered.
    pub async fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(path) = &self.file else {
            return true;
        };
        let Ok(file) = load(path) else {
            return false;
        };
        if file.basic_auth_users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        let hash = file.basic_auth_users.get(&user).cloned();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let key = self.random.hash_one((&user, &password, &hash));
        if known && self.good().contains(&key) {
            return true;
        }
        let right = self.verify(password, hash).await && known;
        if right {
            let mut good = self.good();
            if good.len() >= REMEMBERED {
                good.clear();
            }
            good.insert(key);
        }
        right
    }

    /// One at a time: wrong passwords, however many come, take one core and no more. Who asked may be gone before his turn is
    /// over, so the turn ends with the check itself.
    async fn verify(&self, password: String, hash: String) -> bool {
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
            return false;
        };
        let check = move || {
            let right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            right
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, coded) = header.split_once(' ')?;
    let text = BASE64_STANDARD.decode(coded.trim()).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    basic.then(|| (user.to_owned(), password.to_owned()))
}

fn load(path: &Path) -> Result<File, WebError> {
    let text = fs::read_to_string(path).map_err(|source| WebError::Read {
        path: path.to_owned(),
        source,
    })?;
    // No value goes into a message.
    let file: Option<File> = serde_saphyr::from_str(&text).map_err(|_| WebError::Content {
        path: path.to_owned(),
        what: "is not what Prometheus' exporters take, or more than Drey does".to_owned(),
        remedy: "use `tls_server_config` with `cert_file`, `key_file`, `client_auth_type`, `client_ca_file` and \
                 `min_version`, and `basic_auth_users`",
    })?;
    Ok(file.unwrap_or_default())
}

fn server_config(path: &Path, tls: &Tls) -> Result<ServerConfig, WebError> {
    let content = |what: String, remedy| WebError::Content {
        path: path.to_owned(),
        what,
        remedy,
    };
    let unusable = |source| WebError::Tls {
        path: path.to_owned(),
        source,
    };
    let versions: &[&SupportedProtocolVersion] = match tls.min_version.as_str() {
        "" | "TLS12" => &[&rustls::version::TLS12, &rustls::version::TLS13],
        "TLS13" => &[&rustls::version::TLS13],
        _ => {
            return Err(content(
                "`min_version` is not known".to_owned(),
                "use TLS12 or TLS13",
            ));
        }
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = builder.with_client_cert_verifier(verifier(path, tls, provider)?);
    let chain = certificates(path, &tls.cert_file)?;
    let key = beside(path, &tls.key_file);
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|_| content(format!("{} holds no key", key.display()), "name a PEM file"))?;
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is asked of clients.
fn verifier(
    path: &Path,
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, WebError> {
    let refused = |what: &str, remedy| {
        Err(WebError::Content {
            path: path.to_owned(),
            what: what.to_owned(),
            remedy,
        })
    };
    let ca = tls.client_ca_file.as_ref();
    let roots = ca.map(|file| roots(path, file)).transpose()?;
    let builder = |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match (tls.client_auth_type.as_str(), roots) {
        ("" | "NoClientCert", None) => return Ok(WebPkiClientVerifier::no_client_auth()),
        ("RequireAndVerifyClientCert", Some(roots)) => builder(roots),
        ("VerifyClientCertIfGiven", Some(roots)) => builder(roots).allow_unauthenticated(),
        // Who names a CA wants certificates to be asked for; Prometheus' exporters refuse this, too.
        ("" | "NoClientCert", Some(_)) => {
            return refused(
                "`client_ca_file` needs `client_auth_type`, too",
                "use VerifyClientCertIfGiven or RequireAndVerifyClientCert, or leave out the CA",
            );
        }
        (_, Some(_)) => {
            return refused(
                "`client_auth_type` is not for here",
                "use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            );
        }
        (_, None) => {
            return refused(
                "`client_auth_type` needs `client_ca_file`, too",
                "give both, or neither",
            );
        }
    };
    builder.build().map_err(|error| WebError::Tls {
        path: path.to_owned(),
        source: rustls::Error::General(error.to_string()),
    })
}

/// Files are named from the directory of the one that names them.
fn beside(path: &Path, file: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(file)
}

fn certificates(path: &Path, file: &Path) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let file = beside(path, file);
    let all = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    match all {
        Ok(all) if !Vec::is_empty(&all) => Ok(all),
        _ => Err(WebError::Content {
            path: path.to_owned(),
            what: format!("{} holds no certificate", file.display()),
            remedy: "name a PEM file",
        }),
    }
}

fn roots(path: &Path, file: &Path) -> Result<RootCertStore, WebError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path, file)?);
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_costs_a_check_like_any_other() {
        assert!(bcrypt::verify("fakepassword", NOBODY).is_ok_and(|right| right));
    }

    #[tokio::test]
    async fn passwords_are_checked_one_at_a_time() {
        let web = Web::default();
        let turn = Arc::clone(&web.turn).acquire_owned().await.expect("open");
        let hash = bcrypt::hash("secret", 4).expect("hashed");
        let mut check = Box::pin(web.verify("secret".to_owned(), hash));
        assert!(futures_util::poll!(&mut check).is_pending());
        drop(turn);
        assert!(check.await);
        assert_eq!(web.turn.available_permits(), 1);
    }
}
