//! Whether backups can be encrypted, signed and decrypted here.

use std::path::Path;

use super::finding::{Add, Answer};
use crate::config::Config;
use crate::encryption::{EncryptionOptions, keyring, open, signer_of};
use crate::error::with_causes;
use crate::outside::trust::changeable;
use crate::run::prune::Shelf;
use crate::run::unsigned::{PlainBackups, seen_of};

const ABOUT: &str = "encryption";
/// What is encrypted and signed for a test.
const PROBE: &[u8] = b"a probe of volbak doctor";

pub(super) fn encryption(config: &Config, shelves: &[Shelf], add: &mut Add<'_>) {
    let Some(options) = &config.archive.encryption else { return };
    let mut add = |answer, what: String| add(ABOUT, answer, what);
    let names = options.recipients.names();
    let number = if names.len() == 1 {
        "1 recipient: if its key is lost, no backup can be read".to_owned()
    } else {
        format!("{} recipients", names.len())
    };
    add(if names.len() == 1 { Answer::Doubtful } else { Answer::Good }, format!("{number}: {}", names.join(", ")));
    signing(options, &mut add);
    match changeable(&options.index_cache) {
        Ok(Some(by)) => add(
            Answer::Bad,
            format!("{by}: the index of the last backup is kept there, and decides what is carried forward"),
        ),
        Ok(None) => add(Answer::Good, format!("indexes are kept in {}", options.index_cache.display())),
        // The first backup makes it.
        Err(_) => add(Answer::Good, format!("indexes will be kept in {}", options.index_cache.display())),
    }
    probe(options, &mut add);
    let plain = PlainBackups::of(seen_of(shelves), true);
    for what in plain.lines() {
        add(Answer::Doubtful, what.clone());
    }
}

fn signing(options: &EncryptionOptions, add: &mut impl FnMut(Answer, String)) {
    let key: &Path = &options.signing_key;
    let signed = match options.signer() {
        Ok(signer) => signer.sign(PROBE).map(|signature| (signer.public(), signature)),
        Err(error) => return add(Answer::Bad, with_causes(&error)),
    };
    match signed {
        Ok((public, signature)) if signer_of(PROBE, signature.as_bytes()).as_ref() == Ok(&public) => {
            add(Answer::Good, format!("{} signs as {public}", key.display()));
        }
        Ok(_) => add(Answer::Bad, format!("{}: a signature made with it is not valid", key.display())),
        Err(error) => add(Answer::Bad, format!("{} does not sign: {error}", key.display())),
    }
    if let Ok(Some(by)) = changeable(key) {
        add(Answer::Bad, format!("{}: {by}", key.display()));
    }
}

/// Encrypts a probe, and decrypts it if there is an identity.
fn probe(options: &EncryptionOptions, add: &mut impl FnMut(Answer, String)) {
    let sealed = match options.recipients.seal(PROBE) {
        Ok(sealed) => sealed,
        Err(error) => return add(Answer::Bad, format!("a probe cannot be encrypted: {error}")),
    };
    if !keyring::has_identities() {
        let what = "decrypting a probe: give `--identity FILE` on a machine that has a private key".to_owned();
        return add(Answer::NotTried, what);
    }
    let mut plain = Vec::new();
    match open(&sealed, PROBE.len() as u64, &mut plain) {
        Ok(()) if plain == PROBE => {
            add(Answer::Good, "a probe was encrypted, and decrypted with an identity".to_owned());
        }
        Ok(()) => add(Answer::Bad, "a decrypted probe differs from what was encrypted".to_owned()),
        Err(error) => add(Answer::Bad, format!("a probe for the recipients cannot be decrypted: {error}")),
    }
}
