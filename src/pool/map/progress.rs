//! How far a map is, told to its caller while the results come in.

use crate::pool::source::Source;

use super::feed::Feed;
use super::results::Results;

/// How far a map is; see [`Map::progress`](crate::Map::progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Items that have a result, whether or not it was given yet, errors among them.
    pub done: u64,
    /// All items, where the iterator or stream knows how many it has left: ranges, vectors and
    /// slices do, filters only at their end.
    pub total: Option<u64>,
}

/// What is called, and how far the map was the last time.
#[derive(Default)]
pub(super) struct Hook(Option<Called>);

struct Called {
    hook: Box<dyn FnMut(Progress) + Send>,
    done: u64,
}

impl Hook {
    pub(super) fn new(hook: impl FnMut(Progress) + Send + 'static) -> Self {
        Self(Some(Called { hook: Box::new(hook), done: 0 }))
    }

    /// Calls the hook if tasks have ended since it was called last.
    #[inline]
    pub(super) fn call<S: Source>(&mut self, feed: &Feed<S>, results: &Results) {
        let Some(called) = &mut self.0 else { return };
        let done = feed.items() - results.in_flight() as u64;
        if done != called.done {
            called.done = done;
            let total = feed.left().map(|left| feed.items() + left as u64);
            (called.hook)(Progress { done, total });
        }
    }
}
