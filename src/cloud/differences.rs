//! Where Cinder and Nova differ about a volume.

use std::collections::BTreeSet;

use super::{Attached, CloudVolume, Difference};

/// The differences. Without ids of attachments from Nova, instances alone are compared.
pub(super) fn of(volume: &CloudVolume, instances: &BTreeSet<&str>, knows_ids: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    for one in &volume.attachments {
        found.extend(about(one, instances, knows_ids));
    }
    if !status_fits(volume) {
        found.push(Difference::Status { status: volume.status.clone() });
    }
    found
}

fn about(one: &Attached, instances: &BTreeSet<&str>, knows_ids: bool) -> Option<Difference> {
    match (&one.cinder, &one.nova) {
        (None, Some(_)) => Some(Difference::OnlyNova { instance: one.instance.clone()? }),
        (Some(cinder), None) => {
            let instance = one.instance.clone();
            match instance {
                Some(instance) if !instances.contains(instance.as_str()) => {
                    Some(Difference::NoSuchInstance { instance })
                }
                instance => {
                    Some(Difference::OnlyCinder { attachment: cinder.attachment.clone().unwrap_or_default(), instance })
                }
            }
        }
        (Some(cinder), Some(nova)) if knows_ids && cinder.attachment != nova.attachment => {
            Some(Difference::OtherAttachment {
                instance: one.instance.clone().unwrap_or_default(),
                cinder: cinder.attachment.clone().unwrap_or_default(),
                nova: nova.attachment.clone().unwrap_or_default(),
            })
        }
        _ => None,
    }
}

/// Statuses that stay. The others end by themselves within seconds, or never.
fn status_fits(volume: &CloudVolume) -> bool {
    let is_attached = volume.attachments.iter().any(|one| one.cinder.is_some());
    match volume.status.as_str() {
        "in-use" => is_attached,
        "available" => !is_attached,
        "reserved" | "attaching" | "detaching" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::of;
    use crate::cloud::{Attached, CinderSide, CloudVolume, Difference, NovaSide};

    fn volume(status: &str, attachments: &[(Option<&str>, Option<&str>, &str)]) -> CloudVolume {
        let attached = |(cinder, nova, instance): &(Option<&str>, Option<&str>, &str)| Attached {
            instance: Some((*instance).to_owned()),
            cinder: cinder.map(|id| CinderSide { attachment: Some(id.to_owned()), ..CinderSide::default() }),
            nova: nova.map(|id| NovaSide { attachment: Some(id.to_owned()), ..NovaSide::default() }),
            ..Attached::default()
        };
        let attachments = attachments.iter().map(attached).collect();
        CloudVolume { status: status.to_owned(), attachments, ..CloudVolume::default() }
    }

    #[test]
    fn the_rows_of_the_recovery_table_differ_and_nothing_else_does() {
        let instances = BTreeSet::from(["s"]);
        let found = |status: &str, attachments: &[(Option<&str>, Option<&str>, &str)]| {
            of(&volume(status, attachments), &instances, true)
        };
        assert_eq!(found("in-use", &[(Some("a"), Some("a"), "s")]), []);
        assert_eq!(found("available", &[]), []);
        assert_eq!(found("error", &[]), []);
        let s = || "s".to_owned();
        assert_eq!(
            found("detaching", &[(Some("a"), Some("a"), "s")]),
            [Difference::Status { status: "detaching".to_owned() }]
        );
        assert_eq!(
            found("in-use", &[(Some("a"), None, "s")]),
            [Difference::OnlyCinder { attachment: "a".to_owned(), instance: Some(s()) }]
        );
        assert_eq!(found("available", &[(None, Some("a"), "s")]), [Difference::OnlyNova { instance: s() }]);
        assert_eq!(
            found("in-use", &[(Some("a"), Some("b"), "s")]),
            [Difference::OtherAttachment { instance: s(), cinder: "a".to_owned(), nova: "b".to_owned() }]
        );
        assert_eq!(
            found("in-use", &[(Some("a"), None, "gone")]),
            [Difference::NoSuchInstance { instance: "gone".to_owned() }]
        );
        assert_eq!(found("in-use", &[]), [Difference::Status { status: "in-use".to_owned() }]);
        // An older Nova does not say which attachment it means.
        assert_eq!(of(&volume("in-use", &[(Some("a"), Some(""), "s")]), &instances, false), []);
    }
}
