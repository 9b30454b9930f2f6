//! Places for user futures: type-erased, used again, never moved while a future is in one.

#![allow(unsafe_code)] // An island: it keeps the promises that `task::entry` asks for.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::doorbell::ReadySet;
use crate::task::entry::{Input, Output, Target, Vtable};
use crate::task::exception::{self, LiveError};
use crate::task::{Status, TaskPanic};

use super::engine::Claimed;
use super::last_words::{self, Subject};
use super::panics;

/// A task in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Its claim.
    pub(crate) task: Claimed,
    /// When it was started.
    pub(crate) started: u64,
    /// What its events belong to.
    pub(crate) span: tracing::Span,
    /// A status and an output that wait for room in the result arena; the future is gone then.
    /// Boxed: it is rare, and what is in flight is moved for each task.
    pub(crate) unplaced: Option<Box<(Status, Vec<u8>, u64)>>,
}

impl InFlight {
    /// Whom a panic of its code is told of.
    fn subject(&self, vtable: &Vtable) -> Subject {
        Subject::Task(self.task, self.started, vtable.name)
    }
}

/// Memory for one future.
#[derive(Debug)]
struct Place {
    memory: NonNull<u8>,
    layout: Layout,
    /// Whose future is in there, if any.
    holds: Option<&'static Vtable>,
}

// SAFETY: the memory is owned; the futures in it are made, polled and dropped by the worker's
// only executor thread, and `Slots` is not given to any other.
unsafe impl Send for Place {}

impl Place {
    fn new() -> Self {
        Self { memory: NonNull::dangling(), layout: Layout::new::<()>(), holds: None }
    }

    /// Makes room for `layout`, keeping what is large enough.
    fn fit(&mut self, layout: Layout) {
        assert!(self.holds.is_none());
        if layout.size() <= self.layout.size() && layout.align() <= self.layout.align() {
            return;
        }
        self.release();
        // A power of two, so that a few kinds of task settle on one size.
        let size = layout.size().next_power_of_two().max(256);
        let layout =
            Layout::from_size_align(size, layout.align().max(64)).expect("a future's layout");
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc(layout) };
        self.memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        self.layout = layout;
    }

    fn release(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: allocated with this layout in `fit`, and empty.
            unsafe { dealloc(self.memory.as_ptr(), self.layout) };
            self.layout = Layout::new::<()>();
        }
    }

    /// Drops the future, if there is one; the panic if that panicked.
    fn clear(&mut self) -> Result<(), TaskPanic> {
        let Some(vtable) = self.holds.take() else { return Ok(()) };
        let memory = self.memory.as_ptr();
        // SAFETY: `holds` said that a future of this kind is here; it is taken, so this is the
        // last use of it even if the drop panics.
        panics::catch(|| unsafe { (vtable.drop)(memory) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.clear();
        self.release();
    }
}

struct Slot {
    place: Place,
    waker: Waker,
    in_flight: Option<InFlight>,
}

/// All slots of a worker.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

/// What came of a poll.
#[derive(Debug)]
pub(crate) enum Polled {
    /// Not ready, or nobody is there any more (a stale wake).
    Pending,
    /// The future is done and dropped; the output holds what the status says.
    Ready(Status),
}

impl Slots {
    /// `count` empty slots, woken through `ready`.
    pub(crate) fn new(count: usize, ready: &Arc<ReadySet>) -> Self {
        let slot = |i| Slot { place: Place::new(), waker: ready.waker(i), in_flight: None };
        Self { slots: (0..count).map(slot).collect(), free: (0..count).rev().collect() }
    }

    /// How many tasks are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is a free slot.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a free slot for `in_flight` and builds its future there.
    ///
    /// # Errors
    ///
    /// The status and the text or panic to end the task with, in `output`; the slot stays taken.
    pub(crate) fn build(
        &mut self,
        in_flight: InFlight,
        (vtable, target): (&'static Vtable, Target),
        input: Input<'_>,
        output: &mut Output,
    ) -> (usize, Result<(), Status>) {
        let index = self.free.pop().expect("the caller asked has_room");
        let slot = &mut self.slots[index];
        let in_flight = &*slot.in_flight.insert(in_flight);
        let _entered = in_flight.span.enter();
        slot.place.fit(vtable.layout);
        let memory = slot.place.memory.as_ptr();
        // SAFETY: `fit` made room for the layout, and the place is empty.
        let built = last_words::during(
            || Some(in_flight.subject(vtable)),
            || panics::catch(|| unsafe { (vtable.start)(memory, target, input) }),
        );
        let result = match built {
            Ok(Ok(())) => {
                slot.place.holds = Some(vtable);
                Ok(())
            }
            Ok(Err(reason)) => {
                output.set_text(&reason);
                Err(Status::Undecodable)
            }
            Err(panic) => Err(panicked(vtable, &panic, output)),
        };
        (index, result)
    }

    /// Takes a free slot for a task that has no future: it is ended by the caller.
    pub(crate) fn occupy(&mut self, in_flight: InFlight) -> usize {
        let index = self.free.pop().expect("the caller asked has_room");
        self.slots[index].in_flight = Some(in_flight);
        index
    }

    /// Polls the future in slot `index`.
    pub(crate) fn poll(&mut self, index: usize, output: &mut Output) -> Polled {
        let Slot { place, waker, in_flight } = &mut self.slots[index];
        let _entered = in_flight.as_ref().map(|in_flight| in_flight.span.enter());
        let Some(vtable) = place.holds else { return Polled::Pending };
        let memory = place.memory.as_ptr();
        let mut context = Context::from_waker(waker);
        let subject = || in_flight.as_ref().map(|in_flight| in_flight.subject(vtable));
        last_words::during(subject, || {
            // SAFETY: `holds` says that `build` put a future of this kind here; it has not moved.
            let polled = panics::catch(|| unsafe { (vtable.poll)(memory, &mut context, output) });
            let mut status = match polled {
                Ok(Poll::Pending) => return Polled::Pending,
                Ok(Poll::Ready(status)) => status,
                Err(panic) => panicked(vtable, &panic, output),
            };
            if let Err(panic) = place.clear() {
                status = panicked(vtable, &panic, output);
            }
            Polled::Ready(status)
        })
    }

    /// The task in slot `index`, if there is one.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut InFlight> {
        self.slots[index].in_flight.as_mut()
    }

    /// Drops what is left of the future in slot `index` and frees the slot.
    pub(crate) fn vacate(&mut self, index: usize) -> Option<Claimed> {
        let slot = &mut self.slots[index];
        // A panic while a cancelled future is dropped has nobody to go to: its outcome is
        // already delivered. The hook has printed it.
        let _ = slot.place.clear();
        let task = slot.in_flight.as_ref()?.task;
        slot.in_flight = None;
        self.free.push(index);
        Some(task)
    }

    /// The slots that have a task.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (usize, &InFlight)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| Some((i, slot.in_flight.as_ref()?)))
    }
}

/// Tells the exception handler of a panic and makes it the task's output.
fn panicked(vtable: &Vtable, panic: &TaskPanic, output: &mut Output) -> Status {
    exception::tell(&LiveError::of_panic((vtable.name)(), panic));
    panics::report(panic, output)
}

/// Runs a hook to its end: builds its future, polls it with the runtime's own waker.
pub(crate) async fn run_hook(
    vtable: &'static Vtable,
    input: &[u8],
    subject: Option<Subject>,
) -> Result<(), String> {
    let mut place = Place::new();
    place.fit(vtable.layout);
    let memory = place.memory.as_ptr();
    // SAFETY: as in `Slots::build`.
    let start = || unsafe { (vtable.start)(memory, Target::default(), Input::passing(input)) };
    let built = last_words::during(|| subject, || panics::catch(start));
    built.map_err(|panic| panic.to_string())??;
    place.holds = Some(vtable);
    let mut output = Output::default();
    let status = std::future::poll_fn(|context| {
        let memory = place.memory.as_ptr();
        // SAFETY: as in `Slots::poll`.
        let poll = || unsafe { (vtable.poll)(memory, context, &mut output) };
        match last_words::during(|| subject, || panics::catch(poll)) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(panics::report(&panic, &mut output)),
        }
    })
    .await;
    let payload = crate::task::Payload::Heap(output.as_slice().to_vec());
    match crate::task::outcome::interpret(status as u8, payload) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
