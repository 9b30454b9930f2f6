//! The state of the world that the model walks through, and what one action does to it.

use aiopool_cluster::protocol::{
    Allowed, Attempt, AttemptAction, AttemptEvent, Ending, Group, Kept, KeptAction, KeptEvent, Word,
};

pub const TASKS: usize = 2;
pub const NODES: usize = 2;
/// The most items under one word.
pub const ITEMS: usize = 2;

/// Items of a word, a bit each.
pub type Items = u8;

/// What an attempt of a group says of each item, where it says something.
pub type List = [Option<Ending>; ITEMS];

/// A message on its way to the server: it may arrive at any time, in any order, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Queue {
        task: usize,
        expected: u64,
        attempt: u32,
        items: Items,
        by: usize,
    },
    Claim {
        task: usize,
        expected: u64,
        attempt: u32,
        node: usize,
        life: u128,
        nonce: u64,
    },
    Outcome {
        task: usize,
        expected: u64,
        attempt: u32,
        node: usize,
        life: u128,
        ending: Ending,
        list: Option<List>,
    },
    Decision {
        task: usize,
        expected: u64,
        attempt: u32,
        by: usize,
        ending: Ending,
    },
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

/// User code that runs: the task, its attempt, and the item.
pub type Run = Option<(usize, u32, usize)>;

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
    /// Handed to the local pool.
    pub ready: bool,
    /// The items of the message that is held, and those that were not begun.
    pub items: Items,
    pub left: Items,
    /// What the items of a group ended with.
    pub list: List,
    pub run: Run,
    pub grace: bool,
    pub ended: Option<Ending>,
    /// The agent is to kill, where a broken rule has it do so.
    pub late_kill: bool,
    pub old_zygote: bool,
    pub old_run: Run,
}

impl Node {
    /// Begins nothing more of what is held.
    pub fn not_begun(&mut self) {
        for (item, ending) in self.list.iter_mut().enumerate() {
            if self.left & (1 << item) != 0 {
                *ending = Some(Ending::NotStarted);
            }
        }
        self.left = 0;
    }

    /// An item that was begun, or handed to a pool that has gone, has ended.
    pub fn item_ended(&mut self, item: usize, ending: Ending) {
        self.list[item] = Some(ending);
        if self.left == 0 && self.ended.is_none() {
            self.ended = Some(ending);
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Submitter {
    pub up: bool,
    pub kept: [Option<Kept>; TASKS],
    pub groups: [Option<Group>; TASKS],
    pub wholes: [Option<(u64, Ending)>; TASKS],
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
    /// That the server will not take what was sent, and whether the task was queued before.
    Refused {
        queued: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct World {
    pub seq: u64,
    pub word: [Word; TASKS],
    /// Who wrote a claim, beside the word.
    pub claimer: [usize; TASKS],
    pub queue: [Option<(u64, u32, Items)>; TASKS],
    /// What a group's outcome says, beside the word.
    pub list: [Option<List>; TASKS],
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
    pub told: [[[Option<Told>; ITEMS]; TASKS]; 2],
    pub flight: Vec<Message>,
    pub starts: [[[u8; ITEMS]; 4]; TASKS],
    pub faults: u8,
    pub cancelled: bool,
    /// What the configuration says, for the steps that have no other part of it.
    pub items: usize,
    pub allowed: Allowed,
    pub all_again: bool,
    pub forgets_begun: bool,
    pub one_for_all: bool,
    pub over_with_first: bool,
    pub refuses_unread: bool,
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
    SendOpenItemsOnly,
    AllOfADeadGroupHaveBegun,
    ReportWhenAllHaveEnded,
    EachItemEndsForItself,
    AGroupIsOverWithItsLast,
    DisownNothingHeld,
    DisownClaimsOfNobody,
    ReadAfterRefusal,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub tasks: usize,
    /// Items under each word.
    pub items: usize,
    pub attempts: u32,
    pub faults: u8,
    pub durable: bool,
    pub errors: bool,
    /// Another client writes claims in the name of nodes that live.
    pub lies: bool,
    /// The server may refuse for good what a submitter sends.
    pub refusals: bool,
    pub broken: Vec<Rule>,
}

impl Config {
    pub fn allowed(&self) -> Allowed {
        let (on_error, on_timeout) = (self.errors, self.errors);
        Allowed { attempts: self.attempts, on_error, on_timeout }
    }

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
        let mut world = Self {
            faults: config.faults,
            job: true,
            items: config.items,
            allowed: config.allowed(),
            all_again: !config.keeps(Rule::SendOpenItemsOnly),
            forgets_begun: !config.keeps(Rule::AllOfADeadGroupHaveBegun),
            one_for_all: !config.keeps(Rule::EachItemEndsForItself),
            over_with_first: !config.keeps(Rule::AGroupIsOverWithItsLast),
            refuses_unread: !config.keeps(Rule::ReadAfterRefusal),
            ..Self::default()
        };
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

    pub fn running(&self, task: usize, item: usize) -> usize {
        let of = |run: Run| usize::from(run.is_some_and(|(t, _, i)| (t, i) == (task, item)));
        self.nodes.iter().map(|node| of(node.run) + of(node.old_run)).sum()
    }

    pub fn forget_task(&mut self, task: usize) {
        self.word[task] = Word::Absent;
        self.queue[task] = None;
        self.list[task] = None;
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
        self.list[task] = None;
        match message {
            Message::Queue { attempt, items, .. } => {
                self.word[task] = Word::Queued { seq, attempt };
                self.queue[task] = Some((seq, attempt, items));
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
            Message::Outcome { attempt, ending, list, .. } => {
                self.word[task] = Word::Done { seq, attempt, ending };
                self.list[task] = list;
                self.touched[task] = true;
            }
            Message::Decision { attempt, ending, .. } => {
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
                    if self.queue[task].is_some_and(|(seq, ..)| seq == queued) {
                        self.acked[task] = true;
                    }
                }
                AttemptAction::Purge => self.forget_task(task),
                AttemptAction::Start { .. } => {
                    let node = &mut self.nodes[n];
                    (node.ready, node.left) = (true, node.items);
                }
                AttemptAction::SendOutcome { expected } => {
                    let node = &self.nodes[n];
                    let (list, ending) = match self.items {
                        1 => (None, node.ended.unwrap_or(Ending::WorkerLost)),
                        _ => (Some(node.list), Ending::Final),
                    };
                    let node = n;
                    self.report(
                        n,
                        Message::Outcome { task, expected, attempt, node, life, ending, list },
                    );
                }
                AttemptAction::SendNotStarted { expected } => {
                    let (ending, list, node) = (Ending::NotStarted, None, n);
                    self.nodes[n].ended = Some(ending);
                    self.report(
                        n,
                        Message::Outcome { task, expected, attempt, node, life, ending, list },
                    );
                }
                AttemptAction::Stop => {
                    let node = &mut self.nodes[n];
                    let waited = node.left != 0;
                    node.not_begun();
                    if node.run.is_some() {
                        node.grace = true;
                    } else if waited {
                        // It waits for a worker, and waits no more.
                        node.ended = Some(Ending::Cancelled);
                    }
                }
                AttemptAction::Forget => self.drop_held(n),
            }
        }
    }

    /// Writes a claim that the node in it never made.
    pub fn lie(&mut self, n: usize, task: usize) {
        let Word::Queued { attempt, .. } = self.word[task] else { return };
        self.seq += 1;
        let (seq, incarnation) = (self.seq, self.nodes[n].life);
        // No delivery has this number.
        self.word[task] = Word::Claimed { seq, attempt, incarnation, nonce: 0 };
        self.claimer[task] = n;
        self.touched[task] = true;
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
        (node.items, node.left, node.list) = (0, 0, List::default());
        node.ended = None;
    }

    /// What the items of a group have to do with a word that submitter `u` came by.
    fn judged(&mut self, u: usize, task: usize, word: Word) -> Word {
        let Word::Done { seq, attempt, .. } = word else { return word };
        let here = &mut self.submitters[u];
        if let Some((_, ending)) = here.wholes[task].filter(|(of, _)| *of == seq) {
            return Word::Done { seq, attempt, ending };
        }
        let list = self.list[task].filter(|_| self.word[task] == word);
        let (Some(list), Some(group)) = (list, &mut here.groups[task]) else { return word };
        let said = |(item, ending): (usize, &Option<Ending>)| Some((item as u32, (*ending)?));
        let endings: Vec<(u32, Ending)> = list.iter().enumerate().filter_map(said).collect();
        let (over, mut whole) = group.ended(self.allowed, attempt, &endings, |_| true);
        if self.one_for_all && !over.is_empty() {
            whole = Ending::Final;
        }
        here.wholes[task] = Some((seq, whole));
        for item in over {
            let ending = list[item as usize].unwrap_or(Ending::Final);
            self.tell(u, task, item as usize, Told::Ending(ending));
        }
        Word::Done { seq, attempt, ending: whole }
    }

    /// Gives an event to what submitter `u` keeps of a task, and does what it asks for.
    pub fn kept(&mut self, u: usize, task: usize, event: KeptEvent) {
        let event = match event {
            KeptEvent::Read(word) => KeptEvent::Read(self.judged(u, task, word)),
            KeptEvent::Saw(word) => KeptEvent::Saw(self.judged(u, task, word)),
            event => event,
        };
        let Some(kept) = &mut self.submitters[u].kept[task] else { return };
        let mut actions = kept.step(event);
        if self.refuses_unread && event == KeptEvent::Refused {
            actions = vec![KeptAction::DeliverRefused];
            // As though what is read were what was there before.
            let _ = kept.step(KeptEvent::Read(kept.word()));
        }
        self.act(u, task, actions);
    }

    pub fn act(&mut self, u: usize, task: usize, actions: Vec<KeptAction>) {
        for action in actions {
            let items = self.open(u, task).iter().fold(0, |items, item| items | 1 << item);
            match action {
                KeptAction::Submit => {
                    let (expected, attempt) = (0, 1);
                    self.publish(u, task, Message::Queue { task, expected, attempt, items, by: u });
                }
                KeptAction::Requeue { expected, mut attempt } => {
                    let items = if self.all_again { (1 << self.items) - 1 } else { items };
                    let word = self.submitters[u].kept[task].as_ref().map(Kept::word);
                    if self.forgets_begun && matches!(word, Some(Word::Claimed { .. })) {
                        // As though the dead node had begun none of them.
                        attempt -= 1;
                    }
                    self.publish(u, task, Message::Queue { task, expected, attempt, items, by: u });
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
                    let open = self.open(u, task);
                    let list = self.list[task].filter(|_| self.items > 1);
                    for item in open {
                        // Of a group's own outcome only what was given back is open in the end.
                        let ran = list.is_some_and(|list| list[item] != Some(Ending::NotStarted));
                        if ran {
                            self.broken = Some(format!("t{task}: item {item} is told by another"));
                        }
                        self.tell(u, task, item, Told::Ending(ending));
                    }
                    self.settle(u, task);
                }
                KeptAction::DeliverRefused => {
                    let word = self.submitters[u].kept[task].as_ref().map(Kept::word);
                    let queued = word.is_some_and(|word| word != Word::Absent);
                    let told = Told::Refused { queued };
                    self.open(u, task).into_iter().for_each(|item| self.tell(u, task, item, told));
                    self.settle(u, task);
                }
                KeptAction::DeliverVanished => {
                    let open = self.open(u, task);
                    open.into_iter().for_each(|item| self.tell(u, task, item, Told::Vanished));
                    self.settle(u, task);
                }
            }
        }
    }

    /// The items of a task that are open at a submitter.
    pub fn open(&self, u: usize, task: usize) -> Vec<usize> {
        match &self.submitters[u].groups[task] {
            Some(group) => group.open().iter().map(|&item| item as usize).collect(),
            None => vec![0],
        }
    }

    fn publish(&mut self, u: usize, task: usize, message: Message) {
        self.submitters[u].unanswered[task] = Some((message, false));
        self.submitters[u].reads[task] = false;
        self.send(message);
    }

    fn settle(&mut self, u: usize, task: usize) {
        self.submitters[u].unanswered[task] = None;
        self.submitters[u].pauses[task] = false;
    }

    pub fn tell(&mut self, u: usize, task: usize, item: usize, told: Told) {
        if self.told[u][task][item].is_some() {
            self.broken = Some(format!("t{task}: item {item} is told twice"));
        }
        self.told[u][task][item] = Some(told);
        let other = self.told[1 - u][task][item];
        if other.is_some_and(|other| other != told && other != Told::Known) {
            self.broken = Some(format!("t{task}: A and B are told differently"));
        }
        if told == Told::Vanished {
            self.broken = Some(format!("t{task}: its word has gone"));
        }
        if told == Told::Ending(Ending::Cancelled) && !self.cancelled {
            self.broken = Some(format!("t{task}: nobody called it off"));
        }
        if told == Told::Ending(Ending::NodeLost) && self.running(task, item) > 0 {
            self.broken = Some(format!("t{task}: its node is called lost while it runs"));
        }
    }

    /// Whether nothing of a task can follow.
    pub fn is_over(&self, u: usize, task: usize) -> bool {
        let told = &self.told[u][task];
        match self.items {
            1 => told[0].is_some(),
            _ if self.over_with_first => told[0].is_some(),
            _ => {
                told[..self.items].iter().all(Option::is_some)
                    && self.submitters[u].kept[task].as_ref().is_none_or(Kept::is_over)
            }
        }
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
