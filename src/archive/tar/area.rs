//! Writes the data area of an entry: the map of its holes, if any, and its data runs.

use sha2::Digest;

use super::border::before_border;
use super::room::Room;
use super::stream::TarStream;
use crate::archive::data::DataOutcome;
use crate::archive::error::ArchiveError;
use crate::archive::pax;
use crate::archive::placed::tell;
use crate::archive::runs::{Runs, Unasked};
use crate::entry::FileContent;
use crate::events::Severity;
use crate::units::ByteRange;

/// The approximate size of pieces in which a map is written.
const MAP_PIECE_BYTES: usize = 64 * 1024;

/// The data runs of a file. If the query fails, all that follows counts as data.
pub(super) fn runs_of(
    stream: &TarStream<'_>,
    room: &Room,
    path: &[u8],
    content: &dyn FileContent,
    size: u64,
) -> Result<Runs, ArchiveError> {
    let mut found_bytes = 0_u64;
    let runs = Runs::find(content, size, |run| {
        stream.check_stop()?;
        found_bytes = found_bytes.saturating_add(run.len);
        room.check(found_bytes)
    })?;
    if let Some(Unasked { from, left_out, error }) = &runs.unasked {
        if *left_out {
            let what = format!("where it holds data cannot be found from byte {from} on; left out from there: {error}");
            tell(stream.observer, Severity::Error, path, what);
        } else {
            let what = format!("its holes cannot be found from byte {from} on, read as data: {error}");
            tell(stream.observer, Severity::Warning, path, what);
        }
    }
    Ok(runs)
}

/// Adds a data area that starts with `map_bytes` of a map of holes. Returns the result.
pub(super) fn put_area(
    stream: &mut TarStream<'_>,
    runs: &Runs,
    content: &dyn FileContent,
    map_bytes: u64,
) -> Result<DataOutcome, ArchiveError> {
    let mut outcome = if map_bytes > 0 { put_map(stream, runs, content, map_bytes)? } else { DataOutcome::default() };
    put_runs(stream, runs, content, &mut outcome)?;
    Ok(outcome)
}

/// Adds a data area whose data are cut into members at multiples of `distance` in the file or region, so that a change in
/// one place leaves the other members unchanged. What differs from night to night, headers and the map of holes, ends
/// a member before. The last one is left open.
pub(super) fn put_cut_area(
    stream: &mut TarStream<'_>,
    runs: &Runs,
    content: &dyn FileContent,
    map_bytes: u64,
    distance: u64,
) -> Result<DataOutcome, ArchiveError> {
    let mut outcome = if map_bytes > 0 { put_map(stream, runs, content, map_bytes)? } else { DataOutcome::default() };
    let mut fit = runs.fit();
    let mut again = runs.iter(content);
    stream.members.end_member()?;
    let mut last_at = 0;
    while let Some(run) = fit.take(again.next()) {
        let mut rest = run;
        while rest.len > 0 {
            if last_at / distance != rest.start / distance {
                stream.members.end_cut_member();
            }
            last_at = rest.start;
            let mut piece = before_border(rest, distance);
            let mut space = stream.members.space().len() as u64;
            if space == 0 || (stream.members.is_at_cut() && space < distance) {
                stream.members.end_cut_member();
                stream.check_stop()?;
                stream.members.end_member()?;
                space = stream.members.space().len() as u64;
            }
            piece.len = piece.len.min(space);
            stream.push_run(piece, content, &mut outcome)?;
            rest = ByteRange::new(piece.start + piece.len, rest.len - piece.len);
        }
    }
    outcome.runs_changed |= !fit.is_same();
    Ok(outcome)
}

/// Adds the map, exactly `map_bytes` long, whatever the file returns this time.
fn put_map(
    stream: &mut TarStream<'_>,
    runs: &Runs,
    content: &dyn FileContent,
    map_bytes: u64,
) -> Result<DataOutcome, ArchiveError> {
    let mut outcome = DataOutcome::default();
    let area = runs.area();
    let mut left = map_bytes;
    let mut fit = runs.fit();
    let mut text = area.first_line().into_bytes();
    let mut again = runs.iter(content);
    while let Some(run) = fit.take(again.next()) {
        text.extend_from_slice(area.lines_of(run).as_bytes());
        if text.len() >= MAP_PIECE_BYTES {
            stream.check_stop()?;
            put_map_piece(stream, &text, &mut left, &mut outcome)?;
            text.clear();
        }
    }
    if let Some(run) = area.last_run() {
        text.extend_from_slice(area.lines_of(run).as_bytes());
    }
    put_map_piece(stream, &text, &mut left, &mut outcome)?;
    // Less than a block.
    put_map_piece(stream, &pax::END, &mut left, &mut outcome)?;
    outcome.runs_changed |= !fit.is_same();
    Ok(outcome)
}

fn put_map_piece(
    stream: &mut TarStream<'_>,
    text: &[u8],
    left: &mut u64,
    outcome: &mut DataOutcome,
) -> Result<(), ArchiveError> {
    let piece = &text[..usize::try_from(*left).map_or(text.len(), |left| left.min(text.len()))];
    stream.push(piece)?;
    outcome.digest.update(piece);
    *left -= piece.len() as u64;
    Ok(())
}

/// Adds the data of all runs.
fn put_runs(
    stream: &mut TarStream<'_>,
    runs: &Runs,
    content: &dyn FileContent,
    outcome: &mut DataOutcome,
) -> Result<(), ArchiveError> {
    if runs.is_whole() {
        // The usual case: no holes.
        return stream.push_run(ByteRange::new(0, runs.area().size()), content, outcome);
    }
    let mut fit = runs.fit();
    let mut again = runs.iter(content);
    while let Some(run) = fit.take(again.next()) {
        stream.push_run(run, content, outcome)?;
    }
    outcome.runs_changed |= !fit.is_same();
    Ok(())
}
