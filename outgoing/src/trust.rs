//! Whom TLS trusts: the machine's certificates, the user's own, or a caller's alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto};

use crate::error::OutgoingError;
use crate::file;

/// The largest file of certificates that is read; a whole system's bundle has a few 100 kB.
/// A safeguard, far from any real use.
const CERTIFICATE_BYTES: u64 = 16 << 20;

/// Names that OpenSSL gives certificates, and the usual ones.
const LABELS: [(&[u8], &[u8]); 4] = [
    (b"-----BEGIN TRUSTED CERTIFICATE-----", b"-----BEGIN CERTIFICATE-----\n"),
    (b"-----END TRUSTED CERTIFICATE-----", b"-----END CERTIFICATE-----\n"),
    (b"-----BEGIN X509 CERTIFICATE-----", b"-----BEGIN CERTIFICATE-----\n"),
    (b"-----END X509 CERTIFICATE-----", b"-----END CERTIFICATE-----\n"),
];

/// Whom TLS trusts.
#[derive(Debug, Clone, Default)]
pub(crate) enum Trust {
    /// The machine's certificates.
    #[default]
    Machine,
    /// These as well, a file of PEM.
    Also(PathBuf),
    /// The certificates of this file and no others.
    Only(Roots),
    /// None.
    Nobody,
}

/// Roots of trust of one's own, instead of the machine's.
#[derive(Clone)]
pub struct Roots(RootCertStore);

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roots(..)")
    }
}

/// Why certificates can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// No certificate in the text.
    #[error("there is no certificate in it; expected PEM, with lines `-----BEGIN CERTIFICATE-----`")]
    None,
    /// Not PEM, or no certificate.
    #[error("certificate {number} can't be used: {reason}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Roots {
    /// The certificates of a PEM text.
    ///
    /// # Errors
    /// A text without certificates, or with one that is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let failed = |reason: String| RootsError::Certificate { number: index + 1, reason };
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() { Err(RootsError::None) } else { Ok(Self(roots)) }
    }
}

/// What a TLS client goes by.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    /// Nobody at all is trusted.
    pub(crate) is_empty: bool,
}

/// Reads the certificates.
pub(crate) fn tls(trust: &Trust) -> Result<Tls, OutgoingError> {
    let roots = match trust {
        Trust::Only(Roots(roots)) => roots.clone(),
        Trust::Also(path) => {
            // First, since the machine's library would read the same file without a bound.
            let more = read_certificates(path)?;
            let mut roots = machine();
            if roots.add_parsable_certificates(more).0 == 0 {
                return Err(OutgoingError::BadCertificates { path: path.clone() });
            }
            roots
        }
        Trust::Machine => machine(),
        Trust::Nobody => RootCertStore::empty(),
    };
    let is_empty = roots.is_empty();
    let versions = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| OutgoingError::Tls(error.to_string()))?;
    let config = Arc::new(versions.with_root_certificates(roots).with_no_client_auth());
    Ok(Tls { config, is_empty })
}

fn machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a certificate of this machine can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    roots
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OutgoingError> {
    let unread = |source| OutgoingError::ReadCertificates { path: path.to_owned(), source };
    let pem = file::read_no_pipe(path, CERTIFICATE_BYTES).map_err(unread)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&plain(&pem)).collect();
    let certificates = certificates.map_err(|_| OutgoingError::BadCertificates { path: path.to_owned() })?;
    Ok(certificates.into_iter().map(without_trust).collect())
}

/// The text with the usual name for what OpenSSL also calls a trusted or an X.509 certificate.
fn plain(pem: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(pem.len());
    for line in pem.split_inclusive(|byte| *byte == b'\n') {
        let label = line.trim_ascii();
        let known = LABELS.iter().find(|(name, _)| *name == label);
        text.extend_from_slice(known.map_or(line, |(_, usual)| usual));
    }
    text
}

/// A trusted certificate is a certificate with words about its use behind it. Those are left out: whoever is in the file is
/// trusted for what we do, as with the usual form.
fn without_trust(der: CertificateDer<'static>) -> CertificateDer<'static> {
    let length = match *der.as_ref() {
        [0x30, short @ ..=0x7f, ..] => 2 + usize::from(short),
        [0x30, 0x81, a, ..] => 3 + usize::from(a),
        [0x30, 0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
        _ => return der,
    };
    der.as_ref().get(..length).map(|certificate| certificate.to_vec().into()).unwrap_or(der)
}
