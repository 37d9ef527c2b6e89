//! The keys of encrypted backups, from arguments and from the config.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use volbak::config::Config;
use volbak::encryption::{Identities, PublicSigner, keyring};

use super::log;

/// Keys for encrypted backups.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyArgs {
    /// A file with secret keys that decrypt backups, as age-keygen writes it; may be repeated
    #[arg(long = "identity", global = true, value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// A file with public keys of hosts whose signatures are trusted: a `.pub` file, or an allowed-signers file; may
    /// be repeated
    #[arg(long = "signer", global = true, value_name = "FILE")]
    signers: Vec<PathBuf>,
}

impl KeyArgs {
    /// Uses these keys from now on.
    pub(crate) fn take(&self) -> anyhow::Result<()> {
        for path in &self.identities {
            unlock(path)?;
        }
        for path in &self.signers {
            let failed = || format!("{} cannot be read", path.display());
            let text = std::fs::read_to_string(path).with_context(failed)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            for (number, line) in lines.enumerate() {
                let wrong = || format!("{}, key {}: no ssh-ed25519 key", path.display(), number + 1);
                keyring::trust(PublicSigner::parse(line).with_context(wrong)?);
            }
        }
        Ok(())
    }
}

/// Uses the keys that the config names.
pub(crate) fn take_from(config: &Config) -> anyhow::Result<()> {
    let table = &config.encryption;
    if let Some(path) = &table.identities_file {
        unlock(path).context("identities_file")?;
    }
    table.signers.iter().filter_map(|line| PublicSigner::parse(line)).for_each(keyring::trust);
    // A missing key is an error of the backup, not of a verb that only reads.
    if let Some(options) = &config.archive.encryption {
        match options.signer() {
            Ok(signer) => keyring::trust(signer.public()),
            Err(error) => log::warning(&format!("signing_key: {:#}", anyhow::Error::new(error))),
        }
    }
    Ok(())
}

fn unlock(path: &Path) -> anyhow::Result<()> {
    keyring::unlock(Identities::from_file(path)?);
    Ok(())
}
