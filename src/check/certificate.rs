//! Certificates: until when, and whether an API server would accept them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

pub(super) use crate::certificate::{Validity, validity};

/// The certificates in a PEM file.
pub(super) fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if found.is_empty() => Err("it has no certificate".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is no PEM: {error}")),
    }
}

/// Whether an API server that trusts `bundle` accepts `chain` for `host`, but for its validity: that is a finding of its own.
pub(super) fn verify(
    bundle: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    host: &str,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| crate::telemetry::one_line(error, 200);
    let (leaf, intermediates) = chain.split_first().ok_or("it has no certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(bundle.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| text(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
    let from = validity(leaf)?.from;
    let seconds = u64::try_from(from).unwrap_or_default().saturating_add(1);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], at)
        .map(|_| ())
        .map_err(|error| text(&error))
}

impl Validity {
    /// Seconds until the end; negative when it is past.
    pub(super) fn left(self, now: Timestamp) -> i64 {
        self.until - now.as_second()
    }

    /// Not valid yet, by more than a clock may be wrong.
    pub(super) fn not_yet(self, now: Timestamp) -> bool {
        self.from - now.as_second() > 60
    }

    /// It should have been renewed by now. The webhook and cert-manager do that when a third of the lifetime is left.
    pub(super) fn is_old(self, now: Timestamp) -> bool {
        self.left(now) < (self.until - self.from) * 3 / 10
    }
}
