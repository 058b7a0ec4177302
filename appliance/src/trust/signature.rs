//! Signatures by the fleet's key on texts that any node may carry (OpenSSH's PROTOCOL.sshsig).

use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::certificate;

/// More signatures than a text has: one, or two while the fleet's key is being replaced.
pub(super) const MAX_SIGNATURES: usize = 8;

/// Signatures on a text, armoured. The namespace keeps them apart from those on other kinds of texts.
pub(super) fn sign(
    namespace: &str,
    text: &str,
    keys: &[&PrivateKey],
) -> Result<Vec<String>, ssh_key::Error> {
    let sign = |key: &&PrivateKey| {
        key.sign(namespace, HashAlg::Sha512, text.as_bytes())?.to_pem(LineEnding::LF)
    };
    keys.iter().map(sign).collect()
}

/// Whether one of `authorities` has signed the text. The caller has bounded how many signatures there are.
pub(super) fn is_signed(
    namespace: &str,
    text: &str,
    signatures: &[String],
    authorities: &[PublicKey],
) -> bool {
    let signed = |signature: &String| {
        // A signature is short; what is long is none.
        if signature.len() > certificate::MAX_BYTES {
            return false;
        }
        let Ok(signature) = SshSig::from_pem(signature) else { return false };
        let trusted = |key: &&PublicKey| key.key_data() == signature.public_key();
        authorities
            .iter()
            .find(trusted)
            .is_some_and(|key| key.verify(namespace, text.as_bytes(), &signature).is_ok())
    };
    signatures.iter().any(signed)
}
