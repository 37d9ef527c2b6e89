use super::{DeviceMapError, FoundMap, linear_table, map_name, map_uuid, owner_of, parse_maps};
use crate::owner::Owner;
use crate::units::Extent;

fn piece(source_offset: u64, length: u64) -> Extent {
    Extent { source_offset, length }
}

#[test]
fn pieces_become_lines_and_neighbours_are_joined() {
    let pieces = [piece(1 << 20, 4096), piece((1 << 20) + 4096, 4096), piece(512, 1024)];
    assert_eq!(linear_table(&pieces, (7, 3)).unwrap(), "0 16 linear 7:3 2048\n16 2 linear 7:3 1");
}

#[test]
fn pieces_that_cannot_be_mapped_are_refused() {
    let refused = |pieces: &[Extent]| matches!(linear_table(pieces, (7, 0)), Err(DeviceMapError::Unsupported { .. }));
    assert!(refused(&[]));
    assert!(refused(&[piece(0, 0)]));
    assert!(refused(&[piece(1, 512)]));
    assert!(refused(&[piece(0, 513)]));
    assert!(refused(&[piece(u64::MAX - 511, 1024)]));
}

#[test]
fn a_striped_volume_of_many_pieces_is_one_table() {
    let many: Vec<Extent> = (0..10_000).map(|index| piece(index * 4096, 512)).collect();
    let table = linear_table(&many, (7, 0)).unwrap();
    assert_eq!(table.lines().count(), 10_000);
    assert!(table.lines().last().unwrap().starts_with("9999 1 linear 7:0 79992"));
}

#[test]
fn a_map_says_whose_it_is() {
    let host = "h".repeat(64);
    let me: Owner =
        format!("{host}:0f8fad5b-d9cb-469f-a165-70867728950e:4026531836:4194304:18446744073709551615").parse().unwrap();
    let uuid = map_uuid(&me, u32::MAX);
    assert!(uuid.len() <= 127, "{}", uuid.len());
    assert_eq!(owner_of(&uuid, &me), Some(me.clone()));
    assert_eq!(owner_of("LVM-abc", &me), None);
    assert_eq!(owner_of("volbak-map-x", &me), None);
    let name = map_name(&me, 7, "p2.vg/web-lv \u{e9}");
    assert_eq!(name, "volbak-4194304-7-p2.vg_web-lv__");
    assert_eq!(map_name(&me, 7, &"x".repeat(500)).len(), 127);
}

#[test]
fn only_our_own_maps_are_seen() {
    let printed = "LVM-7bAd|vg0-a|1\nvolbak-map-b:1:2:3:0|volbak-2-0-p2|0\nvolbak-map-b:1:2:3:1|volbak-2-1-x|2\n\
        |plain|0\nvolbak-map-b:1:2:3:1|somebody-elses|0\n";
    let map = |count: u32, name: &str, is_open| FoundMap {
        uuid: format!("volbak-map-b:1:2:3:{count}"),
        name: name.to_owned(),
        is_open,
    };
    assert_eq!(parse_maps(printed), [map(0, "volbak-2-0-p2", false), map(1, "volbak-2-1-x", true)]);
    assert!(parse_maps("No devices found\n").is_empty());
}
