//! OpenSSH certificates (OpenSSH's PROTOCOL.certkeys): what a node has to show, and checking it.

use ssh_key::{Certificate, HashAlg, PublicKey, certificate::CertType};

/// How long certificates last. Boards go on without their workstation for that long at most.
pub const LIFETIME_S: u64 = 90 * 24 * 3600;

/// The longest text that is read as a certificate.
pub(super) const MAX_BYTES: usize = 8192;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Shown by sshd.
    Host,
    /// Shown by ssh.
    User,
}

/// What a certificate shows when it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// When it ends, in seconds since 1970.
    pub until_s: u64,
    /// The fingerprint of the key that signed it.
    pub signed_by: super::Fingerprint,
}

impl Checked {
    /// Whether half of a lifetime or less is left.
    #[must_use]
    pub fn is_due(&self, now_s: u64) -> bool {
        self.until_s.saturating_sub(now_s) <= LIFETIME_S / 2
    }

    /// When it is to be renewed, in seconds since 1970.
    #[must_use]
    pub fn due_s(&self) -> u64 {
        self.until_s.saturating_sub(LIFETIME_S / 2)
    }
}

/// Why a certificate is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} certificate is not to be used: {why}")]
pub struct BadCertificate {
    what: &'static str,
    why: String,
}

impl Purpose {
    fn kind(self) -> CertType {
        match self {
            Self::Host => CertType::Host,
            Self::User => CertType::User,
        }
    }

    fn bad(self, why: impl Into<String>) -> BadCertificate {
        let what = match self {
            Self::Host => "host",
            Self::User => "user",
        };
        BadCertificate { what, why: why.into() }
    }

    /// Checks a certificate for `key`: its signature by one of `authorities`, its kind, its one
    /// principal, and that it has not ended. When it begins is not looked at, for there are boards
    /// without a clock; ours have no beginning.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn check(
        self,
        text: &str,
        key: &PublicKey,
        principal: &str,
        authorities: &[PublicKey],
        now_s: u64,
    ) -> Result<Checked, BadCertificate> {
        if text.len() > MAX_BYTES {
            return Err(self.bad("it is too long"));
        }
        let certificate =
            Certificate::from_openssh(text.trim()).map_err(|error| self.bad(error.to_string()))?;
        // The parser overlooks wrong lengths, which sshd and ssh do not.
        if certificate.to_openssh().ok().as_deref() != Some(text.trim()) {
            return Err(self.bad("it is not written as it should be"));
        }
        if certificate.cert_type() != self.kind() {
            return Err(self.bad("it is of the other kind"));
        }
        if certificate.public_key() != key.key_data() {
            return Err(self.bad("it is for another key"));
        }
        if certificate.valid_principals() != [principal] {
            return Err(self.bad(format!("it is not for {principal:?} alone")));
        }
        if !certificate.critical_options().is_empty() {
            return Err(self.bad("it has options that nobody asked for"));
        }
        let prints: Vec<_> =
            authorities.iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
        let at_s = now_s.max(certificate.valid_after());
        certificate.validate_at(at_s, &prints).map_err(|_| {
            if certificate.valid_before() <= at_s {
                self.bad("it has ended")
            } else {
                self.bad("its signature is not of a key that this node trusts")
            }
        })?;
        let signed_by = PublicKey::from(certificate.signature_key().clone());
        Ok(Checked {
            until_s: certificate.valid_before(),
            signed_by: super::fingerprint(&signed_by),
        })
    }
}
