//! The keys of this process: identities that decrypt backups, and signers that are trusted.
//!
//! Backups are opened in many places, so the keys are given once, at the start of the process, and not with each call.

use std::sync::{PoisonError, RwLock};

use super::keys::Identities;
use super::signing::PublicSigner;

static IDENTITIES: RwLock<Identities> = RwLock::new(Identities::none());
static SIGNERS: RwLock<Vec<PublicSigner>> = RwLock::new(Vec::new());

/// Decrypts backups with these identities too from now on.
pub fn unlock(identities: Identities) {
    IDENTITIES.write().unwrap_or_else(PoisonError::into_inner).add(identities);
}

/// Trusts this signer too from now on.
pub fn trust(signer: PublicSigner) {
    let mut signers = SIGNERS.write().unwrap_or_else(PoisonError::into_inner);
    if !signers.contains(&signer) {
        signers.push(signer);
    }
}

/// Whether there are identities at all.
pub fn has_identities() -> bool {
    !with_identities(Identities::is_empty)
}

/// The trusted signers.
pub(crate) fn signers() -> Vec<PublicSigner> {
    SIGNERS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

pub(super) fn with_identities<T>(work: impl FnOnce(&Identities) -> T) -> T {
    work(&IDENTITIES.read().unwrap_or_else(PoisonError::into_inner))
}
