//! The `aiopool` command.
fn main() {}
