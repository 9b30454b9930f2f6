//! A state of the whole system: shared memory, what each process keeps to itself, and the books
//! that the checker keeps. Small numbers throughout; a position is its running number.

use crate::rules::{Config, Faults, MAX, MAX_LANE};

/// A record's state, as in `src/table/state.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum St {
    Free,
    Queued,
    Claimed,
    Running,
    Done,
    Cancelled,
    Cancelling,
    Held,
}

/// No owner, no record, no task, no position.
pub const NONE: u8 = u8::MAX;

/// What a worker remembers of the arming that it saw: the newest, or an earlier one.
pub const NEWEST: u8 = 0;
/// See [`NEWEST`].
pub const EARLIER: u8 = 1;

/// A record in the task table.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Record {
    pub st: St,
    pub owner: u8,
    pub generation: u8,
    /// Where its newest ring entry is.
    pub position: u8,
    /// The task whose input it holds.
    pub input: u8,
    /// The task whose output it holds, and whether that is an error.
    pub output: u8,
    pub failed: bool,
    /// The output's block.
    pub block: u8,
}

/// The word of a ring, a lane or a hand-back lane: whose position it is of, and what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    pub position: u8,
    pub names: u8,
}

/// Of no position.
pub const EMPTY: Word = Word { position: NONE, names: 0 };

/// Where a worker is in its loop; each is one access of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Head,
    Slot,
    HeadAgain,
    RecordState,
    RecordPosition,
    Claim,
    HelpStale,
    HelpOwn,
    LeaveSearchers,
    FindSleeper,
    LookForMore,
    CountSearchers,
    RingSleeper,
    LeaveLate,
    Start,
    Gate,
    TakeBlock,
    SayTaken,
    WantRoom,
    AwaitRoom,
    WantNoRoom,
    Commit,
    Confirm,
    Push,
    ReadFlag,
    RingHost,
    ClearFlag,
    Search,
    Sleep,
    StopSearch,
    LastLook,
    Asleep,
    Wake,
    Dead,
}

/// A worker process.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Worker {
    pub at: At,
    pub position: u8,
    pub record: u8,
    pub generation: u8,
    pub task: u8,
    pub failed: bool,
    pub block: u8,
    pub other: u8,
    pub searching: bool,
    pub woken: bool,
    pub wants: bool,
    /// Where its next lane word goes, and its next word of the hand-back lane comes from.
    pub lane: u8,
    pub handback: u8,
    /// The blocks it may write, one bit each.
    pub free: u8,
    /// A lane word that it has stored and that no other process can see yet.
    pub buffer: Word,
}

/// Where a host thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    Idle,
    // Submitting; the queue is locked.
    RoomHead,
    RoomSlot,
    RoomRecord,
    RoomHelp,
    Publish,
    Push,
    FindSleeper,
    Backlog,
    CountSearchers,
    TakeSleeper,
    Unlock,
    RingWorker,
    // Calling off; the queue is locked.
    CancelLook,
    CancelSwap,
    CancelRing,
    // Waiting.
    Empty,
    Arm,
    Wait,
    // Draining the lanes.
    DrainAsk,
    DrainTry,
    Lane,
    Receive,
    HandBack,
    HandBackPush,
    WantsRoom,
    RingRoom,
    Free,
    Hold,
    DrainEnd,
    DrainAgain,
    // Recovering.
    Forget,
    ForgetSearch,
    Scan,
    Help,
    Requeue,
    RequeuePush,
    Bury,
    RingAll,
    Respawn,
    // Auditing.
    AuditLook,
    AuditScan,
    AuditEnd,
    End,
}

/// A thread of the host: a client, or the supervisor, which is the last.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Thread {
    pub at: Do,
    /// Where to go on after a drain or after a record was given back.
    pub then: Do,
    pub after_free: Do,
    /// How many of its own tasks a client has submitted.
    pub submitted: u8,
    pub slot: u8,
    pub record: u8,
    pub scan: u8,
    pub head: u8,
    pub other: u8,
    pub seen: u8,
    pub wants_room: bool,
    /// Its waker was called.
    pub woken: bool,
    /// The doorbell rang since it last looked.
    pub edge: bool,
    /// A ring entry that it has stored and that no other process can see yet.
    pub buffer: Word,
}

/// The host's private entry for a record.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Entry {
    pub generation: u8,
    pub position: u8,
    /// The task that waits for its outcome.
    pub pending: u8,
    pub used: bool,
    /// FREE, but head has not passed its entry.
    pub deferred: bool,
    pub held: bool,
    /// Gets another attempt when its worker has let go of this one.
    pub granted: bool,
}

/// What has become of a task.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Book {
    pub outcomes: u8,
    pub runs: u8,
    /// Runs that were allowed.
    pub attempts: u8,
}

/// The system.
#[derive(Clone, Debug, Hash)]
pub struct State {
    // Shared memory and eventfds.
    pub head: u8,
    pub ring: [Word; 4],
    pub records: [Record; MAX.records],
    pub lanes: [[Word; MAX_LANE]; MAX.workers],
    pub handback: [Word; MAX.workers],
    pub taken: [u8; MAX.workers],
    pub wants_room: u8,
    pub sleepers: u8,
    pub searchers: u8,
    pub armed: bool,
    pub worker_bells: u8,
    pub host_bell: bool,
    // Processes.
    pub workers: [Worker; MAX.workers],
    pub stopped: u8,
    /// Dead and not recovered.
    pub dead: u8,
    // The host's private memory.
    pub threads: [Thread; MAX.clients + 1],
    pub queue_lock: u8,
    pub lanes_lock: u8,
    pub again: bool,
    pub tail: u8,
    pub entries: [Entry; MAX.records],
    pub read: [u8; MAX.workers],
    pub handed: [u8; MAX.workers],
    pub backlog: [u8; MAX.workers],
    // What is left of each kind of fault, and whether the queue at rest was audited.
    pub left: [u8; 5],
    pub audited: bool,
    // The books.
    pub books: [Book; MAX.tasks],
    /// The task whose output is in each block and was not read yet.
    pub unread: [[u8; MAX.blocks]; MAX.workers],
}

/// Indices of `State::left`.
pub const KILLS: usize = 0;
pub const STOPS: usize = 1;
pub const CANCELS: usize = 2;
pub const ERRORS: usize = 3;
pub const AUDITS: usize = 4;

impl Worker {
    /// A worker that begins its lanes at these positions, with all its blocks.
    pub fn new(config: &Config, lane: u8, handback: u8) -> Self {
        Self {
            at: At::Head,
            position: 0,
            record: 0,
            generation: 0,
            task: NONE,
            failed: false,
            block: NONE,
            other: 0,
            searching: false,
            woken: false,
            wants: false,
            lane,
            handback,
            free: (1 << config.sizes.blocks) - 1,
            buffer: EMPTY,
        }
    }

    /// Back to the top of the loop, with nothing in hand.
    pub fn at_top(self) -> Self {
        Self {
            at: At::Head,
            position: 0,
            record: 0,
            generation: 0,
            task: NONE,
            failed: false,
            block: NONE,
            other: 0,
            ..self
        }
    }
}

impl State {
    /// Nothing submitted, every worker awake.
    pub fn new(config: &Config) -> Self {
        let word = EMPTY;
        let thread = Thread {
            at: Do::Idle,
            then: Do::Idle,
            after_free: Do::Idle,
            submitted: 0,
            slot: 0,
            record: 0,
            scan: 0,
            head: 0,
            other: 0,
            seen: 0,
            wants_room: false,
            woken: false,
            edge: false,
            buffer: EMPTY,
        };
        let entry = Entry {
            generation: 0,
            position: NONE,
            pending: NONE,
            used: false,
            deferred: false,
            held: false,
            granted: false,
        };
        let record = Record {
            st: St::Free,
            owner: NONE,
            generation: 0,
            position: NONE,
            input: NONE,
            output: NONE,
            failed: false,
            block: NONE,
        };
        let faults = config.faults;
        Self {
            head: 0,
            ring: [word; 4],
            records: [record; MAX.records],
            lanes: [[word; MAX_LANE]; MAX.workers],
            handback: [word; MAX.workers],
            taken: [0; MAX.workers],
            wants_room: 0,
            sleepers: 0,
            searchers: 0,
            armed: false,
            worker_bells: 0,
            host_bell: false,
            workers: [Worker::new(config, 0, 0); MAX.workers],
            stopped: 0,
            dead: 0,
            threads: [thread; MAX.clients + 1],
            queue_lock: NONE,
            lanes_lock: NONE,
            again: false,
            tail: 0,
            entries: [entry; MAX.records],
            read: [0; MAX.workers],
            handed: [0; MAX.workers],
            backlog: [0; MAX.workers],
            left: [faults.kills, faults.stops, faults.cancels, faults.errors, faults.audits],
            audited: false,
            books: [Book::default(); MAX.tasks],
            unread: [[NONE; MAX.blocks]; MAX.workers],
        }
    }

    /// The ring's slot of `position`.
    pub fn slot(&mut self, config: &Config, position: u8) -> &mut Word {
        &mut self.ring[position as usize % config.ring()]
    }

    /// Whether `position` is in the ring, and the record it names.
    pub fn entry_at(&self, config: &Config, position: u8) -> Option<u8> {
        let word = self.ring[position as usize % config.ring()];
        (word.position == position).then_some(word.names)
    }

    /// The word in `slot`'s lane at the host's read position, if there is one.
    pub fn next_in_lane(&self, config: &Config, slot: usize) -> Option<u8> {
        let position = self.read[slot];
        let word = self.lanes[slot][position as usize % config.lane()];
        (word.position == position).then_some(word.names)
    }

    /// What worker `slot` has stored is there for all to see.
    pub fn flush_worker(&mut self, config: &Config, slot: usize) {
        let word = std::mem::replace(&mut self.workers[slot].buffer, EMPTY);
        if word.position != NONE {
            self.lanes[slot][word.position as usize % config.lane()] = word;
        }
    }

    /// What host thread `thread` has stored is there for all to see.
    pub fn flush_thread(&mut self, config: &Config, thread: usize) {
        let word = std::mem::replace(&mut self.threads[thread].buffer, EMPTY);
        if word.position != NONE {
            *self.slot(config, word.position) = word;
        }
    }

    /// Moves head past `position` if it stands there.
    pub fn help(&mut self, position: u8) {
        if self.head == position {
            self.head += 1;
        }
    }

    /// A ring of the host's doorbell.
    pub fn ring_host(&mut self, config: &Config) {
        self.host_bell = config.leader;
        let clients = &mut self.threads[..config.sizes.clients];
        clients.iter_mut().for_each(|client| client.edge = client.at != Do::End);
    }

    /// A new arming: a worker that saw an earlier one knows only that one.
    pub fn arm(&mut self) {
        self.armed = true;
        for worker in &mut self.workers {
            if matches!(worker.at, At::RingHost | At::ClearFlag) {
                worker.other = EARLIER;
            }
        }
    }

    /// Tasks without an outcome that were submitted.
    pub fn is_pending(&self) -> bool {
        self.entries.iter().any(|entry| entry.pending != NONE)
    }
}

impl Config {
    /// Slots of the task ring: as many as there are records.
    pub fn ring(&self) -> usize {
        self.sizes.records
    }

    /// Words of a lane.
    pub fn lane(&self) -> usize {
        self.rules.lane_factor * self.sizes.records
    }

    /// The supervisor's number among the threads.
    pub fn supervisor(&self) -> usize {
        MAX.clients
    }

    /// Only one client ever drains.
    pub fn is_alone(&self) -> bool {
        let Faults { kills, stops, errors, audits, .. } = self.faults;
        self.sizes.clients == 1 && kills + stops + errors + audits == 0
    }

    /// Whether a worker ever waits for its doorbell.
    pub fn rings_workers(&self) -> bool {
        self.worker_bells || self.sizes.blocks > 0
    }

    /// All worker bits.
    pub fn all(&self) -> u8 {
        (1 << self.sizes.workers) - 1
    }
}
