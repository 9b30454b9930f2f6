//! What goes wrong without a sound: words that have gone, tasks that the queue forgot, a full stream.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Event, Keeper, Out, nodes};
use crate::link::{self, Space};
use crate::protocol::{KeptEvent, Word};
use crate::wire;

/// A task whose word has not changed for so long is looked at.
const AUDIT: Duration = Duration::from_secs(30);

/// Tasks whose words are read in one look, and tasks that are purged one by one in one.
const AT_ONCE: usize = 256;

/// What a task takes in the stream besides its input: subjects, headers, its claim, a small outcome.
const OVERHEAD: u64 = 1500;

/// The pause before the next look at a stream that has room for more than the share was.
const NEXT_LOOK: Duration = Duration::from_millis(10);

impl Keeper {
    /// Reads the words of tasks of which nothing was seen for long.
    pub(super) fn audit(&mut self) {
        let quiet: Vec<u64> = self
            .out
            .iter_mut()
            .filter(|(_, out)| {
                out.since.elapsed() > AUDIT && out.kept.is_settled() && !out.kept.is_over()
            })
            .map(|(&n, out)| {
                (out.since, out.quiet) = (Instant::now(), true);
                n
            })
            .take(AT_ONCE)
            .collect();
        let (mut queues, mut builds) = (BTreeSet::new(), BTreeSet::new());
        for n in quiet {
            self.read(n, Duration::ZERO);
            let Some(out) = self.out.get(&n) else { continue };
            match out.kept.word() {
                Word::Queued { .. } => {
                    queues.insert((out.tail.class, out.tail.build.clone()));
                    builds.insert(out.tail.build.clone());
                }
                // The node is to look, too: it may never have made the claim.
                Word::Claimed { .. } => self.hint(n),
                Word::Absent | Word::Done { .. } => {}
            }
        }
        for (class, build) in queues {
            let (link, events) = (self.link.clone(), self.events.clone());
            tokio::spawn(async move {
                let idle = link.is_idle(class, &build).await;
                let _ = events.send(Event::Idle(class, build, idle));
            });
        }
        for build in builds {
            // A look takes half a minute, and reads every node's key.
            if self.lonely.contains(&build) || !self.sought.insert(build.clone()) {
                continue;
            }
            let (link, events) = (self.link.clone(), self.events.clone());
            tokio::spawn(async move {
                let are_none = nodes::are_none(&link, &build).await;
                let _ = events.send(Event::Sought(build, are_none));
            });
        }
    }

    /// Says that there is no node of a build whose tasks wait, once until one has taken some.
    pub(super) fn saw_nodes(&mut self, build: String, are_none: bool) {
        self.sought.remove(&build);
        if !are_none {
            return;
        }
        let waits =
            |out: &&Out| matches!(out.kept.word(), Word::Queued { .. }) && out.tail.build == build;
        let tasks: usize = self.out.values().filter(waits).map(|out| out.items.len()).sum();
        if tasks == 0 || self.lonely.contains(&build) {
            return;
        }
        tracing::warn!(
            pool = self.link.names.pool,
            "{tasks} tasks wait for a node of build {build}; there is none: `aiopool nodes` shows \
             which there are"
        );
        self.lonely.insert(build);
    }

    /// Sends tasks anew that are queued by their word, while their queue says that it is empty.
    pub(super) fn saw_idle(&mut self, class: u8, build: &str, idle: bool) {
        if !idle {
            return;
        }
        let forgotten: Vec<u64> = self
            .out
            .iter()
            .filter(|(_, out)| {
                matches!(out.kept.word(), Word::Queued { .. })
                    && (out.tail.class, out.tail.build.as_str()) == (class, build)
                    && out.kept.is_settled()
                    && out.quiet
            })
            .map(|(&n, _)| n)
            .take(AT_ONCE)
            .collect();
        for n in forgotten {
            tracing::warn!(task = n, "the queue has lost a task: it is sent again");
            self.tell(n, KeptEvent::Stuck);
        }
    }

    /// Whether a task may be sent now. A stream that has a limit is filled to three quarters, and
    /// others fill it, too: each takes a share of what is left, then looks how much that is now.
    pub(super) fn has_room(&mut self, n: u64) -> bool {
        let Some(Space { limit: Some(limit), used, .. }) = &mut self.space else { return true };
        let Some(out) = self.out.get(&n) else { return false };
        let size = wire::encode(&out.queued).len() as u64 + OVERHEAD;
        let fits = *used + size <= *limit / 4 * 3;
        // However small the share is, one task may go where it fits, and one alone always: what is
        // refused comes back as an error.
        let may = self.spent + size <= self.share || (self.spent == 0 && fits);
        if !may && self.out.len() > 1 {
            self.held_back.insert(n);
            return false;
        }
        self.spent += size;
        *used += size;
        self.sending.insert(n, size);
        true
    }

    /// Asks how full the stream is, unless it is known to have no limit.
    pub(super) fn look_at_space(&mut self, pause: Duration) {
        let waits = !self.held_back.is_empty() || !self.out.is_empty();
        let has_no_limit = self.space.as_ref().is_some_and(|space| space.limit.is_none());
        if self.looking || has_no_limit || !waits {
            return;
        }
        self.looking = true;
        // What the server has stored by now is in what it says.
        let out = &self.out;
        self.sending.retain(|n, _| out.get(n).is_some_and(|out| !out.kept.is_settled()));
        let (link, events) = (self.link.clone(), self.events.clone());
        tokio::spawn(async move {
            link::pause(pause).await;
            let _ = events.send(Event::Space(link.space().await));
        });
    }

    pub(super) fn saw_space(&mut self, space: Option<Space>) {
        self.looking = false;
        let Some(space) = space else { return };
        let used = space.used;
        let space = self.space.insert(space);
        // An operator may have taken the limit away.
        (self.share, self.spent) = (u64::MAX, 0);
        if let Some(limit) = space.limit {
            space.used += self.sending.values().sum::<u64>();
            let left = (limit / 4 * 3).saturating_sub(space.used);
            self.share = left / 4 / space.consumers.max(1);
            // Claims may be what there is no room for, and nobody tells the submitter of those.
            if used > limit / 4 * 3 || !self.held_back.is_empty() {
                self.squeeze();
            }
        }
        let mut waiting = std::mem::take(&mut self.held_back);
        // When the share is spent, what is left of it is too little for any.
        while self.spent == 0 || self.spent + OVERHEAD <= self.share {
            let Some(n) = waiting.pop_first() else { break };
            if self.has_room(n) {
                self.queue(n, 0);
            }
        }
        self.held_back.append(&mut waiting);
        if self.spent > 0 && !self.held_back.is_empty() {
            self.look_at_space(NEXT_LOOK);
        }
    }

    /// Purges single tasks that are over, where there is no room to wait for whole chunks.
    pub(super) fn squeeze(&mut self) {
        let below = if self.claim.durable {
            self.taken.lock().map_or(0, |taken| taken.below())
        } else {
            u64::MAX
        };
        let over: Vec<u64> = self.ended.range(..below).copied().take(AT_ONCE).collect();
        for n in &over {
            self.ended.remove(n);
            self.mark(*n, n + 1);
        }
    }
}
