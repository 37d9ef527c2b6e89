use std::io::Read;

use super::{
    Codec, DecodeError, Gzip, HEADER_BYTES, MAX_MEMBER_DATA, MAX_PADDING_BYTES, MIN_PADDING_BYTES, MemberEncoder,
    MemberFrame, SMALL_DATA, TRAILER_BYTES, header, looks_incompressible, padding, parse_header,
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

/// A member with other bytes behind its deflate stream, whose header has the right length.
fn with_surplus(good: &[u8], surplus: &[u8], data_bytes: usize) -> Vec<u8> {
    let (body, trailer) = good[HEADER_BYTES..].split_at(good.len() - HEADER_BYTES - TRAILER_BYTES);
    let member_bytes = u32::try_from(good.len() + surplus.len()).unwrap();
    let frame = MemberFrame { member_bytes, data_bytes: u32::try_from(data_bytes).unwrap() };
    [&header(frame)[..], body, surplus, trailer].concat()
}

#[test]
fn bytes_behind_the_deflate_stream_are_found() {
    let mut decoder = Gzip.decoder().unwrap();
    for data in [b"text ".repeat(999), noise(70_000), vec![0; 5000], Vec::new()] {
        let mut good = Vec::new();
        let len = MemberEncoder::new(6).unwrap().encode(&data, &mut good);
        good.truncate(len);
        if data.is_empty() {
            good = padding(60);
        }
        let trailer = good[good.len() - TRAILER_BYTES..].to_vec();
        let mut found = Vec::new();
        assert_eq!(decoder.decode(&good, data.len() as u64, &mut found), Ok(()));
        assert!(found == data);
        for surplus in [vec![0], vec![0; 100], trailer.clone(), [&trailer[..], &[0; 9]].concat(), noise(999)] {
            let bad = with_surplus(&good, &surplus, data.len());
            let result = decoder.decode(&bad, data.len() as u64, &mut found);
            assert_eq!(result, Err(DecodeError::Surplus), "{} of data, {} of surplus", data.len(), surplus.len());
        }
    }
}

#[test]
fn a_stored_member_that_contains_its_own_trailer_is_good() {
    let mut data = vec![7; 40];
    let crc = 0x1234_5678_u32.to_le_bytes();
    data.extend_from_slice(&crc);
    data.extend_from_slice(&52_u32.to_le_bytes());
    data.extend_from_slice(&bytes_for_crc(&data, 0x1234_5678));
    assert_eq!((data.len(), libdeflater::crc32(&data)), (52, 0x1234_5678));
    let member_bytes = u32::try_from(HEADER_BYTES + 5 + 52 + TRAILER_BYTES).unwrap();
    let mut member = header(MemberFrame { member_bytes, data_bytes: 52 }).to_vec();
    member.extend_from_slice(&[1, 52, 0, !52, 0xff]);
    member.extend_from_slice(&data);
    member.extend_from_slice(&crc);
    member.extend_from_slice(&52_u32.to_le_bytes());
    let mut found = Vec::new();
    assert_eq!(Gzip.decoder().unwrap().decode(&member, 52, &mut found), Ok(()));
    assert!(found == data);
}

/// Four bytes that follow `data`, so that the CRC-32 of all is `wanted`.
fn bytes_for_crc(data: &[u8], wanted: u32) -> [u8; 4] {
    let crc = |tail: u32| libdeflater::crc32(&[data, &tail.to_le_bytes()[..]].concat());
    let base = crc(0);
    // CRC-32 is linear: each bit of the tail flips a fixed set of bits. Gaussian elimination.
    let mut rows: Vec<(u32, u32)> = (0..32).map(|bit| (crc(1 << bit) ^ base, 1 << bit)).collect();
    let mut left = wanted ^ base;
    let mut tail = 0;
    for bit in 0..32 {
        let at = rows.iter().position(|row| row.0 >> bit & 1 == 1).unwrap();
        let pivot = rows.swap_remove(at);
        for row in &mut rows {
            if row.0 >> bit & 1 == 1 {
                *row = (row.0 ^ pivot.0, row.1 ^ pivot.1);
            }
        }
        if left >> bit & 1 == 1 {
            (left, tail) = (left ^ pivot.0, tail ^ pivot.1);
        }
    }
    tail.to_le_bytes()
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
