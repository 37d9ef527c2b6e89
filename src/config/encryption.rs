//! The table `[encryption]`: for whom backups are encrypted, and with what they are signed.

use std::path::PathBuf;

use super::section::Section;
use crate::encryption::{EncryptionOptions, PublicSigner, Recipients};

/// The keys in the table `[encryption]`; the rest of it is in [`super::ArchiveOptions`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionTable {
    /// The secret keys of a host that reads encrypted backups.
    pub identities_file: Option<PathBuf>,
    /// Public keys of other hosts whose signatures are trusted, as in a `.pub` file.
    pub signers: Vec<String>,
}

const RIGHT_RECIPIENT: &str = "write the public key that `age-keygen` prints, like \"age1…\"";

/// Keys, and how new backups are encrypted; `None` if they are not.
pub(super) fn read(section: &Section<'_>) -> (EncryptionTable, Option<EncryptionOptions>) {
    let recipients = section.list("recipients", |text| {
        let is_one = Recipients::parse(&[text.to_owned()]).is_ok();
        if is_one { Ok(text.to_owned()) } else { Err(RIGHT_RECIPIENT) }
    });
    let allow_one = section.boolean("allow_one_recipient").unwrap_or(false);
    let signing_key = section.path("signing_key", "/etc/volbak/signing_key");
    let index_cache = section.path("index_cache", "/var/lib/volbak/indexes");
    let signers = section.list("signers", |text| {
        let is_one = PublicSigner::parse(text).is_some();
        if is_one { Ok(text.to_owned()) } else { Err("write the line of a .pub file, like \"ssh-ed25519 AAAA…\"") }
    });
    let options = recipients.filter(|recipients| !recipients.is_empty()).and_then(|names| {
        if names.len() == 1 && !allow_one {
            let what = "there is one recipient: whoever loses its key loses every backup";
            let right = "name a second one, whose key is kept elsewhere, or write allow_one_recipient = true";
            section.reading.mistake(&section.place("recipients"), what, right);
        }
        match Recipients::parse(&names) {
            Ok(recipients) => {
                let mut options = EncryptionOptions::for_recipients(recipients);
                options.signing_key = signing_key.unwrap_or(options.signing_key);
                options.index_cache = index_cache.unwrap_or(options.index_cache);
                Some(options)
            }
            Err(error) => {
                section.reading.mistake(&section.place("recipients"), error.to_string(), RIGHT_RECIPIENT);
                None
            }
        }
    });
    let table = EncryptionTable {
        identities_file: section.path("identities_file", "/root/volbak-identities"),
        signers: signers.unwrap_or_default(),
    };
    (table, options)
}
