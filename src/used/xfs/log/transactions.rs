//! From operations to transactions. The operations of several transactions stand between each other, and a region of an item is
//! cut where a record ends. A transaction without a commit is not replayed.

use std::collections::HashMap;

use super::ring::damaged;
use crate::field::{be32, le16, le32};
use crate::used::map::Whole;

const OPERATION_BYTES: usize = 12;
/// `XFS_TRANSACTION` and `XFS_LOG`.
const CLIENTS: [u8; 2] = [0x69, 0xAA];
const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUE: u8 = 0x04;
const WAS_CONTINUED: u8 = 0x08;
const END: u8 = 0x10;
const TRANSACTION_MAGIC: u32 = 0x5452_414E;
const TRANSACTION_HEADER_BYTES: usize = 16;
/// The kernel collects all changes in few transactions at a time.
const OPEN_MAX: usize = 64;
const TRANSACTIONS_MAX: usize = 1 << 20;
/// No region of an item that is read here is longer than a block of 64 KiB.
const REGION_BYTES_MAX: usize = 128 << 10;

/// Receives the items of transactions.
pub(super) trait Items {
    /// The first region of an item. Gives whether its other regions are wanted.
    fn format(&mut self, transaction: Transaction, format: &[u8]) -> Result<bool, Whole>;
    /// Another region of an item that is wanted, whose first one `format` is; `next_bit` is the item's own, and begins with 0.
    fn data(&mut self, transaction: Transaction, format: &[u8], next_bit: &mut usize, data: &[u8])
    -> Result<(), Whole>;
    fn commit(&mut self, transaction: Transaction) -> Result<(), Whole>;
}

/// One transaction: its place in the order of starts, and the number of the record in which it starts.
#[derive(Clone, Copy)]
pub(super) struct Transaction {
    pub(super) number: usize,
    pub(super) lsn: u64,
}

struct Item {
    format: Vec<u8>,
    regions_left: u16,
    is_wanted: bool,
    next_bit: usize,
}

struct Open {
    transaction: Transaction,
    has_header: bool,
    item: Option<Item>,
    /// The region that is being read; `None` before the first one.
    region: Option<Vec<u8>>,
}

pub(super) struct Transactions<'a> {
    items: &'a mut dyn Items,
    open: HashMap<u32, Open>,
    started: usize,
}

impl<'a> Transactions<'a> {
    pub(super) fn new(items: &'a mut dyn Items) -> Self {
        Self { items, open: HashMap::new(), started: 0 }
    }

    /// Adds the operations of one record.
    pub(super) fn add(&mut self, lsn: u64, operations: u32, data: &[u8]) -> Result<(), Whole> {
        let mut rest = data;
        for _ in 0..operations {
            if rest.is_empty() {
                break;
            }
            let (header, behind) = rest.split_at_checked(OPERATION_BYTES).ok_or_else(damaged)?;
            let (id, len) = be32(header, 0).zip(be32(header, 4)).ok_or_else(damaged)?;
            let (own, behind) =
                usize::try_from(len).ok().and_then(|len| behind.split_at_checked(len)).ok_or_else(damaged)?;
            rest = behind;
            if !CLIENTS.contains(&header[8]) {
                return Err(damaged());
            }
            self.operation(lsn, id, header[9], own)?;
        }
        Ok(())
    }

    fn operation(&mut self, lsn: u64, id: u32, flags: u8, data: &[u8]) -> Result<(), Whole> {
        let Some(open) = self.open.get_mut(&id) else {
            // What started before the tail is replayed already, and an unmount is of no transaction.
            return if flags & START != 0 { self.start(lsn, id, data) } else { Ok(()) };
        };
        let mut flags = flags & !END;
        if flags & WAS_CONTINUED != 0 {
            flags &= !CONTINUE;
        }
        match flags {
            0 | CONTINUE if data.is_empty() => Ok(()),
            0 | CONTINUE => {
                open.end_region(self.items)?;
                open.region = Some(Vec::new());
                open.extend(data)
            }
            WAS_CONTINUED if open.region.is_some() => open.extend(data),
            COMMIT => {
                open.end_region(self.items)?;
                let is_complete = open.has_header && open.item.as_ref().is_none_or(|item| item.regions_left == 0);
                if !is_complete {
                    return Err(damaged());
                }
                self.items.commit(open.transaction)?;
                self.open.remove(&id);
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    fn start(&mut self, lsn: u64, id: u32, data: &[u8]) -> Result<(), Whole> {
        if !data.is_empty() || self.open.len() >= OPEN_MAX || self.started >= TRANSACTIONS_MAX {
            return Err(damaged());
        }
        let transaction = Transaction { number: self.started, lsn };
        self.started += 1;
        self.open.insert(id, Open { transaction, has_header: false, item: None, region: None });
        Ok(())
    }
}

impl Open {
    fn extend(&mut self, data: &[u8]) -> Result<(), Whole> {
        let is_wanted = self.item.as_ref().is_none_or(|item| item.regions_left == 0 || item.is_wanted);
        let region = self.region.as_mut().ok_or_else(damaged)?;
        if is_wanted {
            if region.len() + data.len() > REGION_BYTES_MAX {
                return Err(damaged());
            }
            region.extend_from_slice(data);
        }
        Ok(())
    }

    /// Gives the region that was read, if there is one, to `items`.
    fn end_region(&mut self, items: &mut dyn Items) -> Result<(), Whole> {
        let Some(region) = self.region.take() else { return Ok(()) };
        if !self.has_header {
            let is_right = region.len() == TRANSACTION_HEADER_BYTES && le32(&region, 0) == Some(TRANSACTION_MAGIC);
            self.has_header = is_right;
            return if is_right { Ok(()) } else { Err(damaged()) };
        }
        if let Some(item) = self.item.as_mut().filter(|item| item.regions_left > 0) {
            item.regions_left -= 1;
            if item.is_wanted {
                items.data(self.transaction, &item.format, &mut item.next_bit, &region)?;
            }
            return Ok(());
        }
        // The first region of each kind of item has its kind, and how many regions it has with this one.
        let regions = le16(&region, 2).ok_or_else(damaged)?;
        let regions_left = regions.checked_sub(1).ok_or_else(damaged)?;
        let is_wanted = items.format(self.transaction, &region)?;
        self.item = Some(Item { format: region, regions_left, is_wanted, next_bit: 0 });
        Ok(())
    }
}
