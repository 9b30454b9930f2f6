//! The verbs that submit: `apply`, `map`, `starmap` and their `try_` forms.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;

use crate::error::{Error, Result};
use crate::supervisor::Shared;
use crate::task::address::ImageAddress;
use crate::task::entry::{self, Target, Vtable};
use crate::task::function::FunctionEntry;
use crate::task::{Argument, TaskError, TaskFn, TaskOptions, TryTaskFn, codec};

use super::function::{Function, check_size};
use super::map::{Flat, Keyed, Map};
use super::source::FromStream;
use super::star::{StarFn, TryStarFn};
use super::task::Task;

/// A pool's verbs with options for the tasks they submit; see [`Pool::with`](super::Pool::with).
#[derive(Clone, Copy, Debug)]
pub struct Submit<'p> {
    pub(super) shared: &'p Arc<Shared>,
    pub(super) options: TaskOptions,
}

impl<'p> Submit<'p> {
    /// Runs `function` on `argument` in a worker.
    ///
    /// The task is submitted at once, not when the handle is awaited. If the pool is full, it is
    /// submitted when there is room and the handle is polled.
    ///
    /// # Errors
    ///
    /// All of them come from the handle: see [`Task`].
    pub fn apply<F: TaskFn<A>, A: Argument>(self, function: F, argument: A) -> Task<F::Value> {
        const { F::CHECK };
        self.apply_ref(function, &argument)
    }

    /// [`apply`](Self::apply) with a borrowed argument.
    pub(super) fn apply_ref<F, A>(self, function: F, argument: &A) -> Task<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        self.submit_one(self.know::<F>(entry::vtable(function)), argument)
    }

    /// [`apply`](Self::apply) for a function that returns a `Result`: its error becomes the
    /// task's, as text with the chain of causes.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn try_apply<F, A>(self, function: F, argument: A) -> Task<F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.submit_one(self.know::<F>(entry::try_vtable(function)), &argument)
    }

    /// Runs `function` on each of `items`, in as many workers as there are.
    ///
    /// Items are taken only as there is room for them, so an endless iterator takes constant
    /// memory. The results come in the order of the items; see [`Map`].
    pub fn map<F, A, I>(self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        Map::new(
            self.shared,
            self.options,
            self.know::<F>(entry::vtable(function)),
            items.into_iter(),
        )
    }

    /// [`map`](Self::map) for a function that returns a `Result`.
    pub fn try_map<F, A, I>(self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        Map::new(
            self.shared,
            self.options,
            self.know::<F>(entry::try_vtable(function)),
            items.into_iter(),
        )
    }

    /// [`map`](Self::map) over pairs of a key and an argument: each result comes with its key.
    ///
    /// The key stays with the caller, so it may be of any type.
    pub fn map_keyed<F, K, A, I>(self, function: F, items: I) -> Keyed<I::IntoIter, K, A, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        const { F::CHECK };
        let known = self.know::<F>(entry::vtable(function));
        Keyed::new(|keys| Map::new(self.shared, self.options, known, keys), items.into_iter())
    }

    /// [`map_keyed`](Self::map_keyed) for a function that returns a `Result`.
    pub fn try_map_keyed<F, K, A, I>(
        self,
        function: F,
        items: I,
    ) -> Keyed<I::IntoIter, K, A, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        const { F::CHECK };
        let known = self.know::<F>(entry::try_vtable(function));
        Keyed::new(|keys| Map::new(self.shared, self.options, known, keys), items.into_iter())
    }

    /// [`map`](Self::map) over an async stream, so that one stage feeds the next.
    pub fn map_stream<F, A, S>(self, function: F, items: S) -> Map<FromStream<S>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        const { F::CHECK };
        Map::new(
            self.shared,
            self.options,
            self.know::<F>(entry::vtable(function)),
            FromStream::new(items),
        )
    }

    /// [`try_map`](Self::try_map) over an async stream.
    pub fn try_map_stream<F, A, S>(self, function: F, items: S) -> Map<FromStream<S>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        const { F::CHECK };
        Map::new(
            self.shared,
            self.options,
            self.know::<F>(entry::try_vtable(function)),
            FromStream::new(items),
        )
    }

    /// [`map`](Self::map) for a function of several arguments and items that are tuples of them.
    pub fn starmap<F, A, I>(self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: StarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        let call = move |arguments: A| function.call(arguments);
        Map::new(self.shared, self.options, self.know::<F>(entry::vtable(call)), items.into_iter())
    }

    /// [`starmap`](Self::starmap) for a function that returns a `Result`.
    pub fn try_starmap<F, A, I>(self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        let call = move |arguments: A| function.call(arguments);
        Map::new(
            self.shared,
            self.options,
            self.know::<F>(entry::try_vtable(call)),
            items.into_iter(),
        )
    }

    /// [`map`](Self::map) for a function whose value is several: each of them is given by itself.
    ///
    /// A task may yield any number of values, none too: it returns a `Vec` of them, or another
    /// collection. They come together when it ends; see [`map_parts`](Self::map_parts) for values
    /// that are to come sooner, and [`progress`](crate::progress) for a word of how far a task is.
    pub fn map_flat<F, A, I>(self, function: F, items: I) -> Flat<I::IntoIter, F::Value>
    where
        F: TaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        Flat::new(self.map(function, items))
    }

    /// [`map_flat`](Self::map_flat) for a function that returns a `Result`.
    pub fn try_map_flat<F, A, I>(self, function: F, items: I) -> Flat<I::IntoIter, F::Value>
    where
        F: TryTaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        Flat::new(self.try_map(function, items))
    }

    /// Runs a function of several arguments, or of none, on a tuple of them.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_star<F: StarFn<A>, A: Argument>(
        self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        const { F::CHECK };
        let call = move |arguments: A| function.call(arguments);
        self.submit_one(self.know::<F>(entry::vtable(call)), &arguments)
    }

    /// [`apply_star`](Self::apply_star) for a function that returns a `Result`.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn try_apply_star<F: TryStarFn<A>, A: Argument>(
        self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        const { F::CHECK };
        let call = move |arguments: A| function.call(arguments);
        self.submit_one(self.know::<F>(entry::try_vtable(call)), &arguments)
    }

    /// Runs the function that workers know as `name` on raw bytes. For workers in other languages,
    /// and for all others that attach. The caller's context does not go along, see
    /// [`Logs::carry_context`](crate::Logs::carry_context).
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_named(self, name: &str, input: impl Into<Bytes>) -> Task<Bytes> {
        let known = self.check().and_then(|()| {
            let inputs = &self.shared.common.inputs;
            let number = inputs.function_by_name(name)?;
            Ok(Function { number, name: inputs.function_name(number), has_context: false })
        });
        self.submit_one(known, &input.into())
    }

    /// Runs the function whose vtable this is on encoded bytes.
    pub(crate) fn apply_place(self, vtable: &'static Vtable, input: &Bytes) -> Task<Bytes> {
        let name = (vtable.name)();
        let known = self.check().and_then(|()| self.number(ImageAddress::of(vtable), name, false));
        self.submit_one(known, input)
    }

    pub(super) fn check(self) -> Result<()> {
        self.shared.check_process()?;
        if usize::from(self.options.priority) >= self.shared.plan.classes as usize {
            return Err(Error::InvalidOption {
                name: "priority",
                value: self.options.priority.to_string(),
                allowed: format!(
                    "the pool has {} priority classes, numbered from 0; see priorities()",
                    self.shared.plan.classes
                ),
            });
        }
        Ok(())
    }

    pub(super) fn know<F>(self, vtable: &'static Vtable) -> Result<Function> {
        thread_local! {
            /// The function that this thread submitted last: `(pool, vtable, number)`.
            static LAST: Cell<(usize, Option<ImageAddress<Vtable>>, u32)> =
                const { Cell::new((0, None, 0)) };
        }
        self.check()?;
        let name = std::any::type_name::<F>();
        let (pool, vtable) = (self.shared.id, ImageAddress::of(vtable));
        let has_context = self.shared.plan.context_of_caller.is_some();
        let (last_pool, last_vtable, number) = LAST.get();
        if (last_pool, last_vtable) == (pool, Some(vtable)) {
            return Ok(Function { number, name, has_context });
        }
        let known = self.number(vtable, name, has_context)?;
        LAST.set((pool, Some(vtable), known.number));
        Ok(known)
    }

    /// Returns the function as the pool knows it; its first use gives it a number.
    pub(super) fn number(
        self,
        vtable: ImageAddress<Vtable>,
        name: &'static str,
        has_context: bool,
    ) -> Result<Function> {
        let target = if has_context { Target::WITH_CONTEXT } else { Target::default() };
        let entry = FunctionEntry { vtable: Some(vtable), target, name: String::new() };
        let number = self.shared.common.inputs.function(entry, name)?;
        Ok(Function { number, name, has_context })
    }

    fn submit_one<A, T>(self, known: Result<Function>, argument: &A) -> Task<T>
    where
        A: Argument,
    {
        let Self { shared, options } = self;
        let failed = |error| Task::failed(shared, TaskError::not_submitted(error));
        let function = match known {
            Ok(function) => function,
            Err(error) => return failed(error),
        };
        if !function.has_context
            && let Some(raw) = (argument as &dyn Any).downcast_ref::<Bytes>()
        {
            // Needs no encoding, so no copy of its own.
            return match check_size(shared, raw.len()) {
                Ok(()) => Task::submit(shared, options, function, raw),
                Err(error) => failed(error),
            };
        }
        with_encoded(|buffer| match function.encode(shared, argument, buffer) {
            Ok(()) => Task::submit(shared, options, function, buffer),
            Err(error) => failed(error),
        })
    }
}

/// Lends `f` a buffer of this thread, so that submitting does not allocate.
pub(super) fn with_encoded<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out of its place, since encoding runs user code, which may submit. A thread that is
    // ending may have lost its buffer, and gets one for this call.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    let result = f(&mut buffer);
    if buffer.capacity() <= codec::KEEP_BUFFER {
        let _ = BUFFER.try_with(|cell| cell.replace(buffer));
    }
    result
}
