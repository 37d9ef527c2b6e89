//! Maps of few runs, and of more than are kept.

use std::io;

use super::{FreeRuns, MAX_RUNS, MapBuilder, RunSet, UsedMap};
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

fn run(start: u64, len: u64) -> ByteRange {
    ByteRange::new(start, len)
}

fn map(len: u64, runs: &[(u64, u64)]) -> UsedMap {
    let mut builder = MapBuilder::new(len);
    for (start, len) in runs {
        builder.add(run(*start, *len));
    }
    builder.finish()
}

#[test]
fn runs_that_touch_or_overlap_are_one() {
    let map = map(100, &[(0, 10), (10, 5), (12, 1), (20, 5), (90, 50), (200, 1)]);
    assert_eq!(map.runs(), [run(0, 15), run(20, 5), run(90, 10)]);
    assert_eq!((map.used_bytes(), map.len_bytes()), (30, 100));
    assert_eq!(map.next_used(12), Some(run(12, 3)));
    assert_eq!(map.next_used(15), Some(run(20, 5)));
    assert_eq!(map.next_used(100), None);
    assert!(map.covers(run(20, 5)) && map.covers(run(50, 0)));
    assert!(!map.covers(run(14, 2)) && !map.covers(run(16, 1)));
}

#[test]
fn an_intersection_has_what_both_maps_have() {
    let one = map(100, &[(0, 20), (30, 10), (50, 50)]);
    let other = map(100, &[(5, 5), (15, 20), (38, 22), (70, 1), (99, 1)]);
    let both = [run(5, 5), run(15, 5), run(30, 5), run(38, 2), run(50, 10), run(70, 1), run(99, 1)];
    assert_eq!(one.intersection(&other).runs(), both);
    assert_eq!(other.intersection(&one).runs(), both);
    assert_eq!(one.intersection(&map(100, &[])).runs(), []);
}

#[test]
fn runs_in_any_order_make_the_same_map() {
    let mut set = RunSet::new(100);
    for (start, len) in [(50, 5), (55, 5), (0, 3), (58, 9), (98, 9), (2, 1)] {
        set.add(run(start, len));
    }
    assert_eq!(set.finish().runs(), [run(0, 3), run(50, 17), run(98, 2)]);
}

#[test]
fn a_map_stays_bounded_and_covers_all_that_is_used() {
    let count = MAX_RUNS as u64 * 2 + 7;
    let mut builder = MapBuilder::new(u64::MAX);
    (0..count).for_each(|number| builder.add(run(number * 8192, 4096)));
    let map = builder.finish();
    assert!(map.runs().len() <= MAX_RUNS);
    assert!((0..count).step_by(1000).all(|number| map.covers(run(number * 8192, 4096))));
    let coarse = map.coarsened(10);
    assert!(coarse.runs().len() <= 10 && coarse.covers(run((count - 1) * 8192, 4096)));
}

#[test]
fn what_is_free_is_forgotten_rather_than_grown() {
    let mut free = FreeRuns::default();
    for (start, len) in [(50, 5), (55, 5), (0, 3), (98, 2)] {
        free.add(run(start, len));
    }
    assert_eq!(free.into_used(100).runs(), [run(3, 47), run(60, 38)]);
    let mut free = FreeRuns::default();
    let count = MAX_RUNS as u64 * 3;
    (0..count).rev().for_each(|number| free.add(run(number * 8192, 4096)));
    free.add(run(count * 8192, 1 << 20));
    let used = free.into_used(count * 8192 + (1 << 20));
    assert!((0..count).step_by(1000).all(|number| used.covers(run(number * 8192 + 4096, 4096))));
    assert_eq!(used.next_used(count * 8192), None);
}

/// Data in the second half of each 100 bytes, of 1000.
struct Striped;

impl BlockRead for Striped {
    fn len_bytes(&self) -> u64 {
        1000
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        unreachable!("holes are asked for, not read")
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(if offset % 100 >= 50 { offset } else { offset - offset % 100 + 50 }).filter(|at| *at < 1000))
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        Ok(if offset % 100 < 50 { offset } else { (offset / 100 + 1) * 100 })
    }
}

#[test]
fn holes_of_the_source_are_not_used() {
    let used = map(1000, &[(0, 60), (70, 10), (120, 180), (410, 20), (990, 10)]);
    let left = used.without_holes(&Striped, &Cancel::default()).unwrap();
    assert_eq!(left.runs(), [run(50, 10), run(70, 10), run(150, 50), run(250, 50), run(990, 10)]);
}
