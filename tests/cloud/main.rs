//! Promise: what volbak knows of the cloud is what the cloud says, and a cloud that lies, hangs or is down harms no
//! backup. Tests marked `ignore` need the control plane of scripts/cloud: scripts/test-cloud runs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod choice;
mod client;
#[cfg(feature = "openstack")]
mod cuts;
#[cfg(feature = "openstack")]
mod evacuate;
#[cfg(feature = "openstack")]
mod hostile;
#[cfg(feature = "openstack")]
mod inside;
mod instances;
#[cfg(feature = "openstack")]
mod json;
#[cfg(feature = "openstack")]
mod lab;
mod map;
mod night;
mod real;
#[cfg(feature = "openstack")]
mod recover;
#[cfg(feature = "openstack")]
mod runbook;
#[cfg(feature = "openstack")]
mod secrets;
mod server;
#[path = "../testkit/mod.rs"]
mod testkit;
#[cfg(feature = "openstack")]
mod tls;
mod to_volume;
