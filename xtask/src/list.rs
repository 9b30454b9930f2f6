//! The mutations: the place, the code there, the code instead, and the tests that must notice.

/// What the tests that notice are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Under {
    /// The loom models.
    Loom,
    /// The library's own tests.
    Test,
}

/// A weakening of the code.
pub struct Mutation {
    pub name: &'static str,
    /// Below `src/`.
    pub file: &'static str,
    /// An expression, or whole statements; once in the file.
    pub code: &'static str,
    pub instead: &'static str,
    pub under: Under,
    /// Parts of names of tests, one of which fails.
    pub tests: &'static [&'static str],
    /// One of the few that are tried each time.
    pub sample: bool,
}

const REUSE: &[&str] = &["ring::model::reuse"];
const HANDBACK: &[&str] = &["ring::model::handback"];
const TO_HOST: &[&str] = &["doorbell::model::to_host"];
const BUSY: &[&str] = &["doorbell::model::busy"];
const HOST_THREADS: &[&str] = &["doorbell::model::host_threads"];
const ROOM: &[&str] = &["doorbell::model::room"];
const PARK: &[&str] = &["doorbell::model::park"];
const LISTENER: &[&str] = &["doorbell::model::listener"];
const TRACE: &[&str] = &["trace::model"];
const FUZZ: &[&str] = &["queue::fuzz::tests::whatever_workers_write"];

/// What stands in the place of a fence.
const NOTHING: &str = "{}";

/// All of them.
#[allow(clippy::too_many_lines)] // A list.
pub fn all() -> Vec<Mutation> {
    let under = |under| {
        move |name, file, code, instead, tests| Mutation {
            name,
            file,
            code,
            instead,
            under,
            tests,
            sample: false,
        }
    };
    let (loom, test) = (under(Under::Loom), under(Under::Test));
    let sample = |mutation: Mutation| Mutation { sample: true, ..mutation };
    vec![
        // Publishing: ring, record, lane, hand-back lane.
        loom(
            "a push releases nothing",
            "ring/task_ring.rs",
            "self.slot(position).store(word(position, record), Release)",
            "self.slot(position).store(word(position, record), Relaxed)",
            REUSE,
        ),
        loom(
            "a look at the ring acquires nothing",
            "ring/task_ring.rs",
            "self.slot(position).load(Acquire)",
            "self.slot(position).load(Relaxed)",
            REUSE,
        ),
        loom(
            "a publish releases nothing",
            "table/transition.rs",
            "self.state.store(word.bits(), Release)",
            "self.state.store(word.bits(), Relaxed)",
            REUSE,
        ),
        loom(
            "a change of state releases nothing",
            "table/transition.rs",
            "self.state\n            .compare_exchange(seen.bits(), next.bits(), AcqRel, Acquire)",
            "self.state.compare_exchange(seen.bits(), next.bits(), Acquire, Acquire)",
            &["cancel_confirmed_in_the_record"],
        ),
        loom(
            "a look at the state acquires nothing",
            "table/transition.rs",
            "StateWord::from_bits(self.state.load(Acquire))",
            "StateWord::from_bits(self.state.load(Relaxed))",
            &["cancel_confirmed_in_the_record"],
        ),
        loom(
            "a lane word releases nothing",
            "ring/lane.rs",
            "slot_of(lane, self.position).store(word(self.position, record), Release)",
            "slot_of(lane, self.position).store(word(self.position, record), crate::sync::atomic::Ordering::Relaxed)",
            REUSE,
        ),
        loom(
            "a look at a lane acquires nothing",
            "ring/lane.rs",
            "slot_of(lane, self.position).load(Acquire)",
            "slot_of(lane, self.position).load(crate::sync::atomic::Ordering::Relaxed)",
            REUSE,
        ),
        sample(loom(
            "a block is handed back and releases nothing",
            "ring/handback.rs",
            "slot_of(lane, self.position).store(word, Release)",
            "slot_of(lane, self.position).store(word, crate::sync::atomic::Ordering::Relaxed)",
            HANDBACK,
        )),
        loom(
            "a block is taken back and acquires nothing",
            "ring/handback.rs",
            "slot_of(lane, self.position).load(Acquire)",
            "slot_of(lane, self.position).load(crate::sync::atomic::Ordering::Relaxed)",
            HANDBACK,
        ),
        loom(
            "a hand-back lane is written without a look at how far it was read",
            "ring/handback.rs",
            "lag >= lane.len() as u64",
            "{ let _ = lag; false }",
            HANDBACK,
        ),
        loom(
            "no fence B13: a worker wants room and looks once more",
            "doorbell/wants_room.rs",
            "// SeqCst fence, B13: pairs with B14.\n        fence(SeqCst);",
            NOTHING,
            HANDBACK,
        ),
        sample(loom(
            "no fence B14: the host hands back and looks who wants room",
            "doorbell/wants_room.rs",
            "// this sees that it waits.\n        fence(SeqCst);",
            NOTHING,
            HANDBACK,
        )),
        // Claiming.
        sample(loom(
            "a claim takes whatever stands there",
            "table/transition.rs",
            "self.swap(seen, seen.with(owner, State::Claimed)).is_ok()",
            "self.swap(self.state(), self.state().with(owner, State::Claimed)).is_ok() || seen.bits() == 0",
            &["cancel_against_two_workers"],
        )),
        loom(
            "a claim does not compare the generation",
            "table/transition.rs",
            "self.swap(seen, seen.with(owner, State::Claimed)).is_ok()",
            "{ let _ = seen; let now = self.state(); now.state() == Some(State::Queued) && self.swap(now, now.with(owner, State::Claimed)).is_ok() }",
            &["cancel_against_two_workers"],
        ),
        loom(
            "a claim does not compare the position",
            "ring/claim.rs",
            "seen.state() == Some(State::Queued) && record.position() == place(class, position)",
            "{ let _ = (record, class, position); seen.state() == Some(State::Queued) }",
            &["a_slow_look_does_not_claim_the_next_use"],
        ),
        loom(
            "the host helps head past a queued task",
            "ring/claim.rs",
            "if queued {\n            return;\n        }",
            "let _ = queued;",
            REUSE,
        ),
        test(
            "a worker does not help past what is stale",
            "ring/claim.rs",
            "// Claimed, cancelled, or a leftover of an earlier use: the entry has done its work.\n        ring.help(position);",
            "return Claim::Empty;",
            &["a_cancelled_entry_is_passed"],
        ),
        test(
            "a record is used again before head has passed its entry",
            "queue/mod.rs",
            "self.was_passed(place)",
            "{ let _ = place; true }",
            &["a_record_is_used_again_only_when"],
        ),
        test(
            "who waits for a record is told only of those that are known to be free",
            "queue/mod.rs",
            "self.look_at_heads();\n        self.room.take(self.free.len())",
            "self.room.take(self.free.len())",
            &["a_record_that_comes_home_wakes"],
        ),
        test(
            "the record of a dead claimer whose task was called off stays behind head",
            "queue/requeue.rs",
            "state.help_past(index);\n        self.free(state, index);",
            "self.free(state, index);",
            &["the_record_of_a_dead_claimer"],
        ),
        test(
            "recovery queues again and leaves the old entry to whoever comes by",
            "queue/requeue.rs",
            "if ring.head() == position {\n            ring.help(position);\n        }",
            "let _ = (ring, position);",
            &["recovery_queues_again_only_when"],
        ),
        // The doorbell, to the host.
        sample(loom(
            "no fence B1: the host arms and looks",
            "doorbell/host_flag.rs",
            "// host's next look sees the worker's lane word.\n        fence(SeqCst);",
            NOTHING,
            TO_HOST,
        )),
        sample(loom(
            "no fence B2: a worker completes and looks at the flag",
            "doorbell/host_flag.rs",
            "// SeqCst fence, B2: pairs with the one in `arm`.\n        fence(SeqCst);",
            NOTHING,
            TO_HOST,
        )),
        loom(
            "a worker clears any arming",
            "doorbell/host_flag.rs",
            "// B3: dies before this → still armed, the next completion rings once more.\n        let _ = self.0.compare_exchange(seen, seen & !ARMED, Relaxed, Relaxed);",
            "let _ = seen; self.0.fetch_and(!ARMED, Relaxed);",
            TO_HOST,
        ),
        loom(
            "an arming has no epoch",
            "doorbell/host_flag.rs",
            "(seen | ARMED).wrapping_add(2)",
            "seen | ARMED",
            TO_HOST,
        ),
        // The doorbell, to the workers.
        loom(
            "no fence B4: the host pushes and looks for a sleeper",
            "doorbell/workers.rs",
            "// set or cleared it sees the entry.\n        fence(SeqCst);",
            NOTHING,
            &["one_worker_hears_of_every_task"],
        ),
        sample(loom(
            "no fence B5: a searcher leaves and looks for more",
            "doorbell/workers.rs",
            "// no worker, its entry is seen here.\n        fence(SeqCst);",
            NOTHING,
            BUSY,
        )),
        loom(
            "a searcher that claims stays one",
            "doorbell/workers.rs",
            "self.searchers.remove(me);\n        self.pass_on(me, backlog)",
            "self.pass_on(me, backlog)",
            BUSY,
        ),
        sample(loom(
            "a searcher that claims wakes nobody",
            "doorbell/workers.rs",
            "(backlog() > self.searchers.len()).then_some(sleeper)",
            "{ let _ = (backlog, sleeper); None }",
            BUSY,
        )),
        sample(loom(
            "a worker that wakes acquires nothing",
            "doorbell/slot_set.rs",
            "self.0[slot / 64].fetch_and(!bit, Acquire)",
            "self.0[slot / 64].fetch_and(!bit, Relaxed)",
            BUSY,
        )),
        loom(
            "no fence B6: a worker lies down and looks once more",
            "doorbell/workers.rs",
            "// SeqCst fence, B6: pairs with B4.\n        fence(SeqCst);",
            NOTHING,
            &["one_worker_hears_of_every_task"],
        ),
        // Between the host's threads.
        sample(loom(
            "no fence B9: a thread asks and tries the lock",
            "doorbell/drain_baton.rs",
            "// its holder releases it and checks.\n        fence(SeqCst);",
            NOTHING,
            HOST_THREADS,
        )),
        sample(loom(
            "no fence B10: a thread unlocks and looks who asked",
            "doorbell/drain_baton.rs",
            "// SeqCst fence, B10: pairs with B9.\n        fence(SeqCst);",
            NOTHING,
            HOST_THREADS,
        )),
        loom(
            "no fence B12: a thread takes its turn and looks",
            "doorbell/drain_baton.rs",
            "// is over.\n        fence(SeqCst);",
            NOTHING,
            HOST_THREADS,
        ),
        sample(loom(
            "no fence B11: the watch ends and looks for tasks",
            "doorbell/watching.rs",
            "// flag down, or the look that follows sees the task.\n        fence(SeqCst);",
            NOTHING,
            HOST_THREADS,
        )),
        loom(
            "a receiver that parks is not counted",
            "doorbell/parked.rs",
            "self.0.fetch_add(1, Relaxed);",
            NOTHING,
            LISTENER,
        ),
        loom(
            "an arming releases nothing",
            "doorbell/host_flag.rs",
            "self.0.compare_exchange(seen, next, Release, Relaxed)",
            "self.0.compare_exchange(seen, next, Relaxed, Relaxed)",
            LISTENER,
        ),
        // A worker that parks.
        sample(loom(
            "a call for attention releases nothing",
            "doorbell/attention.rs",
            "self.0.fetch_add(CALL, Release)",
            "self.0.fetch_add(CALL, Relaxed)",
            PARK,
        )),
        loom(
            "a look at the attention acquires nothing",
            "doorbell/attention.rs",
            "self.0.load(Acquire)",
            "self.0.load(Relaxed)",
            PARK,
        ),
        loom(
            "the order to leave is not written",
            "doorbell/attention.rs",
            "self.0.fetch_or(STOP, Release);",
            NOTHING,
            PARK,
        ),
        loom(
            "whoever wakes a future releases nothing",
            "doorbell/ready.rs",
            "self.set.words[self.slot / 64].fetch_or(bit, AcqRel)",
            "self.set.words[self.slot / 64].fetch_or(bit, Acquire)",
            PARK,
        ),
        test(
            "who takes a ready future takes them all",
            "doorbell/ready.rs",
            "self.words[index].fetch_and(!bit, AcqRel);",
            "self.words[index].fetch_and(0, AcqRel);",
            &["each_wake_is_taken_once_and_in_turn"],
        ),
        // Submitters that wait.
        loom(
            "closing wakes nobody who waits for room",
            "doorbell/room.rs",
            "std::mem::take(&mut self.waiting).into_values().collect()",
            "Vec::new()",
            ROOM,
        ),
        sample(loom(
            "closing keeps nobody out",
            "doorbell/room.rs",
            "self.closed = true;",
            NOTHING,
            ROOM,
        )),
        loom(
            "a submitter that gives up keeps its turn",
            "doorbell/room.rs",
            "self.waiting.remove(&number).is_none()",
            "{ self.waiting.remove(&number); false }",
            ROOM,
        ),
        // What an audit or luck makes good for.
        test(
            "the host does not help head past stale entries when it wants room",
            "queue/submit.rs",
            "help_past_stale(self.control.ring(class), class, self.control.records());",
            "{}",
            &["a_record_is_used_again_only_when"],
        ),
        test(
            "a record is freed while a worker has it",
            "queue/cancel.rs",
            "owner.is_none()",
            "true",
            &["a_record_that_a_worker_has_is_not_free"],
        ),
        test(
            "a call leaves no word for the worker",
            "queue/cancel.rs",
            "control.attention(slot).call();",
            "{}",
            &["who_has_a_task_that_is_cancelled_is_told"],
        ),
        test(
            "a call does not ring the worker",
            "queue/cancel.rs",
            "self.ring(slot);",
            "{}",
            &["who_has_a_task_that_is_cancelled_is_told"],
        ),
        test(
            "an output that comes too late keeps its block",
            "worker/engine.rs",
            "self.outputs.discard(block);",
            "{ let _ = block; }",
            &["an_output_that_comes_too_late"],
        ),
        test(
            "recovery leaves the dead worker's bits",
            "queue/recover.rs",
            "lanes.control.bells().forget(slot);",
            "{}",
            &["recovery_forgets_that_the_dead_slept"],
        ),
        test(
            "recovery does not ring the workers",
            "queue/recover.rs",
            "// The dead worker may have been rung for a task, or may have had to ring another worker.\n        self.ring_all();",
            "{}",
            &["recovery_forgets_that_the_dead_slept"],
        ),
        test(
            "recovery leaves what is DONE to its lane",
            "queue/recover.rs",
            "matches!(\n                    word.state(),\n                    Some(State::Claimed | State::Running | State::Done | State::Cancelling)\n                )",
            "matches!(word.state(), Some(State::Claimed | State::Running | State::Cancelling))",
            &["a_worker_that_dies_at_a_crash_point"],
        ),
        test(
            "blocks of the dead are handed to the next",
            "queue/recover.rs",
            "lane.backlog.clear();",
            "{}",
            &["blocks_of_the_dead"],
        ),
        test(
            "a new worker finds the report of the dead",
            "queue/recover.rs",
            "control.report(slot).reset(lane.handback.position());",
            "{}",
            &["what_the_dead_said_of_itself"],
        ),
        test(
            "a worker believes the header",
            "control/mod.rs",
            "shape.check(region.len())",
            "header::read(&region).map(drop)",
            &["a_worker_starts_whatever_the_header_says"],
        ),
        test(
            "a worker that had tasks counts as one that could not start",
            "supervisor/death.rs",
            "worker.ready || completed || held_any",
            "{ let _ = held_any; worker.ready }",
            &["a_worker_that_had_a_task_was_ready"],
        ),
        test(
            "a new worker finds the lane of the dead",
            "queue/recover.rs",
            "control.lane(slot).iter().chain(control.handback(slot))",
            "control.lane(slot)[..0].iter().chain(control.handback(slot))",
            &["damage_in_what_is_a_workers_own"],
        ),
        test(
            "a new worker finds the hand-back lane of the dead",
            "queue/recover.rs",
            "control.lane(slot).iter().chain(control.handback(slot))",
            "control.lane(slot).iter().chain(&control.handback(slot)[..0])",
            &["what_the_dead_wrote_into_a_hand_back_lane"],
        ),
        test(
            "a worker takes whatever is handed back",
            "worker/outputs.rs",
            "!self.allocator.free(block)",
            "{ self.allocator.free(block); false }",
            &["a_hand_back_word_that_names_no_block"],
        ),
        test(
            "an audit rings nobody",
            "queue/audit.rs",
            "self.ring_all();",
            "{}",
            &["an_audit_rings_everybody"],
        ),
        test(
            "the audit does not look at the words of a hand-back lane",
            "queue/audit.rs",
            "!lane.handback.is_intact(control.handback(slot), taken)",
            "false",
            &["blocks_that_never_come_back"],
        ),
        test(
            "an audit does not say again what is lent",
            "queue/audit.rs",
            "control.lent(slot).store(lane.lent, Release);",
            "{}",
            &["what_is_lent_is_said_again"],
        ),
        test(
            "who is asked does not say again how far its hand-back lane is read",
            "worker/answers.rs",
            "self.outputs.say_taken();",
            "{}",
            &["a_hand_back_position_that"],
        ),
        test(
            "closing tells the last outcome nothing",
            "queue/mod.rs",
            "self.common.set_closing();",
            "{}",
            &["the_last_outcome_of_a_closed_queue"],
        ),
        test(
            "the host knows a record by its number alone",
            "queue/entry.rs",
            "self.in_use && word.generation() == self.generation",
            "{ let _ = word; self.in_use }",
            &["another_generation_than_the_hosts"],
        ),
        test(
            "a worker confirms whatever is CANCELLING",
            "worker/engine.rs",
            "now.generation() == task.word.generation()\n            && now.state() == Some(State::Cancelling)\n            && self.record(&task).confirm_cancel(now).is_ok()",
            "now.state() == Some(State::Cancelling) && self.record(&task).confirm_cancel(now).is_ok()",
            &["a_worker_confirms_only_what_it_had"],
        ),
        // The audit.
        loom(
            "the audit queues again what somebody may have claimed",
            "table/transition.rs",
            "self.swap(seen, StateWord::new(generation, Owner::NOBODY, State::Queued)).is_ok()",
            "{ let _ = seen; self.publish(generation, position); true }",
            &["ring::model::passed"],
        ),
        // What the host does not believe.
        test(
            "a lane word counts whatever the record's generation",
            "queue/entry.rs",
            "self.knows(word)",
            "true",
            FUZZ,
        ),
        test(
            "a lane word counts whatever the record's state",
            "queue/entry.rs",
            "word.state() == Some(State::Done)",
            "true",
            &["a_lane_word_of_a_task_that_is_not_done"],
        ),
        // Attempts, and tasks for one worker.
        test(
            "the next attempt does not wait for the worker of the last",
            "queue/cancel.rs",
            "Whose::Worker",
            "Whose::Host",
            &["the_next_attempt_waits"],
        ),
        test(
            "an attempt that is granted ends with its worker",
            "queue/requeue.rs",
            "state.entries[index].is_between_attempts()",
            "false",
            &["the_next_attempt_follows"],
        ),
        test(
            "the audit takes a task between its attempts for damage",
            "queue/audit.rs",
            "!entry.is_between_attempts()",
            "true",
            &["an_audit_takes_no_offence"],
        ),
        test(
            "a task for one worker is queued for another",
            "queue/recover.rs",
            "if pending.assigned {
            // For the next worker on this seat, and no other.
            let ticket = Ticket { queue: self.index, record: index as u32, task: pending.task };
            state.set_pending(index, pending);
            state.hold(index);
            return lock(&self.unassigned).push((dead.seat, ticket));
        }",
            "",
            &["a_task_for_one_worker_waits"],
        ),
        test(
            "a large output is received again while it is copied",
            "queue/receive.rs",
            "entry.standing != Standing::Plain",
            "false",
            FUZZ,
        ),
        test(
            "an output is copied from anywhere",
            "queue/lanes.rs",
            "block.holds(len, arena.len())",
            "true",
            &["an_output_beyond_the_arena"],
        ),
        test(
            "a dead worker's word is believed of an attempt that is over",
            "queue/recover.rs",
            "!state.entries[index].is_called_off()",
            "true",
            &["a_dead_worker_s_word_begins"],
        ),
        test(
            "a dead worker's CANCELLING is freed, whoever called it off",
            "queue/recover.rs",
            "self.carry_over(&mut state, index, false, &what, received.deliveries);",
            "let _ = what; received.blocks.extend(state.free_record(index));",
            &["a_dead_worker_s_task_that_nobody_called_off"],
        ),
        test(
            "recovery leaves what it found of the dead to the next look",
            "queue/recover.rs",
            "lock(&self.damage).retain(|(damaged, _)| *damaged != slot);",
            "{}",
            &["damage_in_what_is_a_workers_own"],
        ),
        sample(loom(
            "an entry of a timeline is overwritten before its head is seen",
            "trace/ring.rs",
            "fence(Release);",
            NOTHING,
            TRACE,
        )),
        loom(
            "a timeline's head releases nothing",
            "trace/ring.rs",
            "ring.head.store(self.position, Release)",
            "ring.head.store(self.position, Relaxed)",
            TRACE,
        ),
        loom(
            "the entry that may be being overwritten is kept",
            "trace/ring.rs",
            "head.wrapping_sub(position).wrapping_sub(1) < self.entries() - 1",
            "head.wrapping_sub(position).wrapping_sub(1) < self.entries()",
            TRACE,
        ),
        test(
            "the audit asks no worker what it has",
            "queue/audit.rs",
            "control.attention(slot).ask();",
            "{}",
            &["a_task_that_a_worker_is_said_to_have"],
        ),
        test(
            "the audit lets what was called off run again",
            "queue/audit.rs",
            "owner_is_live() && is_pending",
            "owner_is_live()",
            &["a_task_that_was_called_off_does_not_come_back"],
        ),
        test(
            "a start counts whenever it is looked at",
            "queue/cancel.rs",
            "(after(started, limit), overdue)",
            "{ let _ = overdue; (after(started, limit), due) }",
            &["a_worker_that_moves_its_start"],
        ),
        test(
            "whoever has a region may seal it",
            "shm/region.rs",
            "memfd::SEAL_SIZE | memfd::SEAL_SEALS",
            "memfd::SEAL_SIZE",
            &["whoever_has_a_region_cannot_seal_it"],
        ),
    ]
}
