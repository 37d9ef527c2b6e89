use std::io::Read;

use zstd::zstd_safe::DCtx;

use super::{BOUNDS, Codec, FrameDecoder, HEADER_BYTES, MAX_MEMBER_DATA, Zstd, frame_bound, header, store};
use crate::archive::codec::contract::{Decode, MemberFrame};
use crate::archive::codec::tests::noise;

#[test]
fn members_and_padding_are_one_stream_for_another_decoder() {
    let mut encoder = Zstd.encoder(6).unwrap();
    let (mut member, mut archive, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for data in [Vec::new(), vec![0; MAX_MEMBER_DATA], noise(MAX_MEMBER_DATA), b"text ".repeat(999), noise(70_000)] {
        let len = encoder.encode(&data, &mut member);
        archive.extend_from_slice(&member[..len]);
        archive.extend_from_slice(&Zstd.padding(BOUNDS.min_padding_bytes + data.len() % 1000));
        expected.extend_from_slice(&data);
    }
    let mut read = Vec::new();
    zstd::stream::read::Decoder::new(archive.as_slice()).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == expected);
}

#[test]
fn stored_frames_decode_and_stay_within_the_bound() {
    for len in [0, 1, 600, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, MAX_MEMBER_DATA] {
        let data = noise(len);
        let mut out = vec![0xaa; frame_bound(len)];
        let stored = store(&data, &mut out);
        let frame = &out[..stored];
        assert_eq!(zstd::stream::decode_all(frame).unwrap(), data, "{len}");
        let lens = [HEADER_BYTES + stored, len].map(|len| u32::try_from(len).unwrap());
        let member = [&header(MemberFrame { member_bytes: lens[0], data_bytes: lens[1] }), frame].concat();
        let mut read = Vec::new();
        let mut decoder = FrameDecoder(DCtx::create());
        decoder.decode(&member, len as u64, &mut read).unwrap();
        assert_eq!(read, data);
        let mut damaged = member.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(decoder.decode(&damaged, len as u64, &mut read).is_err());
    }
}

#[test]
fn a_frame_without_a_checksum_is_no_member() {
    let data = b"text that a damaged bit could change without a trace".as_slice();
    let plain = zstd::bulk::compress(data, 3).unwrap();
    let lens = [HEADER_BYTES + plain.len(), data.len()].map(|len| u32::try_from(len).unwrap());
    let member = [&header(MemberFrame { member_bytes: lens[0], data_bytes: lens[1] }), plain.as_slice()].concat();
    let mut read = Vec::new();
    assert!(FrameDecoder(DCtx::create()).decode(&member, data.len() as u64, &mut read).is_err());
}
