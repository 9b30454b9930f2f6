//! One delivery at a node, from the queue's message to the outcome's.

use super::word::{Ending, Word};

/// What a node knows of one task that was delivered to it.
///
/// The place that it holds in the node is taken until [`AttemptAction::Forget`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The number of the queued message.
    queued: u64,
    /// The attempt that this message stands for.
    number: u32,
    /// The node's life.
    incarnation: u128,
    /// What tells this claim from every other one.
    nonce: u64,
    claim: Claim,
    job: Job,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    /// Sent, and nobody knows whether it is stored.
    Sent,
    /// Stored under this number.
    Mine(u64),
    /// The word has moved on without it, and the claim can no more be stored.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Job {
    Asked,
    Alive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Claiming,
    Running(u64),
    Reporting(u64),
    Over,
}

/// What happens to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEvent {
    /// The claim is stored under this number.
    ClaimWon(u64),
    /// The claim was refused, or its fate is unknown: either way the word is to be read.
    ClaimUnsure,
    /// The word as the stream's leader has it.
    Read(Word),
    /// The job's key as the bucket's leader has it, asked for after the delivery: whether the job
    /// lives and the task's chunk is not purged.
    Job {
        /// Whether the task is still wanted.
        alive: bool,
    },
    /// The code has ended, and cannot go on.
    Ended,
    /// The node gives the task back before it started it.
    GiveBack,
    /// The outcome is stored.
    OutcomeWon,
    /// The outcome was refused, or its fate is unknown.
    OutcomeUnsure,
    /// A hint came, or the code has run for long: the task may have been called off.
    Check,
}

/// What an attempt asks of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptAction {
    /// Send the claim, the same bytes each time, expecting the queued message.
    SendClaim {
        /// The number of the queued message.
        expected: u64,
    },
    /// Ask the bucket's leader for the job's key.
    AskJob,
    /// Ask the stream's leader for the word.
    ReadWord,
    /// Acknowledge the delivery.
    Acknowledge,
    /// Purge the task's subjects: its job is over.
    Purge,
    /// Start the user's code.
    Start {
        /// A number that grows with each attempt of a task: the claim's.
        fence: u64,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// Send the outcome.
    SendOutcome {
        /// The number of the claim.
        expected: u64,
    },
    /// Send the word that gives the task back.
    SendNotStarted {
        /// The number of the claim.
        expected: u64,
    },
    /// Stop the user's code: the word is no more this claim. Its end is reported as ever, and
    /// refused.
    Stop,
    /// The place is free.
    Forget,
}

use AttemptAction as Do;
use AttemptEvent as Event;

impl Attempt {
    /// Takes a delivery: the claim and the question for the job's key go out together.
    #[must_use]
    pub fn delivered(queued: u64, number: u32, incarnation: u128, nonce: u64) -> (Self, Vec<Do>) {
        let (claim, job, stage) = (Claim::Sent, Job::Asked, Stage::Claiming);
        let attempt = Self { queued, number, incarnation, nonce, claim, job, stage };
        (attempt, vec![Do::SendClaim { expected: queued }, Do::AskJob])
    }

    /// Returns the number of the queued message that was delivered.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Returns the claim's number while the user's code may be running.
    #[must_use]
    pub fn running(&self) -> Option<u64> {
        match self.stage {
            Stage::Running(claim) => Some(claim),
            _ => None,
        }
    }

    /// Returns the claim's number from the start of the user's code to the outcome's end.
    #[must_use]
    pub fn claim(&self) -> Option<u64> {
        match self.stage {
            Stage::Running(claim) | Stage::Reporting(claim) => Some(claim),
            Stage::Claiming | Stage::Over => None,
        }
    }

    /// Whether the node has nothing more to do for it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Takes an event and answers with what is to be done.
    pub fn step(&mut self, event: Event) -> Vec<Do> {
        match (self.stage, event) {
            (Stage::Claiming, Event::ClaimWon(claim)) => self.claimed(Claim::Mine(claim)),
            // N2: a refusal may be the echo of this very claim, sent twice; the word says.
            (Stage::Claiming, Event::ClaimUnsure) if self.claim == Claim::Sent => {
                vec![Do::ReadWord]
            }
            (Stage::Claiming, Event::Read(word)) if self.claim == Claim::Sent => match word {
                Word::Claimed { seq, incarnation, nonce, .. }
                    if (incarnation, nonce) == (self.incarnation, self.nonce) =>
                {
                    self.claimed(Claim::Mine(seq))
                }
                // Never given up from here: the claim may still land, and nobody would know of it.
                Word::Queued { seq, .. } if seq == self.queued => {
                    vec![Do::SendClaim { expected: self.queued }]
                }
                _ => self.claimed(Claim::Lost),
            },
            (Stage::Claiming, Event::Job { alive: true }) => {
                self.job = Job::Alive;
                self.decide()
            }
            // Whatever became of the claim: after the purge it finds another word.
            (Stage::Claiming, Event::Job { alive: false }) => {
                self.stage = Stage::Over;
                vec![Do::Purge, Do::Acknowledge, Do::Forget]
            }
            (Stage::Claiming, Event::GiveBack) => match (self.claim, self.job) {
                (Claim::Mine(claim), Job::Alive) => {
                    self.stage = Stage::Reporting(claim);
                    vec![Do::SendNotStarted { expected: claim }]
                }
                _ => Vec::new(),
            },
            (Stage::Running(_), Event::Check) => vec![Do::ReadWord],
            // An older word comes of a leader that does not know of its successor.
            (Stage::Running(claim), Event::Read(word))
                if word == Word::Absent || word.seq() > claim =>
            {
                vec![Do::Stop]
            }
            (Stage::Running(claim), Event::Ended) => {
                self.stage = Stage::Reporting(claim);
                vec![Do::SendOutcome { expected: claim }]
            }
            (Stage::Reporting(_), Event::OutcomeWon) => self.over(),
            (Stage::Reporting(_), Event::OutcomeUnsure) => vec![Do::ReadWord],
            (Stage::Reporting(claim), Event::Read(word)) => {
                if word.seq() == claim {
                    // N5: it was not stored, or not yet; the second copy is refused.
                    vec![Do::SendOutcome { expected: claim }]
                } else {
                    self.over()
                }
            }
            _ => Vec::new(),
        }
    }

    fn claimed(&mut self, claim: Claim) -> Vec<Do> {
        self.claim = claim;
        self.decide()
    }

    /// Acts once both answers are there.
    fn decide(&mut self) -> Vec<Do> {
        match (self.claim, self.job) {
            (Claim::Mine(claim), Job::Alive) => {
                self.stage = Stage::Running(claim);
                vec![Do::Acknowledge, Do::Start { fence: claim, attempt: self.number }]
            }
            (Claim::Lost, Job::Alive) => {
                self.stage = Stage::Over;
                vec![Do::Acknowledge, Do::Forget]
            }
            _ => Vec::new(),
        }
    }

    fn over(&mut self) -> Vec<Do> {
        self.stage = Stage::Over;
        vec![Do::Forget]
    }

    /// Takes a started attempt back, where the code was not handed to a worker.
    ///
    /// The node calls it when its pool refuses the task: nothing of it ran.
    pub fn not_started(&mut self) -> Vec<Do> {
        let Stage::Running(claim) = self.stage else { return Vec::new() };
        self.stage = Stage::Reporting(claim);
        vec![Do::SendNotStarted { expected: claim }]
    }
}

/// Whether an attempt may follow an ending of this kind at all.
impl Ending {
    /// Returns whether the submitter may start another attempt after it.
    #[must_use]
    pub fn allows_retry(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::WorkerLost | Self::NotStarted)
    }
}
