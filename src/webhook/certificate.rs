//! The server's certificate: made, read, and checked as an API server would check it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::certificate::validity;
use crate::telemetry::one_line;

/// Certificates are valid from this long ago: clocks differ.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// A certificate that cannot be used, with what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unusable(String);

impl Unusable {
    fn of(what: &str, error: &dyn std::error::Error) -> Self {
        Self(format!("{what}: {}", one_line(error, 200)))
    }
}

/// A certificate chain and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    pub(super) chain: String,
    pub(super) key: String,
}

/// The key is a secret.
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) expires: Timestamp,
}

impl Certificate {
    /// Reads a chain, the server's own certificate first, and the key to it.
    pub(super) fn read(pem: &Pem) -> Result<Self, Unusable> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem.chain.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| Unusable::of("the certificate is no PEM", &error))?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| Unusable::of("the key is no PEM of a private key", &error))?;
        let leaf = chain
            .first()
            .ok_or_else(|| Unusable("there is no certificate in the PEM".to_owned()))?;
        let expires = expiry(leaf)?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| Unusable::of("certificate and key do not fit together", &error))?;
        Ok(Self {
            key: Arc::new(key),
            expires,
        })
    }

    /// Whether a client that trusts `bundle` (PEM) takes this certificate for `name` at `now`.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check(&self, bundle: &str, name: &str, now: Timestamp) -> Result<(), Unusable> {
        let mut roots = RootCertStore::empty();
        let cas = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok);
        roots.add_parsable_certificates(cas);
        let no = |error: rustls::Error| Unusable(error.to_string());
        let (leaf, others) = self
            .key
            .cert
            .split_first()
            .ok_or_else(|| Unusable("no certificate".to_owned()))?;
        let leaf = ParsedCertificate::try_from(leaf).map_err(no)?;
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            others,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            ring::default_provider()
                .signature_verification_algorithms
                .all,
        )
        .map_err(no)?;
        let name = ServerName::try_from(name).map_err(|error| Unusable(error.to_string()))?;
        rustls::client::verify_server_name(&leaf, &name).map_err(no)
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, Unusable> {
    let validity = validity(certificate)
        .map_err(|error| Unusable(format!("a certificate cannot be read: {error}")))?;
    Timestamp::from_second(validity.until)
        .map_err(|error| Unusable::of("a certificate's end cannot be read", &error))
}

/// A certificate for `names` with a CA of its own, which is returned beside it as PEM.
///
/// The CA's key is thrown away: nobody can ever sign anything else with it, so to trust the CA is to trust this one certificate.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub(super) fn make(
    names: &[String],
    now: Timestamp,
    lifetime: Duration,
) -> Result<(Pem, String), Unusable> {
    let failed = |error: rcgen::Error| Unusable::of("could not make a certificate", &error);
    let new_key = || KeyPair::generate().map_err(failed);
    let mut ca = params(Vec::new(), "drey-webhook-ca", now, lifetime).map_err(failed)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(ca, new_key()?).map_err(failed)?;
    let mut leaf = params(names.to_vec(), "drey-webhook", now, lifetime).map_err(failed)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = new_key()?;
    let chain = leaf.signed_by(&key, &ca).map_err(failed)?.pem();
    let key = key.serialize_pem();
    Ok((Pem { chain, key }, ca.pem()))
}

fn params(
    names: Vec<String>,
    common_name: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = now - SKEW;
    params.not_after = now + lifetime;
    Ok(params)
}

/// The certificates of a bundle that are still valid at `now`, each once; what cannot be read is left out.
pub(super) fn valid(bundle: &str, now: Timestamp) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for block in blocks(bundle) {
        let der = CertificateDer::from_pem_slice(block.as_bytes());
        let lives = der.is_ok_and(|der| expiry(&der).is_ok_and(|end| end > now));
        if lives && !kept.contains(&block) {
            kept.push(block);
        }
    }
    kept.iter().map(|block| format!("{block}\n")).collect()
}

/// When the first certificate of a bundle ends.
pub(super) fn first_end(bundle: &str) -> Option<Timestamp> {
    blocks(bundle)
        .filter_map(|block| CertificateDer::from_pem_slice(block.as_bytes()).ok())
        .filter_map(|der| expiry(&der).ok())
        .min()
}

fn blocks(bundle: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle.split_inclusive(END).filter_map(|part| {
        let start = part.find("-----BEGIN CERTIFICATE-----")?;
        part[start..].ends_with(END).then(|| &part[start..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn names() -> Vec<String> {
        vec![
            "drey-webhook.drey-system.svc".to_owned(),
            "127.0.0.1".to_owned(),
        ]
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    #[test]
    fn what_is_made_is_taken_for_its_names_and_its_time() {
        let (pem, ca) = make(&names(), at(0), HOUR).expect("made");
        let (_, other) = make(&names(), at(0), HOUR).expect("made");
        let certificate = Certificate::read(&pem).expect("usable");
        assert_eq!(certificate.expires, at(3600));
        for name in names() {
            certificate.check(&ca, &name, at(0)).expect("trusted");
            certificate
                .check(&format!("{other}{ca}"), &name, at(0))
                .expect("trusted");
        }
        let refused = |bundle: &str, name: &str, now| {
            certificate.check(bundle, name, now).expect_err("refused");
        };
        refused(&other, &names()[0], at(0));
        refused("", &names()[0], at(0));
        refused(&ca, "drey-webhook.other.svc", at(0));
        refused(&ca, &names()[0], at(3601));
        refused(&ca, &names()[0], at(-7200));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, _) = make(&names(), at(0), HOUR).expect("made");
        let (two, _) = make(&names(), at(0), HOUR).expect("made");
        for pem in [
            Pem {
                chain: one.chain.clone(),
                key: two.key,
            },
            Pem {
                chain: String::new(),
                key: one.key.clone(),
            },
            Pem {
                chain: one.chain.clone(),
                key: "x".to_owned(),
            },
        ] {
            let error = Certificate::read(&pem).expect_err("unusable");
            assert!(!format!("{error} {pem:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn a_bundle_keeps_what_is_valid_once() {
        let (_, short) = make(&names(), at(0), HOUR).expect("made");
        let (_, long) = make(&names(), at(0), 2 * HOUR).expect("made");
        let bundle = format!("text\n{short}{long}{long}-----BEGIN CERTIFICATE-----\nAAAA");
        assert_eq!(first_end(&bundle), Some(at(3600)));
        let both = valid(&bundle, at(0));
        assert_eq!(blocks(&both).count(), 2);
        assert_eq!(blocks(&valid(&bundle, at(3600))).count(), 1);
        assert_eq!(valid(&both, at(0)), both);
    }
}
