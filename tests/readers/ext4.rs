//! Promise: volbak's own reader of ext2, ext3 and ext4 gives the very archive that the kernel's mount gives.
//!
//! The same image is backed up with both, and the two streams of tar are equal byte for byte, whatever the filesystem
//! was made with, holds, and has in its journal. The manifest says who read it, so that a reader that silently leaves
//! all to the other one is no success. Damage never makes it panic, hang, or use memory without bound.
//!
//! `VOLBAK_ROUNDS=N` runs N rounds of what is random, `VOLBAK_SEED=S` starts elsewhere. `VOLBAK_KEEP=DIR` keeps the
//! image of a case that fails.

mod alike;
mod churn;
mod content;
mod contradictions;
mod damage;
mod formats;
mod hostile;
mod journals;
mod patch;
mod random;
mod small;
