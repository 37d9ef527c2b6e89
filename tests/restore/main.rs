//! Promise: what is restored is what was backed up, on whichever place; and a backup that would not come back is found
//! before it is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod damage;
mod device;
mod files;
mod foreign;
mod history;
mod hostile_archives;
mod made_anew;
mod many_backups;
mod mount;
mod one_region;
mod other_numbers;
mod partial;
mod places;
mod remap;
mod second_opinion;
mod share;
mod shared_host;
#[path = "../testkit/mod.rs"]
mod testkit;
mod unmounted;
mod verify_verb;
mod what_is_there;
