//! Inputs and values that are too large for a task's own messages: pieces in a stream of their own.
//!
//! The pieces are stored before the message that speaks of them, and purged after it. They are named
//! by job and task, so that what was stored in vain goes with its job.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::link::{AGAIN, Link, PATIENCE, Swap};

/// Bytes that travel in the task's own messages: three quarters of a stream's limit are reckoned
/// with so much of each task.
pub(crate) const INLINE: usize = 64 << 10;

/// The largest input and the largest value.
pub(crate) const LARGEST: usize = 64 << 20;

/// Bytes of a piece; the server takes messages of a megabyte, and answers a read in base 64.
const PIECE: usize = 256 << 10;

/// Pieces that are on their way at once.
const AT_ONCE: usize = 4;

/// Which of a task's blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    Input,
    /// Of the attempt with this claim.
    Output(u64),
}

impl Side {
    pub(crate) fn token(self) -> String {
        match self {
            Self::Input => "i".to_owned(),
            Self::Output(claim) => format!("o{claim}"),
        }
    }
}

/// What a message says of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    side: Side,
    size: u64,
    pieces: u32,
    sha256: [u8; 32],
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut all = [0; 32];
    all.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    all
}

impl Link {
    /// Returns how many bytes may travel in a task's own message over this connection.
    pub(crate) fn inline(&self) -> usize {
        INLINE.min(self.client.server_info().max_payload.saturating_sub(16 << 10))
    }

    /// Stores a blob, and goes on until the server has it or refuses it.
    ///
    /// # Errors
    ///
    /// Why the server refuses it.
    pub(crate) async fn store_blob(
        &self,
        job: u128,
        n: u64,
        side: Side,
        bytes: &Bytes,
    ) -> Result<Blob, String> {
        let piece = PIECE.min(self.client.server_info().max_payload / 2).max(1);
        let pieces: Vec<Bytes> = (0..bytes.len())
            .step_by(piece)
            .map(|from| bytes.slice(from..bytes.len().min(from + piece)))
            .collect();
        let count = pieces.len() as u32;
        let store = |(i, piece): (usize, Bytes)| async move {
            let subject = self.names.blob(job, n, side, i as u32);
            loop {
                let swap = self.swap(subject.clone(), &subject, 0, piece.clone(), PATIENCE).await;
                match swap {
                    // Refused with a number: an earlier sending of these very bytes is there.
                    Swap::Won(_) | Swap::Refused(Some(_)) => return Ok(()),
                    // It is there, or on its way only, and a leader may yet lose it: read, and sent
                    // again until the server says which.
                    Swap::Refused(None) => {
                        tokio::time::sleep(AGAIN).await;
                        if let Ok(Some(_)) = self.newest(&self.names.blobs(), &subject).await {
                            return Ok(());
                        }
                    }
                    Swap::Unknown => tokio::time::sleep(swap.pause()).await,
                    Swap::Full(reason) | Swap::Broken(reason) => return Err(reason),
                }
            }
        };
        let work = stream::iter(pieces.into_iter().enumerate().map(store));
        work.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(Blob { side, size: bytes.len() as u64, pieces: count, sha256: digest(bytes) })
    }

    /// Fetches a blob, and goes on until the server answers.
    ///
    /// # Errors
    ///
    /// What is wrong with it: a piece is missing, or its digest is another.
    pub(crate) async fn fetch_blob(&self, job: u128, n: u64, blob: &Blob) -> Result<Bytes, String> {
        if blob.size > LARGEST as u64 || u64::from(blob.pieces) > blob.size {
            return Err(format!("it is said to have {} bytes", blob.size));
        }
        let fetch = |i: u32| async move {
            let subject = self.names.blob(job, n, blob.side, i);
            loop {
                match self.newest(&self.names.blobs(), &subject).await {
                    Ok(Some(stored)) => return Ok(stored.payload),
                    Ok(None) => return Err(format!("piece {i} of {} is missing", blob.pieces)),
                    Err(()) => tokio::time::sleep(Swap::Unknown.pause()).await,
                }
            }
        };
        let mut all = BytesMut::new();
        let mut pieces = stream::iter((0..blob.pieces).map(fetch)).buffered(AT_ONCE);
        while let Some(piece) = pieces.try_next().await? {
            all.extend_from_slice(&piece);
            if all.len() as u64 > blob.size {
                break;
            }
        }
        if all.len() as u64 != blob.size || digest(&all) != blob.sha256 {
            return Err("its bytes are not those that were stored".to_owned());
        }
        Ok(all.freeze())
    }
}
