//! Compares an archive with the list of its pieces, as its bytes pass by: the proof of an archive whose SHA-1 is not known.

use std::sync::Arc;

use crate::outside::BlockRead;

/// A list of the pieces of an archive, in order and without gaps, with a digest of each.
pub(super) trait PieceList: Sized {
    /// A line of the list.
    type Piece;

    /// What the list is called: "its index".
    const NAME: &'static str;

    /// Begins to read the list.
    fn open(list: Arc<dyn BlockRead>) -> Result<Self, String>;

    /// The next piece and its length; `None` at the end.
    fn next(&mut self) -> Result<Option<(Self::Piece, u64)>, String>;

    /// Takes bytes of the piece that `next` gave last.
    fn take(&mut self, bytes: &[u8]);

    /// Fails unless all that was taken has the digest of the piece.
    fn judge(&mut self, piece: &Self::Piece) -> Result<(), String>;

    /// Which piece it is: "member 3".
    fn place(piece: &Self::Piece) -> String;

    /// The SHA-256 of the list, which was read to its end.
    fn sha256(self) -> Result<String, String>;
}

/// Compares an archive with a list of its pieces.
pub(super) struct Walker<L: PieceList> {
    list: Arc<dyn BlockRead>,
    /// `None` before the first byte.
    reader: Option<L>,
    /// The piece that passes by, and how many of its bytes are still to come.
    current: Option<(L::Piece, u64)>,
    /// What is wrong first.
    mistake: Option<String>,
}

/// At the beginning, whatever has passed by.
impl<L: PieceList> Clone for Walker<L> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.list))
    }
}

impl<L: PieceList> Walker<L> {
    pub(super) fn new(list: Arc<dyn BlockRead>) -> Self {
        Self { list, reader: None, current: None, mistake: None }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.mistake.is_none() {
            self.mistake = self.compare(bytes).err();
        }
    }

    fn compare(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let Some((piece, left)) = self.current_or_next()? else {
                return Err(format!("more bytes than {} says", L::NAME));
            };
            let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(len);
            let (reader, left) = (self.reader()?, left - len as u64);
            reader.take(now);
            bytes = later;
            if left == 0 {
                reader.judge(&piece)?;
            } else {
                self.current = Some((piece, left));
            }
        }
        Ok(())
    }

    /// The piece that has begun to pass by, or else the next one.
    fn current_or_next(&mut self) -> Result<Option<(L::Piece, u64)>, String> {
        match self.current.take() {
            Some(current) => Ok(Some(current)),
            None => self.reader()?.next(),
        }
    }

    fn reader(&mut self) -> Result<&mut L, String> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => L::open(Arc::clone(&self.list))?,
        };
        Ok(self.reader.insert(reader))
    }

    /// The SHA-256 of the list if all pieces have the digests in it, or what is wrong.
    pub(super) fn finish(mut self) -> String {
        let mistake = self.mistake.take().map_or(Ok(()), Err);
        mistake.and_then(|()| self.end()).unwrap_or_else(|mistake| mistake)
    }

    fn end(mut self) -> Result<String, String> {
        match self.current_or_next()? {
            Some((piece, _)) => Err(format!("cut off in {}", L::place(&piece))),
            None => match self.reader {
                Some(reader) => reader.sha256(),
                None => L::open(self.list)?.sha256(),
            },
        }
    }
}
