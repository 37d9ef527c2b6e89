//! The command line of volbak.

fn main() {}
