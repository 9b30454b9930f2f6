//! The verbs of `aiopool` over several machines, on NATS JetStream.
//!
//! `README.md` beside this crate's manifest has the protocol: roles, words, transitions, crash
//! points, the lease, and what each setting of the server does and does not promise.

pub mod protocol;
