use std::io::Read;

use super::{
    HEADER_BYTES, MAX_MEMBER_DATA, MAX_PADDING_BYTES, MIN_PADDING_BYTES, MemberEncoder, SMALL_DATA, TRAILER_BYTES,
    looks_incompressible, padding, parse_header,
};
use crate::archive::codec::tests::noise;

#[test]
fn members_of_every_kind_come_back_through_another_inflater() {
    let mut encoder = MemberEncoder::new(6).unwrap();
    let (mut member, mut archive, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for data in [Vec::new(), vec![0; MAX_MEMBER_DATA], noise(MAX_MEMBER_DATA), b"text ".repeat(999), noise(70_000)] {
        let len = encoder.encode(&data, &mut member);
        let frame = parse_header(&member).unwrap();
        assert_eq!((frame.member_bytes as usize, frame.data_bytes as usize), (len, data.len()));
        archive.extend_from_slice(&member[..len]);
        expected.extend_from_slice(&data);
    }
    let mut read = Vec::new();
    flate2::read::MultiGzDecoder::new(archive.as_slice()).read_to_end(&mut read).unwrap();
    assert!(read == expected);
}

#[test]
fn padding_has_the_requested_length_and_no_data() {
    let mut archive = Vec::new();
    for len in MIN_PADDING_BYTES..=MAX_PADDING_BYTES {
        let member = padding(len);
        assert_eq!(member.len(), len);
        let frame = parse_header(&member).unwrap();
        assert_eq!((frame.member_bytes as usize, frame.data_bytes), (len, 0));
        let body = &member[HEADER_BYTES..len - TRAILER_BYTES];
        assert_eq!(libdeflater::Decompressor::new().deflate_decompress(body, &mut []).unwrap(), 0, "{len}");
        if len % 101 == 0 {
            archive.extend_from_slice(&member);
        }
    }
    let mut read = Vec::new();
    flate2::read::MultiGzDecoder::new(archive.as_slice()).read_to_end(&mut read).unwrap();
    assert!(read.is_empty());
}

#[test]
fn a_header_with_any_byte_changed_is_not_ours_or_says_another_length() {
    let mut member = Vec::new();
    MemberEncoder::new(1).unwrap().encode(b"data", &mut member);
    let good = parse_header(&member).unwrap();
    for at in 0..HEADER_BYTES {
        let mut damaged = member.clone();
        damaged[at] ^= 0x40;
        assert_ne!(parse_header(&damaged), Some(good), "byte {at}");
    }
    assert_eq!(parse_header(&member[..HEADER_BYTES - 1]), None);
}

#[test]
fn only_noise_is_stored() {
    assert!(looks_incompressible(&noise(1 << 20)));
    assert!(!looks_incompressible(&b"some text that compresses ".repeat(40_000)));
    assert!(!looks_incompressible(&noise(1000)));
}

#[test]
fn a_changed_level_gives_the_same_output_as_a_new_encoder() {
    let data = b"some text that compresses ".repeat(4000);
    let mut encoder = MemberEncoder::new(1).unwrap();
    for level in [1, 9, 9, 3] {
        encoder.set_level(level).unwrap();
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        let len = encoder.encode(&data, &mut changed);
        assert_eq!(MemberEncoder::new(level).unwrap().encode(&data, &mut new), len);
        assert!(changed[..len] == new[..len]);
    }
    assert!(encoder.set_level(13).is_err());
    let made = |level: i32, data: &[u8]| {
        let mut member = Vec::new();
        let len = MemberEncoder::new(level).unwrap().encode(data, &mut member);
        member[..len].to_vec()
    };
    // Decision 22.
    let large = data.repeat(SMALL_DATA / data.len() + 1);
    assert!(made(1, &large) == made(2, &large) && made(1, &data) != made(2, &data));
    assert!(made(3, &data) == made(4, &data));
}

#[test]
fn levels_are_1_to_12() {
    assert!([0, -1, 13].map(MemberEncoder::new).iter().all(Result::is_err));
    assert!((1..=12).all(|level| MemberEncoder::new(level).is_ok()));
}
