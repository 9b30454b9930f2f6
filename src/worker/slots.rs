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

use super::claimed::Claimed;
use super::in_hand::Held;
use super::last_words::{self, Subject};
use super::panics;

/// A task in flight.
#[derive(Debug)]
pub(crate) struct PolledTask {
    /// Its claim, and its outcome if that waits for room; the future is gone then.
    pub(crate) held: Held,
    /// What its events belong to.
    pub(crate) span: tracing::Span,
}

/// Memory for one future.
#[derive(Debug)]
struct FutureMemory {
    memory: NonNull<u8>,
    layout: Layout,
    /// Whose future is in there, if any.
    holds: Option<&'static Vtable>,
}

// SAFETY: the memory is owned; the futures in it are made, polled and dropped by the worker's
// only executor thread, and `Slots` is not given to any other.
unsafe impl Send for FutureMemory {}

impl FutureMemory {
    fn new() -> Self {
        Self { memory: NonNull::dangling(), layout: Layout::new::<()>(), holds: None }
    }

    /// Makes room for `layout`, keeping what is large enough.
    #[inline]
    fn fit(&mut self, layout: Layout) {
        assert!(self.holds.is_none());
        if layout.size() > self.layout.size() || layout.align() > self.layout.align() {
            self.grow(layout);
        }
    }

    #[cold]
    fn grow(&mut self, layout: Layout) {
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
            // SAFETY: allocated with this layout in `grow`, and empty.
            unsafe { dealloc(self.memory.as_ptr(), self.layout) };
            self.layout = Layout::new::<()>();
        }
    }

    /// Builds the future of a call and polls it for the first time.
    fn start(
        &mut self,
        (vtable, target): (&'static Vtable, Target),
        input: Input<'_>,
        context: &mut Context<'_>,
        output: &mut Output,
    ) -> Poll<Status> {
        self.fit(vtable.layout);
        self.run(vtable, output, |place, output| {
            // SAFETY: `fit` made room for the layout, and the place is empty.
            match unsafe { (vtable.start)(place.memory.as_ptr(), target, input) } {
                Ok(()) => place.holds = Some(vtable),
                Err(reason) => {
                    return Poll::Ready(output.refuse(Status::Undecodable, &reason));
                }
            }
            place.poll_held(vtable, context, output)
        })
    }

    /// Polls the future, if there is one.
    fn poll(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<Status> {
        let Some(vtable) = self.holds else { return Poll::Pending };
        self.run(vtable, output, |place, output| place.poll_held(vtable, context, output))
    }

    /// Polls the future, which is a `vtable`'s, and drops it when it is done.
    fn poll_held(
        &mut self,
        vtable: &Vtable,
        context: &mut Context<'_>,
        output: &mut Output,
    ) -> Poll<Status> {
        // SAFETY: `holds` says that `start` put a future of this kind here; it has not moved.
        let polled = unsafe { (vtable.poll)(self.memory.as_ptr(), context, output) };
        if polled.is_ready() {
            self.drop_held();
        }
        polled
    }

    /// Drops the future, if there is one.
    fn drop_held(&mut self) {
        if let Some(vtable) = self.holds.take() {
            // SAFETY: `holds` said that a future of this kind is here; it is taken, so this is the
            // last use of it even if the drop panics.
            unsafe { (vtable.drop)(self.memory.as_ptr()) }
        }
    }

    /// Runs `code` of a task; should it panic, that is the task's output, and nothing is left here.
    fn run(
        &mut self,
        vtable: &Vtable,
        output: &mut Output,
        code: impl FnOnce(&mut Self, &mut Output) -> Poll<Status>,
    ) -> Poll<Status> {
        match panics::catch(|| code(self, output)) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(self.fail(vtable, &panic, output)),
        }
    }

    #[cold]
    fn fail(&mut self, vtable: &Vtable, panic: &TaskPanic, output: &mut Output) -> Status {
        let mut status = panicked(vtable, panic, output);
        if let Err(panic) = self.clear() {
            status = panicked(vtable, &panic, output);
        }
        status
    }

    /// Drops the future, if there is one; the panic if that panicked.
    fn clear(&mut self) -> Result<(), TaskPanic> {
        if self.holds.is_none() {
            return Ok(());
        }
        panics::catch(|| self.drop_held())
    }
}

impl Drop for FutureMemory {
    fn drop(&mut self) {
        let _ = self.clear();
        self.release();
    }
}

struct FutureSlot {
    place: FutureMemory,
    waker: Waker,
    in_flight: Option<PolledTask>,
}

/// All slots of a worker.
pub(crate) struct Slots {
    slots: Vec<FutureSlot>,
    free: Vec<usize>,
}

impl Slots {
    /// `count` empty slots, woken through `ready`.
    pub(crate) fn new(count: usize, ready: &Arc<ReadySet>) -> Self {
        let slot =
            |i| FutureSlot { place: FutureMemory::new(), waker: ready.waker(i), in_flight: None };
        Self { slots: (0..count).map(slot).collect(), free: (0..count).rev().collect() }
    }

    /// Returns how many tasks are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether there is a free slot.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Builds the future of a task in a free slot and polls it for the first time.
    ///
    /// A task that is over after that needs no slot; one that is not is to be [kept](Self::keep)
    /// before anything else is started.
    pub(crate) fn start(
        &mut self,
        function: (&'static Vtable, Target),
        input: Input<'_>,
        output: &mut Output,
    ) -> Poll<Status> {
        let index = *self.free.last().expect("the caller asked has_room");
        let FutureSlot { place, waker, .. } = &mut self.slots[index];
        place.start(function, input, &mut Context::from_waker(waker), output)
    }

    /// Gives the slot that `start` has used to its task, which goes on or waits for room.
    pub(crate) fn keep(&mut self, in_flight: PolledTask) {
        let index = self.free.pop().expect("the caller asked has_room");
        self.slots[index].in_flight = Some(in_flight);
    }

    /// Polls the future in slot `index`. Also pending if the slot is empty (a stale wake).
    pub(crate) fn poll(&mut self, index: usize, output: &mut Output) -> Poll<Status> {
        let FutureSlot { place, waker, in_flight } = &mut self.slots[index];
        let (Some(in_flight), Some(vtable)) = (in_flight, place.holds) else {
            return Poll::Pending;
        };
        let _entered = in_flight.span.enter();
        let subject =
            || Some(Subject::Task(in_flight.held.task, in_flight.held.started, vtable.name));
        let mut context = Context::from_waker(waker);
        last_words::during(subject, || place.poll(&mut context, output))
    }

    /// Returns the task in slot `index`, if there is one.
    pub(crate) fn held(&mut self, index: usize) -> Option<&mut Held> {
        self.slots[index].in_flight.as_mut().map(|in_flight| &mut in_flight.held)
    }

    /// Drops what is left of the future in slot `index` and frees the slot.
    pub(crate) fn vacate(&mut self, index: usize) -> Option<Claimed> {
        let slot = &mut self.slots[index];
        // A panic while a cancelled future is dropped has no receiver: the outcome is already
        // delivered. The hook has printed it.
        let _ = slot.place.clear();
        let task = slot.in_flight.as_ref()?.held.task;
        slot.in_flight = None;
        self.free.push(index);
        Some(task)
    }

    /// Returns the tasks in flight, by slot, to be changed.
    pub(crate) fn held_mut(&mut self) -> impl Iterator<Item = (usize, &mut Held)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(i, slot)| Some((i, &mut slot.in_flight.as_mut()?.held)))
    }

    /// Returns the tasks in flight, by slot.
    pub(crate) fn held_all(&self) -> impl Iterator<Item = (usize, &Held)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(i, slot)| Some((i, &slot.in_flight.as_ref()?.held)))
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
    let mut place = FutureMemory::new();
    place.fit(vtable.layout);
    let memory = place.memory.as_ptr();
    // SAFETY: as in `FutureMemory::start`.
    let start = || unsafe { (vtable.start)(memory, Target::default(), Input::passing(input)) };
    let built = last_words::during(|| subject, || panics::catch(start));
    built.map_err(|panic| panic.to_string())??;
    place.holds = Some(vtable);
    let mut output = Output::default();
    let status = std::future::poll_fn(|context| {
        let memory = place.memory.as_ptr();
        // SAFETY: as in `FutureMemory::poll_held`.
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
