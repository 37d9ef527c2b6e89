//! The services of a cloud, and their addresses.

use std::collections::BTreeSet;

use super::answers::CatalogService;
use super::error::CloudError;
use super::settings::CloudSettings;
use crate::http::address;
use crate::shown;

/// A service of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ServiceKind {
    /// For messages, and the key of an address that overrides the catalogue's.
    name: &'static str,
    /// Its types, the preferred one first.
    kinds: &'static [&'static str],
    /// Its name in the microversion header.
    pub(super) header: &'static str,
}

pub(super) const BLOCK_STORAGE: ServiceKind =
    ServiceKind { name: "block-storage", kinds: &["block-storage", "volumev3", "block-store"], header: "volume" };
pub(super) const COMPUTE: ServiceKind = ServiceKind { name: "compute", kinds: &["compute"], header: "compute" };
#[cfg(feature = "swift")]
pub(super) const OBJECT_STORE: ServiceKind =
    ServiceKind { name: "object-store", kinds: &["object-store"], header: "object-store" };

/// The address of a service.
pub(super) fn endpoint(
    service: ServiceKind,
    catalogue: &[CatalogService],
    settings: &CloudSettings,
) -> Result<String, CloudError> {
    if let Some(url) = settings.endpoints.get(service.name) {
        return Ok(url.clone());
    }
    let mut has = BTreeSet::new();
    for kind in service.kinds {
        let mut fit = Vec::new();
        for one in catalogue.iter().filter(|one| one.kind == *kind).flat_map(|one| &one.endpoints) {
            let region = one.region_id.as_ref().or(one.region.as_ref()).map_or("", String::as_str);
            let interface = one.interface.trim_end_matches("URL");
            has.insert(format!("{} in {}", shown::text(interface), shown::text(region)));
            let is_region = settings
                .region
                .as_ref()
                .is_none_or(|wanted| one.region.as_ref() == Some(wanted) || one.region_id.as_ref() == Some(wanted));
            if is_region && interface == settings.interface {
                fit.push((region, &one.url));
            }
        }
        let regions: BTreeSet<&str> = fit.iter().map(|(region, _)| *region).collect();
        if regions.len() > 1 {
            let regions: Vec<String> = regions.into_iter().map(shown::text).collect();
            return Err(CloudError::WhichRegion { service: service.name, regions: regions.join(", ") });
        }
        if let Some((_, url)) = fit.first() {
            return address(url).map_err(|why| CloudError::NotUnderstood {
                what: format!("the catalogue's endpoint of {}", service.name),
                why: why.to_owned(),
            });
        }
    }
    let region =
        settings.region.as_ref().map_or_else(String::new, |region| format!(" in region {}", shown::text(region)));
    let has = if has.is_empty() { "nothing".to_owned() } else { has.into_iter().collect::<Vec<_>>().join(", ") };
    let interface = settings.interface.clone();
    Err(CloudError::NoEndpoint { url: settings.auth_url.clone(), service: service.name, interface, region, has })
}
