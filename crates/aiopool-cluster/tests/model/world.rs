//! The state of the world that the model walks through, and what one action does to it.

use aiopool_cluster::protocol::{
    Attempt, AttemptAction, AttemptEvent, Ending, Kept, KeptAction, KeptEvent, Word,
};

pub const TASKS: usize = 2;
pub const NODES: usize = 2;

/// A message on its way to the server: it may arrive at any time, in any order, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Queue { task: usize, expected: u64, attempt: u32, by: usize },
    Claim { task: usize, expected: u64, attempt: u32, node: usize, life: u128, nonce: u64 },
    Outcome { task: usize, expected: u64, attempt: u32, node: usize, life: u128, ending: Ending },
    Decision { task: usize, expected: u64, attempt: u32, by: usize, ending: Ending },
    Purge,
}

/// What a zygote is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Zygote {
    #[default]
    Dead,
    Serves,
    /// The deadline has passed: it has killed, and forks nothing any more.
    Over,
}

/// The question for the job's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Question {
    #[default]
    None,
    Asked,
    Answered(bool),
}

/// User code that runs: the task and its attempt.
pub type Run = Option<(usize, u32)>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    pub stopped: bool,
    pub life: u128,
    pub zygote: Zygote,
    pub held: Option<(usize, u32, Attempt)>,
    pub question: Question,
    pub reads: bool,
    /// A sending without an answer, and whether none can come.
    pub unanswered: Option<(Message, bool)>,
    /// Handed to the local pool, not begun.
    pub ready: bool,
    pub given: bool,
    pub run: Run,
    pub grace: bool,
    pub ended: Option<Ending>,
    /// The agent is to kill, where a broken rule has it do so.
    pub late_kill: bool,
    pub old_zygote: bool,
    pub old_run: Run,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Submitter {
    pub up: bool,
    pub kept: [Option<Kept>; TASKS],
    pub unanswered: [Option<(Message, bool)>; TASKS],
    pub reads: [bool; TASKS],
    pub pauses: [bool; TASKS],
}

/// What a submitter's user was told of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    Ending(Ending),
    Vanished,
    /// Known to be over from the watermark.
    Known,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct World {
    pub seq: u64,
    pub word: [Word; TASKS],
    /// Who wrote a claim, beside the word.
    pub claimer: [usize; TASKS],
    pub queue: [Option<(u64, u32)>; TASKS],
    pub acked: [bool; TASKS],
    /// Something other than the queued message was ever stored since the last purge.
    pub touched: [bool; TASKS],
    pub key: [(u128, bool); NODES],
    pub lives: [u128; NODES],
    pub holder: usize,
    pub job: bool,
    pub purged: bool,
    pub nodes: [Node; NODES],
    pub submitters: [Submitter; 2],
    pub told: [[Option<Told>; TASKS]; 2],
    pub flight: Vec<Message>,
    pub starts: [[u8; 4]; TASKS],
    pub faults: u8,
    pub cancelled: bool,
    /// What was broken by the last step.
    pub broken: Option<String>,
}

/// Rules that can be broken, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    JobFence,
    Watermark,
    KeepUnknownClaims,
    Latch,
    LockHeldByWorkers,
    LockHeld,
    OutcomeAfterRelease,
    DepositedDeadline,
    ZygoteLostAfterWorkers,
    FreshJobKey,
    CreationOrder,
    AcknowledgeAfterJob,
    ExpectTheDelivery,
    PurgeWhenAllOver,
    AcknowledgeAfterClaim,
    Nonce,
    WaitForTheLease,
    ZygoteKills,
    KernelTimer,
    StopAtAnotherWord,
    RetryBySwap,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub tasks: usize,
    pub attempts: u32,
    pub faults: u8,
    pub durable: bool,
    pub errors: bool,
    pub broken: Vec<Rule>,
}

impl Config {
    pub fn keeps(&self, rule: Rule) -> bool {
        !self.broken.contains(&rule)
    }
}

/// Lives are numbered by node, so that a life names its node and later ones are greater.
pub fn life_of(node: usize, count: u128) -> u128 {
    (node as u128 + 1) * 100 + count
}

pub fn node_of(life: u128) -> usize {
    (life / 100) as usize - 1
}

impl World {
    pub fn new(config: &Config) -> Self {
        let mut world = Self { faults: config.faults, job: true, ..Self::default() };
        for node in 0..NODES {
            world.begin_life(node);
            world.nodes[node].up = true;
        }
        world.submitters[0].up = true;
        world
    }

    pub fn begin_life(&mut self, node: usize) {
        self.lives[node] += 1;
        let life = life_of(node, self.lives[node]);
        self.key[node] = (life, true);
        self.nodes[node].life = life;
        self.nodes[node].zygote = Zygote::Serves;
    }

    pub fn send(&mut self, message: Message) {
        if !self.flight.contains(&message) {
            self.flight.push(message);
            self.flight.sort_unstable();
        }
    }

    pub fn running(&self, task: usize) -> usize {
        let of = |run: Run| usize::from(run.is_some_and(|(t, _)| t == task));
        self.nodes.iter().map(|node| of(node.run) + of(node.old_run)).sum()
    }

    pub fn forget_task(&mut self, task: usize) {
        self.word[task] = Word::Absent;
        self.queue[task] = None;
        self.acked[task] = false;
        self.touched[task] = false;
    }

    /// What the server does with a message: the number under which it is stored, if it is.
    pub fn store(&mut self, config: &Config, message: Message) -> Option<u64> {
        let (task, expected) = match message {
            Message::Purge => {
                (0..config.tasks).for_each(|task| self.forget_task(task));
                return Some(0);
            }
            Message::Queue { task, expected, .. }
            | Message::Claim { task, expected, .. }
            | Message::Outcome { task, expected, .. }
            | Message::Decision { task, expected, .. } => (task, expected),
        };
        let fits = match message {
            Message::Claim { .. } if !config.keeps(Rule::ExpectTheDelivery) => !self.touched[task],
            Message::Queue { attempt, .. } if attempt > 1 && !config.keeps(Rule::RetryBySwap) => {
                true
            }
            _ => self.word[task].seq() == expected,
        };
        if !fits {
            return None;
        }
        self.seq += 1;
        let seq = self.seq;
        match message {
            Message::Queue { attempt, .. } => {
                self.word[task] = Word::Queued { seq, attempt };
                self.queue[task] = Some((seq, attempt));
                self.acked[task] = false;
            }
            Message::Claim { attempt, node, life, nonce, .. } => {
                self.word[task] = Word::Claimed { seq, attempt, incarnation: life, nonce };
                self.claimer[task] = node;
                self.touched[task] = true;
                if !config.keeps(Rule::AcknowledgeAfterJob) {
                    self.acked[task] = true;
                }
            }
            Message::Outcome { attempt, ending, .. }
            | Message::Decision { attempt, ending, .. } => {
                self.word[task] = Word::Done { seq, attempt, ending };
                self.touched[task] = true;
            }
            Message::Purge => {}
        }
        Some(seq)
    }

    /// Gives an event to the attempt that node `n` holds, and does what it asks for.
    pub fn attempt(&mut self, n: usize, event: AttemptEvent) {
        let Some((_, _, held)) = &mut self.nodes[n].held else { return };
        let actions = held.step(event);
        self.obey(n, actions);
    }

    pub fn obey(&mut self, n: usize, actions: Vec<AttemptAction>) {
        for action in actions {
            let life = self.nodes[n].life;
            let Some((task, attempt, held)) = &self.nodes[n].held else { return };
            let (task, attempt, queued) = (*task, *attempt, held.queued());
            match action {
                AttemptAction::SendClaim { expected } => {
                    let nonce = expected;
                    let claim = Message::Claim { task, expected, attempt, node: n, life, nonce };
                    self.nodes[n].unanswered = Some((claim, false));
                    self.send(claim);
                }
                AttemptAction::AskJob => self.nodes[n].question = Question::Asked,
                AttemptAction::ReadWord => self.nodes[n].reads = true,
                AttemptAction::Acknowledge => {
                    // Of this very message, and of no other.
                    if self.queue[task].is_some_and(|(seq, _)| seq == queued) {
                        self.acked[task] = true;
                    }
                }
                AttemptAction::Purge => self.forget_task(task),
                AttemptAction::Start { .. } => self.nodes[n].ready = true,
                AttemptAction::SendOutcome { expected } => {
                    let ending = self.nodes[n].ended.unwrap_or(Ending::WorkerLost);
                    self.report(
                        n,
                        Message::Outcome { task, expected, attempt, node: n, life, ending },
                    );
                }
                AttemptAction::SendNotStarted { expected } => {
                    let ending = Ending::NotStarted;
                    self.nodes[n].ended = Some(ending);
                    self.report(
                        n,
                        Message::Outcome { task, expected, attempt, node: n, life, ending },
                    );
                }
                AttemptAction::Stop => {
                    let node = &mut self.nodes[n];
                    if node.run.is_some() {
                        node.grace = true;
                    } else if !node.given {
                        // It waits for a worker, and waits no more.
                        node.given = true;
                        node.ended = Some(Ending::Cancelled);
                    }
                }
                AttemptAction::Forget => self.drop_held(n),
            }
        }
    }

    fn report(&mut self, n: usize, outcome: Message) {
        self.nodes[n].unanswered = Some((outcome, false));
        self.send(outcome);
    }

    pub fn drop_held(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.held = None;
        node.question = Question::None;
        node.reads = false;
        node.unanswered = None;
        node.ready = false;
        node.given = false;
        node.ended = None;
    }

    /// Gives an event to what submitter `u` keeps of a task, and does what it asks for.
    pub fn kept(&mut self, u: usize, task: usize, event: KeptEvent) {
        let Some(kept) = &mut self.submitters[u].kept[task] else { return };
        let actions = kept.step(event);
        self.act(u, task, actions);
    }

    pub fn act(&mut self, u: usize, task: usize, actions: Vec<KeptAction>) {
        for action in actions {
            match action {
                KeptAction::Submit => {
                    self.publish(u, task, Message::Queue { task, expected: 0, attempt: 1, by: u });
                }
                KeptAction::Requeue { expected, attempt } => {
                    self.publish(u, task, Message::Queue { task, expected, attempt, by: u });
                }
                KeptAction::Decide { expected, attempt, ending } => {
                    let decision = Message::Decision { task, expected, attempt, by: u, ending };
                    self.publish(u, task, decision);
                }
                KeptAction::Read => self.submitters[u].reads[task] = true,
                KeptAction::Pause { .. } => self.submitters[u].pauses[task] = true,
                KeptAction::Watch(_) => {}
                KeptAction::Deliver { .. } => {
                    let Word::Done { ending, .. } =
                        self.submitters[u].kept[task].as_ref().map(Kept::word).unwrap_or_default()
                    else {
                        self.broken = Some(format!("t{task}: delivered without an outcome"));
                        return;
                    };
                    self.tell(u, task, Told::Ending(ending));
                }
                KeptAction::DeliverVanished => self.tell(u, task, Told::Vanished),
            }
        }
    }

    fn publish(&mut self, u: usize, task: usize, message: Message) {
        self.submitters[u].unanswered[task] = Some((message, false));
        self.submitters[u].reads[task] = false;
        self.send(message);
    }

    fn tell(&mut self, u: usize, task: usize, told: Told) {
        self.told[u][task] = Some(told);
        self.submitters[u].unanswered[task] = None;
        self.submitters[u].pauses[task] = false;
        let other = self.told[1 - u][task];
        if other.is_some_and(|other| other != told && other != Told::Known) {
            self.broken = Some(format!("t{task}: A and B are told differently"));
        }
        if told == Told::Vanished {
            self.broken = Some(format!("t{task}: its word has gone"));
        }
        if told == Told::Ending(Ending::Cancelled) && !self.cancelled {
            self.broken = Some(format!("t{task}: nobody called it off"));
        }
        if told == Told::Ending(Ending::NodeLost) && self.running(task) > 0 {
            self.broken = Some(format!("t{task}: its node is called lost while it runs"));
        }
    }

    pub fn is_over(&self, u: usize, task: usize) -> bool {
        self.told[u][task].is_some()
    }

    /// Nothing is left, and nothing has to happen.
    pub fn rests(&self, config: &Config) -> bool {
        self.flight.is_empty()
            && self.word[..config.tasks].iter().all(|word| *word == Word::Absent)
            && self.submitters.iter().all(|submitter| !submitter.up)
            && !self.job
            && self.nodes.iter().all(|n| n.held.is_none() && n.run.is_none() && n.old_run.is_none())
    }
}
