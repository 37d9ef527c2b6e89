//! A lease that expires, in place of a lock. It is advice: two runs that do not see each other's lease harm nothing, since
//! the keys of each are its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::objects::{ObjectClient, ObjectError};
use crate::outside::host::uptime;
use crate::owner::{Owner, OwnerState};
use crate::shown;
use crate::store::api::{Lock, RunLock};

/// A killed run holds others up for so long at most.
const LEASE: TimeDelta = TimeDelta::minutes(10);
const RENEWED_EVERY: Duration = Duration::from_secs(180);
const MAX_BYTES: u64 = 4096;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Note {
    holder: String,
    /// Tells two holders apart.
    nonce: String,
    expires_at: DateTime<Utc>,
    /// The process that holds it, as an [`Owner`] is displayed.
    #[serde(default)]
    owner: Option<String>,
}

impl Note {
    fn is_held(&self, now: DateTime<Utc>) -> bool {
        self.expires_at > now && !self.has_ended()
    }

    /// Whether its process ran on this host since it was started, and has ended. Another boot may be another host of the
    /// same name.
    fn has_ended(&self) -> bool {
        let owner = self.owner.as_ref().and_then(|owner| owner.parse::<Owner>().ok());
        owner
            .zip(Owner::this_process().ok())
            .is_some_and(|(owner, me)| owner.is_of_the_same_boot(&me) && owner.state(&me) == OwnerState::Gone)
    }
}

/// Takes the lease at `key`, unless another one has not expired yet.
pub(super) fn take(client: &Arc<ObjectClient>, key: &str, holder: &str) -> Result<Lock, ObjectError> {
    if let Some(by) = read(client, key)?.filter(|note| note.is_held(now(client))) {
        return Ok(Lock::Held { by: shown::text(by.holder.trim()) });
    }
    let mut nonce = [0_u8; 16];
    // Without random bytes two holders of one host are told apart by their lines.
    let _ = getrandom(&mut nonce, GetRandomFlags::empty());
    let note = Note {
        holder: holder.to_owned(),
        nonce: shown::hex(&nonce),
        expires_at: now(client) + LEASE,
        owner: Owner::this_process().ok().map(|owner| owner.to_string()),
    };
    write(client, key, &note)?;
    match read(client, key)? {
        Some(found) if found.nonce != note.nonce => Ok(Lock::Held { by: shown::text(found.holder.trim()) }),
        _ => Ok(Lock::Taken(RunLock::new(Lease::begin(Arc::clone(client), key.to_owned(), note)))),
    }
}

fn now(client: &ObjectClient) -> DateTime<Utc> {
    Utc::now() + TimeDelta::try_seconds(client.skew_seconds()).unwrap_or_default()
}

/// The lease; `None` if there is none, or if it is not one.
fn read(client: &ObjectClient, key: &str) -> Result<Option<Note>, ObjectError> {
    match client.get(key, MAX_BYTES) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok())),
        Err(ObjectError::TooLong { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(client: &ObjectClient, key: &str, note: &Note) -> Result<(), ObjectError> {
    client.put_for(key, &serde_json::to_vec(note).unwrap_or_default(), LEASE.to_std().unwrap_or_default()).map(drop)
}

/// Renews the lease until it is dropped.
struct Lease {
    client: Arc<ObjectClient>,
    key: String,
    nonce: String,
    /// When it was taken, by a clock that goes on while the host is suspended.
    began: Duration,
    is_over: Arc<(Mutex<bool>, Condvar)>,
    /// `None` if no thread could be made: the lease then expires before a long run ends.
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    fn begin(client: Arc<ObjectClient>, key: String, note: Note) -> Self {
        let is_over = Arc::new((Mutex::new(false), Condvar::new()));
        let (nonce, own) = (note.nonce.clone(), (Arc::clone(&client), key.clone(), Arc::clone(&is_over)));
        let renewing = move || {
            let (client, key, is_over) = own;
            loop {
                let guard = is_over.0.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = is_over.1.wait_timeout_while(guard, RENEWED_EVERY, |is_over| !*is_over);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
                // A failure is repeated at the next turn; the lease is only advice.
                let _ = write(&client, &key, &Note { expires_at: now(&client) + LEASE, ..note.clone() });
            }
        };
        let thread = Builder::new().name("lease".to_owned()).spawn(renewing).ok();
        Self { client, key, nonce, began: uptime(), is_over, thread }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.is_over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.is_over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Another run may have taken it over, but not before it expires. If it stays, it expires.
        let is_new = uptime().saturating_sub(self.began) < RENEWED_EVERY;
        if is_new || matches!(read(&self.client, &self.key), Ok(Some(found)) if found.nonce == self.nonce) {
            let _ = self.client.delete(&self.key, None);
        }
    }
}
