//! Everything that can happen next.

use aiopool_cluster::protocol::{Attempt, AttemptEvent, Ending, Group, Kept, KeptEvent, Word};

use crate::world::{Config, Message, NODES, Question, Rule, Told, World, Zygote, node_of};

/// A step: what it is, the world after it, and whether it is a fault.
pub type Step = (String, World, bool);

struct Steps<'w> {
    from: &'w World,
    found: Vec<Step>,
}

impl Steps<'_> {
    fn free(&mut self, label: String, change: impl FnOnce(&mut World)) {
        self.add(false, label, change);
    }

    fn fault(&mut self, label: String, change: impl FnOnce(&mut World)) {
        if self.from.faults > 0 {
            self.add(true, label, change);
        }
    }

    fn add(&mut self, fault: bool, label: String, change: impl FnOnce(&mut World)) {
        let mut world = self.from.clone();
        change(&mut world);
        if world != *self.from {
            world.faults -= u8::from(fault);
            self.found.push((label, world, fault));
        }
    }
}

pub fn steps(world: &World, config: &Config) -> Vec<Step> {
    let mut steps = Steps { from: world, found: Vec::new() };
    link(&mut steps, config);
    for n in 0..NODES {
        deliveries(&mut steps, config, n);
        agent(&mut steps, config, n);
        asked(&mut steps, config, n);
        worker(&mut steps, config, n);
        processes(&mut steps, config, n);
    }
    for u in 0..2 {
        submitter(&mut steps, config, u);
    }
    takeover(&mut steps, config);
    steps.found
}

fn link(steps: &mut Steps<'_>, config: &Config) {
    for (index, &message) in steps.from.flight.iter().enumerate() {
        let take = |lost: bool| {
            move |world: &mut World| {
                world.flight.remove(index);
                let stored = world.store(config, message);
                answer(world, message, stored, lost);
            }
        };
        steps.free(format!("the server takes {message:?}"), take(false));
        if message != Message::Purge {
            steps.fault(format!("the server takes {message:?}, its answer is lost"), take(true));
        }
        if let (true, Message::Queue { task, by, .. } | Message::Decision { task, by, .. }) =
            (config.refusals, message)
        {
            let refuse = |stored: bool| {
                move |world: &mut World| {
                    world.flight.remove(index);
                    if stored {
                        world.store(config, message);
                    }
                    let here = &mut world.submitters[by];
                    if here.up && here.unanswered[task].is_some_and(|(sent, _)| sent == message) {
                        here.unanswered[task] = None;
                        world.kept(by, task, KeptEvent::Refused);
                    }
                }
            };
            let label = format!("the server refuses {message:?} for good");
            steps.fault(format!("{label}, and has an earlier copy of it"), refuse(true));
            steps.fault(label, refuse(false));
        }
    }
}

fn answer(world: &mut World, message: Message, stored: Option<u64>, lost: bool) {
    match message {
        Message::Claim { node, life, .. } | Message::Outcome { node, life, .. } => {
            let here = &mut world.nodes[node];
            let waits = here.unanswered.is_some_and(|(sent, _)| sent == message);
            if !waits || !here.up || here.life != life {
                return;
            }
            if lost || here.stopped {
                here.unanswered = Some((message, true));
                return;
            }
            here.unanswered = None;
            let event = match (message, stored) {
                (Message::Claim { .. }, Some(seq)) => AttemptEvent::ClaimWon(seq),
                (Message::Claim { .. }, None) => AttemptEvent::ClaimUnsure,
                (_, Some(_)) => AttemptEvent::OutcomeWon,
                (_, None) => AttemptEvent::OutcomeUnsure,
            };
            world.attempt(node, event);
        }
        Message::Queue { task, by, .. } | Message::Decision { task, by, .. } => {
            let here = &mut world.submitters[by];
            if !here.up || here.unanswered[task].is_none_or(|(sent, _)| sent != message) {
                return;
            }
            if lost {
                here.unanswered[task] = Some((message, true));
                return;
            }
            here.unanswered[task] = None;
            world.kept(by, task, stored.map_or(KeptEvent::Unsure, KeptEvent::Won));
        }
        Message::Purge => {}
    }
}

fn deliveries(steps: &mut Steps<'_>, config: &Config, n: usize) {
    let world = steps.from;
    let node = &world.nodes[n];
    if !node.up || node.stopped || node.life == 0 || node.zygote != Zygote::Serves {
        return;
    }
    if node.held.is_some() {
        return;
    }
    for task in 0..config.tasks {
        let Some((seq, attempt, items)) = world.queue[task] else { continue };
        let deliver = |world: &mut World| {
            let life = world.nodes[n].life;
            // A nonce in the model is the number of the delivery.
            let (held, actions) = Attempt::delivered(seq, attempt, life, seq);
            world.nodes[n].held = Some((task, attempt, held));
            world.nodes[n].items = items;
            world.obey(n, actions);
            if !config.keeps(Rule::AcknowledgeAfterClaim) {
                world.acked[task] = true;
            }
        };
        let label = format!("n{n} is delivered t{task} {seq}, attempt {attempt}");
        let late = world.word[task].seq() != seq;
        let over = !world.job || world.purged;
        if !world.acked[task] && (!late || over) {
            steps.free(label, deliver);
        } else if config.keeps(Rule::AcknowledgeAfterClaim) || !world.acked[task] {
            // An acknowledgement that was forgotten, or a copy in a buffer of another process.
            steps.fault(format!("{label}, late"), deliver);
        }
    }
}

fn agent(steps: &mut Steps<'_>, config: &Config, n: usize) {
    let world = steps.from;
    let node = &world.nodes[n];
    if !node.up || node.stopped || node.zygote == Zygote::Over {
        return;
    }
    let Some((task, _, _)) = node.held else { return };
    if let Some((message, hopeless)) = node.unanswered {
        let event = match message {
            Message::Claim { .. } => AttemptEvent::ClaimUnsure,
            _ => AttemptEvent::OutcomeUnsure,
        };
        let unsure = |world: &mut World| {
            world.nodes[n].unanswered = None;
            world.attempt(n, event);
        };
        let label = format!("n{n} waits no longer for {message:?}");
        if hopeless {
            steps.free(label, unsure);
        } else {
            steps.fault(label, unsure);
        }
    }
    if node.question == Question::Asked {
        let stale = !config.keeps(Rule::FreshJobKey);
        steps.free(format!("n{n}'s question for the job is answered"), |world| {
            let alive = (world.job && !world.purged) || !config.keeps(Rule::JobFence);
            world.nodes[n].question = Question::Answered(alive);
        });
        if stale && (!world.job || world.purged) {
            steps.fault(format!("n{n} sees an old state of the job"), |world| {
                world.nodes[n].question = Question::Answered(true);
            });
        }
    }
    if let Question::Answered(alive) = node.question {
        steps.free(format!("n{n} has the job's key"), |world| {
            world.nodes[n].question = Question::None;
            world.attempt(n, AttemptEvent::Job { alive });
        });
    }
    if node.reads {
        steps.free(format!("n{n} reads {:?}", world.word[task]), |world| {
            world.nodes[n].reads = false;
            let mut word = world.word[task];
            if let (false, Word::Claimed { incarnation, nonce, .. }) =
                (config.keeps(Rule::Nonce), &mut word)
                && node_of(*incarnation) == n
            {
                let (_, _, held) = world.nodes[n].held.as_ref().expect("looked at above");
                (*incarnation, *nonce) = (world.nodes[n].life, held.queued());
            }
            if let (false, Word::Queued { .. }) = (config.keeps(Rule::KeepUnknownClaims), word) {
                word = Word::Absent;
            }
            world.attempt(n, AttemptEvent::Read(word));
        });
    }
    // Where the word is still the claim nothing follows.
    let runs = node.held.as_ref().and_then(|(_, _, held)| held.running());
    if runs.is_some_and(|claim| world.word[task].seq() != claim) && !node.reads {
        steps.free(format!("n{n} looks whether t{task} is still its own"), |world| {
            world.attempt(n, AttemptEvent::Check);
        });
    }
    if node.run.is_some() && node.ended.is_none() && !config.keeps(Rule::StopAtAnotherWord) {
        steps.fault(format!("n{n} stops t{task} at a hint"), |world| {
            world.nodes[n].run = None;
            world.nodes[n].ended = Some(Ending::Cancelled);
        });
    }
    steps.fault(format!("n{n} gives its claim back"), |world| {
        world.attempt(n, AttemptEvent::GiveBack);
    });
}

/// A submitter asks a node for a task that it has claimed.
fn asked(steps: &mut Steps<'_>, config: &Config, n: usize) {
    let world = steps.from;
    let node = &world.nodes[n];
    for task in 0..config.tasks {
        if config.lies && node.life != 0 && matches!(world.word[task], Word::Queued { .. }) {
            let label = format!("somebody claims t{task} in n{n}'s name");
            steps.fault(label, |world| world.lie(n, task));
        }
        let Word::Claimed { seq, attempt, incarnation: life, nonce } = world.word[task] else {
            continue;
        };
        if !node.up || node.stopped || node.life != life || node.life == 0 {
            continue;
        }
        let is_held = node
            .held
            .as_ref()
            .is_some_and(|(held, _, attempt)| *held == task && attempt.queued() == nonce);
        if is_held && config.keeps(Rule::DisownNothingHeld)
            || !is_held && !config.keeps(Rule::DisownClaimsOfNobody)
        {
            continue;
        }
        let (ending, list) = (Ending::NotStarted, None);
        let outcome =
            Message::Outcome { task, expected: seq, attempt, node: n, life, ending, list };
        steps.free(format!("n{n} has no t{task} {seq}, and says so"), |world| world.send(outcome));
    }
}

fn worker(steps: &mut Steps<'_>, config: &Config, n: usize) {
    let world = steps.from;
    let node = &world.nodes[n];
    if !node.up {
        return;
    }
    let forks = node.zygote == Zygote::Serves
        || (node.zygote == Zygote::Over && !config.keeps(Rule::Latch));
    if let (true, Some((task, attempt, _)), None) =
        (node.ready && node.left != 0 && forks, &node.held, node.run)
    {
        let (task, attempt, item) = (*task, *attempt, node.left.trailing_zeros() as usize);
        steps.free(format!("n{n} STARTS t{task}, item {item}, attempt {attempt}"), |world| {
            if world.running(task, item) > 0 {
                world.broken = Some(format!("t{task}: two attempts overlap"));
            }
            // A task that was called off may have been claimed already, and one whose retry or
            // whose end was refused is what it was.
            let over = |told: Option<Told>| match told {
                Some(Told::Ending(ending)) => ending != Ending::Cancelled,
                Some(Told::Refused { queued }) => !queued,
                _ => false,
            };
            if world.told.iter().any(|told| over(told[task][item])) {
                world.broken = Some(format!("t{task}: item {item} starts after its outcome"));
            }
            let starts = &mut world.starts[task][attempt as usize][item];
            *starts += 1;
            if *starts > 1 {
                world.broken = Some(format!("t{task}: attempt {attempt} starts twice"));
            }
            world.nodes[n].run = Some((task, attempt, item));
            world.nodes[n].left &= !(1 << item);
        });
    }
    if node.run.is_some() && !node.grace && node.zygote != Zygote::Dead {
        steps.free(format!("n{n}: the task ends"), |world| end(world, n, Ending::Final));
        if config.errors {
            steps.fault(format!("n{n}: the task fails"), |world| end(world, n, Ending::Failed));
            steps.fault(format!("n{n}: the task's time is over"), |world| {
                world.nodes[n].grace = true;
            });
        }
    }
    if node.run.is_some() && node.grace {
        steps.free(format!("n{n}: the worker is killed"), |world| {
            let told = world.nodes[n].ended.is_some();
            end(world, n, Ending::WorkerLost);
            if told {
                world.nodes[n].ended = None;
            }
        });
    }
    // The agent reports what ended.
    let early = (node.grace && !config.keeps(Rule::OutcomeAfterRelease))
        || (node.zygote == Zygote::Dead
            && node.run.is_some()
            && !config.keeps(Rule::ZygoteLostAfterWorkers));
    let some = node.list.iter().any(Option::is_some);
    let early = early || (some && !config.keeps(Rule::ReportWhenAllHaveEnded));
    if !node.stopped
        && node.ready
        && (node.left == 0 || (some && !config.keeps(Rule::ReportWhenAllHaveEnded)))
        && node.zygote != Zygote::Over
        && node.held.as_ref().is_some_and(|(_, _, held)| held.running().is_some())
        && (node.ended.is_some() || early)
    {
        steps.free(format!("n{n} reports"), |world| {
            world.nodes[n].ended.get_or_insert(Ending::WorkerLost);
            world.attempt(n, AttemptEvent::Ended);
        });
    }
}

fn end(world: &mut World, n: usize, ending: Ending) {
    let node = &mut world.nodes[n];
    let run = node.run.take();
    node.grace = false;
    if let (Some((_, _, item)), true) = (run, node.ready && node.ended.is_none()) {
        node.item_ended(item, ending);
    }
}

fn kill_all(world: &mut World, n: usize) {
    let node = &mut world.nodes[n];
    node.zygote = Zygote::Over;
    node.run = None;
    node.grace = false;
    node.late_kill = false;
}

fn processes(steps: &mut Steps<'_>, config: &Config, n: usize) {
    let world = steps.from;
    let node = &world.nodes[n];
    if node.up && node.zygote == Zygote::Serves {
        steps.fault(format!("n{n}'s zygote is killed"), |world| {
            world.nodes[n].zygote = Zygote::Dead;
        });
    }
    if node.up && node.zygote == Zygote::Dead {
        if node.run.is_some() {
            steps.free(format!("n{n}'s worker follows its zygote"), |world| {
                end(world, n, Ending::WorkerLost);
            });
        } else if !node.stopped && node.life != 0 {
            steps.free(format!("n{n} has a new zygote"), |world| {
                let node = &mut world.nodes[n];
                node.zygote = Zygote::Serves;
                if node.ready && node.left != 0 {
                    // It was in the pool that ended with its zygote: its fate is not known.
                    let item = node.left.trailing_zeros() as usize;
                    node.left &= !(1 << item);
                    node.item_ended(item, Ending::WorkerLost);
                }
            });
        }
    }
    if node.up && node.life != 0 && node.zygote != Zygote::Over && !node.late_kill {
        steps.fault(format!("n{n}'s deadline passes"), |world| {
            if config.keeps(Rule::ZygoteKills) {
                kill_all(world, n);
            } else {
                world.nodes[n].late_kill = true;
            }
        });
    }
    if node.up && node.life != 0 && node.zygote == Zygote::Serves && !node.late_kill {
        steps.fault(format!("n{n}'s zygote is stopped, and its deadline passes"), |world| {
            if config.keeps(Rule::KernelTimer) {
                kill_all(world, n);
            } else {
                world.nodes[n].late_kill = true;
            }
        });
    }
    if node.up && !node.stopped && node.late_kill {
        steps.free(format!("n{n}'s agent kills"), |world| kill_all(world, n));
    }
    if node.up && !node.stopped && node.zygote == Zygote::Over && node.run.is_none() {
        if node.life != 0 {
            steps.free(format!("n{n} drops its life"), |world| {
                world.drop_held(n);
                world.nodes[n].life = 0;
            });
        } else {
            steps.free(format!("n{n} begins a new life"), |world| world.begin_life(n));
        }
    }
    if node.up && !node.stopped {
        steps.fault(format!("n{n}'s agent is stopped"), |world| world.nodes[n].stopped = true);
    }
    if node.stopped {
        steps.free(format!("n{n}'s agent goes on"), |world| world.nodes[n].stopped = false);
    }
    if node.up && !node.old_zygote && node.old_run.is_none() {
        steps.fault(format!("n{n}'s agent is killed"), |world| {
            let old = std::mem::take(&mut world.nodes[n]);
            world.nodes[n].old_zygote = old.zygote != Zygote::Dead;
            world.nodes[n].old_run = old.run;
        });
    }
    if node.old_zygote {
        steps.free(format!("n{n}'s old zygote ends"), |world| world.nodes[n].old_zygote = false);
    }
    if !node.old_zygote && node.old_run.is_some() {
        steps.free(format!("n{n}'s old worker ends"), |world| world.nodes[n].old_run = None);
    }
    let free = if !config.keeps(Rule::LockHeld) {
        true
    } else if !config.keeps(Rule::LockHeldByWorkers) {
        !node.old_zygote
    } else {
        !node.old_zygote && node.old_run.is_none()
    };
    if !node.up && free {
        steps.free(format!("n{n}'s agent starts again"), |world| {
            world.nodes[n].up = true;
            world.begin_life(n);
        });
    }
    let (life, alive) = world.key[n];
    if alive {
        let over = if node.life == life {
            node.zygote == Zygote::Over || node.late_kill
        } else {
            !node.old_zygote && node.old_run.is_none()
        };
        let label = format!("an observer writes n{n}'s tombstone");
        if over {
            steps.free(label, |world| world.key[n].1 = false);
        } else if !config.keeps(Rule::WaitForTheLease) {
            steps.fault(label, |world| world.key[n].1 = false);
        }
    }
}

fn submitter(steps: &mut Steps<'_>, config: &Config, u: usize) {
    let world = steps.from;
    let here = &world.submitters[u];
    if !here.up {
        return;
    }
    let name = ['A', 'B'][u];
    if world.holder != u || !world.job {
        steps.free(format!("{name} learns that the job is not its own"), |world| depose(world, u));
    }
    for task in 0..config.tasks {
        let Some(kept) = &here.kept[task] else {
            if !world.is_over(u, task) {
                steps.free(format!("{name} submits t{task}"), |world| {
                    let begin = if u == 0 { Kept::submit } else { Kept::resume };
                    let (kept, actions) = begin(config.allowed());
                    world.submitters[u].kept[task] = Some(kept);
                    if config.items > 1 {
                        world.submitters[u].groups[task] = Some(Group::of(config.items as u32));
                    }
                    world.act(u, task, actions);
                });
            }
            continue;
        };
        if kept.is_over() {
            continue;
        }
        let word = world.word[task];
        if let Some((message, hopeless)) = here.unanswered[task] {
            let unsure = |world: &mut World| {
                world.submitters[u].unanswered[task] = None;
                world.kept(u, task, KeptEvent::Unsure);
            };
            let label = format!("{name} waits no longer for {message:?}");
            if hopeless {
                steps.free(label, unsure);
            } else {
                steps.fault(label, unsure);
            }
        }
        if here.reads[task] {
            steps.free(format!("{name} reads {word:?}"), |world| {
                world.submitters[u].reads[task] = false;
                world.kept(u, task, KeptEvent::Read(word));
            });
        }
        if word.seq() > kept.word().seq() {
            steps.free(format!("{name} comes by {word:?}"), |world| {
                world.kept(u, task, KeptEvent::Saw(word));
            });
        }
        if here.pauses[task] {
            steps.free(format!("{name}'s pause for t{task} is over"), |world| {
                world.submitters[u].pauses[task] = false;
                world.kept(u, task, KeptEvent::PauseOver);
            });
        }
        if let Word::Claimed { incarnation, .. } = kept.word() {
            let (life, alive) = world.key[node_of(incarnation)];
            let dead = |world: &mut World| world.kept(u, task, KeptEvent::NodeDead(incarnation));
            if life > incarnation || (life == incarnation && !alive) {
                steps.free(format!("{name} knows that life {incarnation} is over"), dead);
            } else if !config.keeps(Rule::CreationOrder) && life == incarnation && life % 100 > 1 {
                steps.fault(format!("{name} reads the life before {incarnation}"), dead);
            }
        }
        if !world.cancelled {
            for item in world.open(u, task) {
                steps.fault(format!("{name} cancels t{task}, item {item}"), |world| {
                    world.cancelled = true;
                    if let Some(group) = &mut world.submitters[u].groups[task] {
                        group.give_up(item as u32);
                        let open = !group.open().is_empty();
                        world.tell(u, task, item, Told::Ending(Ending::Cancelled));
                        if open {
                            return;
                        }
                    }
                    world.kept(u, task, KeptEvent::Cancel);
                });
            }
        }
        steps.fault(format!("{name} finds t{task} stuck"), |world| {
            world.kept(u, task, KeptEvent::Stuck);
        });
    }
    purge_and_end(steps, config, u, name);
    steps.fault(format!("{name} is killed"), |world| {
        world.submitters[u] = Default::default();
        world.told[u] = Default::default();
    });
}

fn depose(world: &mut World, u: usize) {
    world.submitters[u] = Default::default();
}

fn purge_and_end(steps: &mut Steps<'_>, config: &Config, u: usize, name: char) {
    let world = steps.from;
    let over = (0..config.tasks).filter(|&task| world.is_over(u, task)).count();
    let all = over == config.tasks;
    let there = world.word[..config.tasks].iter().any(|word| *word != Word::Absent);
    let early = over > 0 && !config.keeps(Rule::PurgeWhenAllOver);
    let mine = world.holder == u && world.job;
    let may = !config.keeps(Rule::Watermark) || mine;
    if (all || early) && there && may && !world.flight.contains(&Message::Purge) {
        steps.free(format!("{name} purges the chunk"), |world| {
            if config.keeps(Rule::Watermark) {
                world.purged = true;
            }
            world.send(Message::Purge);
        });
    }
    if all && !there {
        steps.free(format!("{name} ends"), |world| {
            depose(world, u);
            if world.holder == u {
                world.job = false;
            }
        });
    }
}

fn takeover(steps: &mut Steps<'_>, config: &Config) {
    let world = steps.from;
    if !world.job {
        return;
    }
    let lives = world.submitters[world.holder].up;
    if !config.durable {
        let janitor = |world: &mut World| {
            world.job = false;
            if config.keeps(Rule::DepositedDeadline) {
                depose(world, 0);
            }
            world.send(Message::Purge);
        };
        let label = "a janitor ends the job".to_owned();
        if lives {
            steps.fault(label, janitor)
        } else {
            steps.free(label, janitor)
        }
        return;
    }
    let resume = |world: &mut World| {
        if world.holder == 0 && config.keeps(Rule::DepositedDeadline) {
            depose(world, 0);
        }
        world.holder = 1;
        world.submitters[1] = Default::default();
        world.submitters[1].up = true;
        world.told[1] = Default::default();
        for task in 0..config.tasks {
            if world.purged && config.keeps(Rule::Watermark) {
                world.told[1][task][0] = Some(Told::Known);
            }
        }
    };
    let label = "B takes the job".to_owned();
    match (world.holder, lives) {
        (0, true) => steps.fault(label, resume),
        (0, false) | (1, false) => steps.free(label, resume),
        _ => {}
    }
}
