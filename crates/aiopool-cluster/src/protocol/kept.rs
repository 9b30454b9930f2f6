//! One task at its submitter, from the submission to the one outcome.

use super::word::{Ending, Word};

/// What the caller allows of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Allowed {
    /// Attempts: one and the retries.
    pub attempts: u32,
    /// Whether an error counts as an attempt.
    pub on_error: bool,
    /// Whether a time-out counts as an attempt.
    pub on_timeout: bool,
}

impl Allowed {
    /// Whether another attempt may follow one that ended so.
    #[must_use]
    pub fn may_follow(&self, attempt: u32, ending: Ending) -> bool {
        let kind = match ending {
            Ending::WorkerLost | Ending::NodeLost => true,
            Ending::Failed => self.on_error,
            Ending::TimedOut => self.on_timeout,
            _ => false,
        };
        kind && attempt < self.attempts
    }
}

/// What a submitter keeps of a task that it has not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    allowed: Allowed,
    /// The newest word that was seen; its numbers only grow.
    word: Word,
    stage: Stage,
    /// What the submitter wants the task to end with, if it does.
    wish: Option<Ending>,
    /// How often a node gave it back.
    given_back: u8,
    /// A retry waits for its time.
    backing_off: bool,
    /// What was last sent will never be taken by the server.
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The submission's fate is not known.
    Submitting,
    /// The word is known.
    Out,
    /// A word of ours is on its way, or its fate is being read.
    Deciding,
    Over,
}

/// Times that a node may give a task back before it counts as lost.
const GIVEN_BACK: u8 = 3;

/// What happens to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptEvent {
    /// What was sent is stored under this number.
    Won(u64),
    /// What was sent was refused, or its fate is unknown: the word is to be read.
    Unsure,
    /// The server will never take what was sent. An earlier copy of it may be stored all the same.
    Refused,
    /// The word as the stream's leader has it now, asked for after the last sending.
    Read(Word),
    /// A word that the collector came by; it may be an old one.
    Saw(Word),
    /// The node's life that holds the task is dead beyond doubt.
    NodeDead(u128),
    /// The caller wants no outcome any more.
    Cancel,
    /// The task has waited for a node too long.
    Expire,
    /// The pause before the next attempt is over.
    PauseOver,
    /// No node has claimed the task for long, though some have room: the queue may have lost it.
    Stuck,
}

/// What a task asks of its submitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptAction {
    /// Send the task, expecting no word.
    Submit,
    /// Send the task again.
    Requeue {
        /// The number of the word that it replaces.
        expected: u64,
        /// The attempt that it stands for.
        attempt: u32,
    },
    /// Send an outcome of the submitter's own.
    Decide {
        /// The number of the word that it replaces.
        expected: u64,
        /// The attempt that it ends.
        attempt: u32,
        /// How.
        ending: Ending,
    },
    /// Ask the stream's leader for the word.
    Read,
    /// Wait before this attempt, then give [`KeptEvent::PauseOver`].
    Pause {
        /// The attempt that follows, from 2.
        attempt: u32,
    },
    /// A node's life has the task: give [`KeptEvent::NodeDead`] when it is dead.
    Watch(u128),
    /// Deliver the outcome that the word of this number has.
    Deliver {
        /// The number of the outcome's message.
        seq: u64,
    },
    /// Deliver the news that the word has gone: nothing is known, and nothing is sent any more.
    DeliverVanished,
    /// Deliver the server's refusal: the word is what it was before.
    DeliverRefused,
}

use KeptAction as Do;
use KeptEvent as Event;

impl Kept {
    /// Submits a task.
    #[must_use]
    pub fn submit(allowed: Allowed) -> (Self, Vec<Do>) {
        let (word, stage) = (Word::Absent, Stage::Submitting);
        let (wish, given_back, backing_off, refused) = (None, 0, false, false);
        let kept = Self { allowed, word, stage, wish, given_back, backing_off, refused };
        (kept, vec![Do::Submit])
    }

    /// Takes a task over that another submitter of the job may have sent: its word is read first,
    /// and the task is sent if there is none.
    #[must_use]
    pub fn resume(allowed: Allowed) -> (Self, Vec<Do>) {
        let (kept, _) = Self::submit(allowed);
        (kept, vec![Do::Read])
    }

    /// Whether the outcome is delivered.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Returns the newest word that was seen.
    #[must_use]
    pub fn word(&self) -> Word {
        self.word
    }

    /// Returns what the submitter wants the task to end with, if it does.
    #[must_use]
    pub fn wish(&self) -> Option<Ending> {
        self.wish
    }

    /// Whether a message of this task may still be on its way to the server.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Out | Stage::Over)
    }

    /// Takes an event and answers with what is to be done.
    pub fn step(&mut self, event: Event) -> Vec<Do> {
        match (self.stage, event) {
            (Stage::Over, _) => Vec::new(),
            (Stage::Submitting, Event::Won(seq)) => {
                self.stage = Stage::Out;
                // The collector may have been quicker: then it is a claim or an outcome by now.
                if seq > self.word.seq() {
                    self.word = Word::Queued { seq, attempt: 1 };
                }
                self.act()
            }
            // What a submitter has sent itself comes back through the collector.
            (Stage::Deciding, Event::Won(_) | Event::Unsure)
            | (Stage::Submitting, Event::Unsure) => vec![Do::Read],
            (Stage::Submitting | Stage::Deciding, Event::Refused) => {
                self.refused = true;
                vec![Do::Read]
            }
            (Stage::Submitting | Stage::Deciding, Event::Read(word))
                if self.refused && word.seq() == self.word.seq() =>
            {
                self.stage = Stage::Over;
                vec![Do::DeliverRefused]
            }
            // S1: nothing there: the copy before is lost or late, and then refused, or purged
            // with its job by the first node that meets it.
            (Stage::Submitting, Event::Read(Word::Absent)) if self.word == Word::Absent => {
                vec![Do::Submit]
            }
            (_, Event::Read(Word::Absent)) => {
                self.stage = Stage::Over;
                vec![Do::DeliverVanished]
            }
            (Stage::Submitting | Stage::Deciding, Event::Read(word)) => {
                self.stage = Stage::Out;
                self.adopt(word)
            }
            (Stage::Out, Event::Read(word) | Event::Saw(word)) if word.seq() > self.word.seq() => {
                self.adopt(word)
            }
            (Stage::Submitting | Stage::Deciding, Event::Saw(word))
                if word.seq() > self.word.seq() =>
            {
                self.stage = Stage::Out;
                self.adopt(word)
            }
            (_, Event::Cancel) => {
                self.wish = Some(Ending::Cancelled);
                self.act()
            }
            (_, Event::Expire) => {
                // The limit is for the first attempt: a retry waits for a node as long as it takes.
                let waits = matches!(
                    self.word,
                    Word::Absent
                        | Word::Queued { attempt: 1, .. }
                        | Word::Done { attempt: 1, ending: Ending::NotStarted, .. }
                );
                if self.wish.is_none() && waits {
                    self.wish = Some(Ending::Expired);
                }
                self.act()
            }
            (Stage::Out, Event::NodeDead(dead)) => match self.word {
                Word::Claimed { seq, attempt, incarnation, .. } if incarnation == dead => {
                    // S3: the key's tombstone is there; this word is the second half.
                    self.end(seq, attempt, Ending::NodeLost)
                }
                _ => Vec::new(),
            },
            (Stage::Out, Event::Stuck) => match self.word {
                Word::Queued { seq, attempt } => self.requeue(seq, attempt),
                _ => Vec::new(),
            },
            (Stage::Out, Event::PauseOver) if self.backing_off => {
                self.backing_off = false;
                match self.word {
                    Word::Done { seq, attempt, .. } | Word::Claimed { seq, attempt, .. } => {
                        self.requeue(seq, attempt + 1)
                    }
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn adopt(&mut self, word: Word) -> Vec<Do> {
        if word.seq() >= self.word.seq() {
            self.word = word;
            (self.backing_off, self.refused) = (false, false);
        }
        self.act()
    }

    /// Acts on the word that is known.
    fn act(&mut self) -> Vec<Do> {
        if self.stage != Stage::Out {
            return Vec::new();
        }
        match self.word {
            Word::Absent => Vec::new(),
            Word::Queued { seq, attempt } => match self.wish {
                Some(ending) => self.decide(seq, attempt, ending),
                None => Vec::new(),
            },
            Word::Claimed { seq, attempt, incarnation, .. } => match self.wish {
                Some(Ending::Cancelled) => self.decide(seq, attempt, Ending::Cancelled),
                _ => {
                    // A node took it in time after all.
                    self.wish = None;
                    vec![Do::Watch(incarnation)]
                }
            },
            Word::Done { seq, attempt, ending } => {
                if ending == Ending::NotStarted && self.given_back < GIVEN_BACK {
                    self.given_back += 1;
                    return match self.wish {
                        Some(wish) => self.decide(seq, attempt, wish),
                        None => self.requeue(seq, attempt),
                    };
                }
                if self.wish == Some(Ending::Expired) {
                    // A node took it in time after all, and is through: a retry may follow.
                    self.wish = None;
                }
                if self.wish.is_none() && self.allowed.may_follow(attempt, ending) {
                    if !self.backing_off {
                        self.backing_off = true;
                        return vec![Do::Pause { attempt: attempt + 1 }];
                    }
                    return Vec::new();
                }
                self.stage = Stage::Over;
                vec![Do::Deliver { seq }]
            }
        }
    }

    /// A dead node's attempt: the next one follows, or the task is over.
    fn end(&mut self, seq: u64, attempt: u32, ending: Ending) -> Vec<Do> {
        if self.allowed.may_follow(attempt, ending) {
            if self.backing_off {
                return Vec::new();
            }
            self.backing_off = true;
            return vec![Do::Pause { attempt: attempt + 1 }];
        }
        self.decide(seq, attempt, ending)
    }

    fn requeue(&mut self, expected: u64, attempt: u32) -> Vec<Do> {
        self.stage = Stage::Deciding;
        vec![Do::Requeue { expected, attempt }]
    }

    fn decide(&mut self, expected: u64, attempt: u32, ending: Ending) -> Vec<Do> {
        self.stage = Stage::Deciding;
        vec![Do::Decide { expected, attempt, ending }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_for_its_next_attempt_does_not_wait_for_a_node() {
        let allowed = Allowed { attempts: 2, on_error: true, on_timeout: false };
        let (mut kept, _) = Kept::submit(allowed);
        kept.step(Event::Won(1));
        let failed = Word::Done { seq: 3, attempt: 1, ending: Ending::Failed };
        assert_eq!(kept.step(Event::Saw(failed)), [Do::Pause { attempt: 2 }]);
        assert_eq!(kept.step(Event::Expire), []);
        let again = [Do::Requeue { expected: 3, attempt: 2 }];
        assert_eq!(kept.step(Event::PauseOver), again, "the limit of its queue took its retry");
    }

    #[test]
    fn a_refusal_is_told_when_no_copy_is_stored() {
        let submitted = || Kept::submit(Allowed { attempts: 1, ..Allowed::default() }).0;
        // Of the first copy nobody knows, and the second is refused.
        let mut kept = submitted();
        kept.step(Event::Unsure);
        assert_eq!(kept.step(Event::Read(Word::Absent)), [Do::Submit]);
        assert_eq!(kept.step(Event::Refused), [Do::Read]);
        assert_eq!(kept.step(Event::Read(Word::Queued { seq: 4, attempt: 1 })), []);
        let done = Word::Done { seq: 6, attempt: 1, ending: Ending::Final };
        assert_eq!(kept.step(Event::Saw(done)), [Do::Deliver { seq: 6 }]);
        let mut kept = submitted();
        assert_eq!(kept.step(Event::Refused), [Do::Read]);
        assert_eq!(kept.step(Event::Read(Word::Absent)), [Do::DeliverRefused]);
        // Not even the word that calls it off is taken.
        let mut kept = submitted();
        kept.step(Event::Won(1));
        kept.step(Event::Cancel);
        assert_eq!(kept.step(Event::Refused), [Do::Read]);
        let queued = Word::Queued { seq: 1, attempt: 1 };
        assert_eq!(kept.step(Event::Read(queued)), [Do::DeliverRefused]);
    }

    #[test]
    fn the_limit_of_the_queue_takes_no_retry() {
        let allowed = Allowed { attempts: 2, on_error: true, on_timeout: false };
        let failed = Word::Done { seq: 3, attempt: 1, ending: Ending::Failed };
        let submitted = || {
            let (mut kept, _) = Kept::submit(allowed);
            kept.step(Event::Won(1));
            kept
        };
        let again = || {
            let mut kept = submitted();
            kept.step(Event::Saw(failed));
            kept.step(Event::PauseOver);
            kept
        };
        let queued = Word::Queued { seq: 4, attempt: 2 };
        // The retry is queued.
        let mut kept = again();
        kept.step(Event::Saw(queued));
        assert_eq!((kept.step(Event::Expire), kept.wish()), (vec![], None));
        // The retry is on its way to the queue.
        let mut kept = again();
        assert_eq!((kept.step(Event::Expire), kept.wish()), (vec![], None));
        assert_eq!(kept.step(Event::Saw(queued)), []);
        // A node was quicker than the submitter's word, and is through with the first attempt.
        let mut kept = submitted();
        let decide = Do::Decide { expected: 1, attempt: 1, ending: Ending::Expired };
        assert_eq!(kept.step(Event::Expire), [decide]);
        assert_eq!(kept.step(Event::Unsure), [Do::Read]);
        assert_eq!(kept.step(Event::Read(failed)), [Do::Pause { attempt: 2 }]);
    }

    #[test]
    fn a_task_that_a_node_gave_back_still_waits_for_one() {
        let (mut kept, _) = Kept::submit(Allowed { attempts: 1, ..Allowed::default() });
        kept.step(Event::Won(1));
        let back = Word::Done { seq: 3, attempt: 1, ending: Ending::NotStarted };
        assert_eq!(kept.step(Event::Saw(back)), [Do::Requeue { expected: 3, attempt: 1 }]);
        assert_eq!((kept.step(Event::Expire), kept.wish()), (vec![], Some(Ending::Expired)));
        let decide = Do::Decide { expected: 4, attempt: 1, ending: Ending::Expired };
        assert_eq!(kept.step(Event::Read(Word::Queued { seq: 4, attempt: 1 })), [decide]);
    }

    #[test]
    fn a_task_that_no_node_took_in_time_is_decided_on() {
        let allowed = Allowed { attempts: 2, on_error: true, on_timeout: false };
        let (mut kept, _) = Kept::submit(allowed);
        kept.step(Event::Won(1));
        let decide = Do::Decide { expected: 1, attempt: 1, ending: Ending::Expired };
        assert_eq!(kept.step(Event::Expire), [decide]);
    }
}
