//! What is modelled: the sizes, what may go wrong, and the rules, each of which can be broken.

/// Most workers, records, tasks, clients and output blocks of a worker.
pub const MAX: Sizes = Sizes { workers: 3, records: 3, tasks: 5, clients: 3, blocks: 2 };
/// Words of the longest lane.
pub const MAX_LANE: usize = 8;

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub workers: usize,
    pub records: usize,
    pub tasks: usize,
    /// Host threads that submit, cancel and wait; task `t` is client `t % clients`'s.
    pub clients: usize,
    /// Output blocks of each worker's arena; 0: outputs need none.
    pub blocks: usize,
}

/// How often each thing may go wrong, anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub kills: u8,
    pub stops: u8,
    pub cancels: u8,
    /// Tasks that fail and are held for another attempt.
    pub errors: u8,
    /// Audits at any moment; those that mend a queue at rest are not counted.
    pub audits: u8,
}

/// One run of the checker.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub sizes: Sizes,
    pub faults: Faults,
    /// Every access of the ring and the records is a step of its own; else a look at head and its
    /// slot is one, and a look at a record is one.
    pub fine: bool,
    /// The workers' doorbells; without them a worker sees at once that there is a task.
    pub worker_bells: bool,
    /// The host's doorbell; without it a client sees at once that there is something in a lane.
    pub host_bell: bool,
    /// Workers search before they sleep.
    pub search: bool,
    /// Task 0 runs until every other task has its outcome.
    pub gate: bool,
    /// RUNNING tasks of dead workers run again.
    pub retries: bool,
    /// A cancel is a deadline: a task that was running gets another attempt.
    pub deadlines: bool,
    /// Dead workers are replaced.
    pub respawn: bool,
    /// An audit mends what is at rest because of a stopped worker.
    pub mends: bool,
    /// Plain stores wait in a buffer of their process (total store order, as x86 has it), until a
    /// fence, a read-modify-write operation or chance lets them out.
    pub buffers: bool,
    /// Client 1 blocks on the doorbell and empties it; else every client listens for edges.
    pub leader: bool,
    pub rules: Rules,
}

/// What the host does about a ring that may be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Helps head past entries that can no longer be claimed.
    HelpsHead,
    /// Waits for a worker to do it.
    Waits,
}

/// How a task that a dead worker had CLAIMED is queued again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Head past the old entry, QUEUED with a new generation, push.
    HelpPublishPush,
    /// Publish and push, and leave the old entry at head.
    PublishPush,
    /// QUEUED where it is, if its entry is still ahead of head.
    InPlace,
}

/// The rules of the protocol. [`Rules::design`] has none broken.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub room: Room,
    pub requeue: Requeue,
    /// A record is used again only when head has passed its entry.
    pub defer: bool,
    /// A claim needs the entry's position to be the record's.
    pub claim_position: bool,
    /// A claim needs the generation that was looked at.
    pub claim_generation: bool,
    /// A cancel of CLAIMED or RUNNING waits for the worker to let go before the record is freed.
    pub two_phase_cancel: bool,
    /// Words of a lane per record of the table.
    pub lane_factor: usize,
    /// The audit takes only what it saw DONE before it drained the lanes.
    pub audit_looks_first: bool,
    /// The worker looks at the rings once more between setting its bit and waiting.
    pub worker_looks_again: bool,
    /// The host looks at the lanes once more between arming and waiting.
    pub host_looks_again: bool,
    /// The host arms while any record is out, not only while an outcome is missing.
    pub arms_for_records: bool,
    /// A worker clears the host's flag only for the arming it saw.
    pub epoch: bool,
    /// A worker rings the host first and clears the flag after.
    pub ring_first: bool,
    /// A searcher that claims leaves the searchers.
    pub found_leaves: bool,
    /// A worker that claims after a search or a sleep wakes the next if there is more.
    pub pass_on: bool,
    /// The look for more comes after leaving the searchers.
    pub leaves_before_look: bool,
    /// Recovery forgets the dead worker's bits.
    pub forget: bool,
    /// Recovery rings every worker.
    pub ring_all: bool,
    /// Recovery drains the dead worker's lane before it looks at the records.
    pub harvest: bool,
    /// A blocking client that emptied the doorbell arms again before it goes.
    pub leader_arms: bool,
    /// A thread that cannot drain asks the one that does to look again.
    pub drains_again: bool,
    /// A supervisor that had the lanes checks whether another thread requested a drain meanwhile.
    pub supervisor_drains_again: bool,
    /// A worker out of blocks looks once more after it said so.
    pub wants_room_looks_again: bool,
    /// An output's block is handed back only after it was read.
    pub reads_before_hand_back: bool,
    /// The outcome is delivered by taking the host's own entry.
    pub private_entry: bool,
    /// The attempt after a deadline waits until the worker has let go of the last one.
    pub waits_for_worker: bool,
    /// A fence between a worker's lane word and its look at the host's flag.
    pub fence_b2: bool,
    /// A fence between the host's push and its look for a sleeper.
    pub fence_b4: bool,
}

impl Rules {
    /// As `docs/design.md` §5 and the READMEs of the modules have them.
    pub const fn design() -> Self {
        Self {
            room: Room::HelpsHead,
            requeue: Requeue::HelpPublishPush,
            defer: true,
            claim_position: true,
            claim_generation: true,
            two_phase_cancel: true,
            lane_factor: 2,
            audit_looks_first: true,
            worker_looks_again: true,
            host_looks_again: true,
            arms_for_records: true,
            epoch: true,
            ring_first: true,
            found_leaves: true,
            pass_on: true,
            leaves_before_look: true,
            forget: true,
            ring_all: true,
            harvest: true,
            leader_arms: true,
            drains_again: true,
            supervisor_drains_again: true,
            wants_room_looks_again: true,
            reads_before_hand_back: true,
            private_entry: true,
            waits_for_worker: true,
            fence_b2: true,
            fence_b4: true,
        }
    }
}
