//! The verbs that submit: `apply`, `map`, `starmap` and their `try_` forms.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::scheduler::NewTask;
use crate::supervisor::Shared;
use crate::task::address::ImageAddress;
use crate::task::entry::{self, Target, Vtable};
use crate::task::function::FunctionEntry;
use crate::task::{Fallible, Finish, Plain, TaskError, TaskOptions, codec};

use super::map::Map;
use super::source::{FromIter, FromStream};
use super::star::{StarFunction, StarValue};
use super::task::Task;

/// A function that a pool knows: its number there and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) number: u32,
    pub(super) name: &'static str,
}

impl Function {
    /// What the scheduler is told of a task of this function.
    pub(super) fn new_task(
        self,
        task: u64,
        options: &TaskOptions,
        input: &[u8],
    ) -> NewTask<'static> {
        let (function, priority, input_bytes) = (self.name, options.priority, input.len());
        NewTask { task, function, priority, input_bytes }
    }
}

/// A pool's verbs with options for the tasks they submit; see [`Pool::with`](super::Pool::with).
#[derive(Clone, Copy, Debug)]
pub struct Submit<'p> {
    pub(super) shared: &'p Arc<Shared>,
    pub(super) options: TaskOptions,
}

impl<'p> Submit<'p> {
    /// Runs `function` on `argument` in a worker.
    ///
    /// The task is submitted at once, not when the handle is awaited; where the pool is full, it
    /// is submitted as soon as it is not and the handle is polled.
    ///
    /// # Errors
    ///
    /// All of them come from the handle: see [`Task`].
    pub fn apply<F, A, Fut>(
        self,
        function: F,
        argument: A,
    ) -> Task<<Plain as Finish<Fut::Output>>::Value>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        self.apply_ref(function, &argument)
    }

    /// [`apply`](Self::apply) with a borrowed argument.
    pub(super) fn apply_ref<F, A, Fut>(
        self,
        function: F,
        argument: &A,
    ) -> Task<<Plain as Finish<Fut::Output>>::Value>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Plain>());
        self.submit_one(known, argument)
    }

    /// [`apply`](Self::apply) for a function that returns a `Result`: its error becomes the
    /// task's, as text with the chain of causes.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn try_apply<F, A, Fut, T, E>(self, function: F, argument: A) -> Task<T>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future<Output = std::result::Result<T, E>> + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Display + 'static,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Fallible>());
        self.submit_one(known, &argument)
    }

    /// Runs `function` on each of `items`, in as many workers as there are.
    ///
    /// Items are taken only as there is room for them, so an endless iterator takes constant
    /// memory. The results come in the order of the items; see [`Map`].
    pub fn map<F, A, Fut, I>(
        self,
        function: F,
        items: I,
    ) -> Map<FromIter<I::IntoIter>, <Plain as Finish<Fut::Output>>::Value>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
        I: IntoIterator<Item = A>,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Plain>());
        Map::new(self, known, FromIter(items.into_iter()))
    }

    /// [`map`](Self::map) for a function that returns a `Result`.
    pub fn try_map<F, A, Fut, T, E, I>(self, function: F, items: I) -> Map<FromIter<I::IntoIter>, T>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future<Output = std::result::Result<T, E>> + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Display + 'static,
        I: IntoIterator<Item = A>,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Fallible>());
        Map::new(self, known, FromIter(items.into_iter()))
    }

    /// [`map`](Self::map) over an async stream, so that one stage feeds the next.
    pub fn map_stream<F, A, Fut, S>(
        self,
        function: F,
        items: S,
    ) -> Map<FromStream<S>, <Plain as Finish<Fut::Output>>::Value>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
        S: Stream<Item = A>,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Plain>());
        Map::new(self, known, FromStream::new(items))
    }

    /// [`try_map`](Self::try_map) over an async stream.
    pub fn try_map_stream<F, A, Fut, T, E, S>(self, function: F, items: S) -> Map<FromStream<S>, T>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future<Output = std::result::Result<T, E>> + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Display + 'static,
        S: Stream<Item = A>,
    {
        let _ = function;
        let known = self.know::<F>(entry::vtable::<F, A, Fut, Fallible>());
        Map::new(self, known, FromStream::new(items))
    }

    /// [`map`](Self::map) for a function of several arguments and items that are tuples of them.
    pub fn starmap<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Map<FromIter<I::IntoIter>, StarValue<F, A>>
    where
        F: StarFunction<A> + Send,
        A: Serialize + DeserializeOwned + 'static,
        Plain: Finish<<F::Future as Future>::Output>,
        I: IntoIterator<Item = A>,
    {
        let call = move |arguments: A| function.call(arguments);
        let known = self.know::<F>(vtable_of(&call, Plain));
        Map::new(self, known, FromIter(items.into_iter()))
    }

    /// [`starmap`](Self::starmap) for a function that returns a `Result`.
    pub fn try_starmap<F, A, T, E, I>(self, function: F, items: I) -> Map<FromIter<I::IntoIter>, T>
    where
        F: StarFunction<A> + Send,
        F::Future: Future<Output = std::result::Result<T, E>>,
        A: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
        E: Display + 'static,
        I: IntoIterator<Item = A>,
    {
        let call = move |arguments: A| function.call(arguments);
        let known = self.know::<F>(vtable_of(&call, Fallible));
        Map::new(self, known, FromIter(items.into_iter()))
    }

    /// Runs the function that workers know as `name` on raw bytes; for workers in other
    /// languages, and all that attach.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_named(self, name: &str, input: impl Into<Bytes>) -> Task<Bytes> {
        let known = self.check().and_then(|()| {
            let inputs = &self.shared.common.inputs;
            let number = inputs.function_by_name(name)?;
            Ok(Function { number, name: inputs.function_name(number) })
        });
        self.submit_one(known, &input.into())
    }

    fn check(self) -> Result<()> {
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

    fn know<F>(self, vtable: &'static Vtable) -> Result<Function> {
        thread_local! {
            /// The function that this thread submitted last: `(pool, vtable, number)`.
            static LAST: Cell<(usize, Option<ImageAddress<Vtable>>, u32)> =
                const { Cell::new((0, None, 0)) };
        }
        self.check()?;
        let name = std::any::type_name::<F>();
        let (pool, vtable) = (self.shared.id, Some(ImageAddress::of(vtable)));
        let (last_pool, last_vtable, number) = LAST.get();
        if (last_pool, last_vtable) == (pool, vtable) {
            return Ok(Function { number, name });
        }
        let entry = FunctionEntry { vtable, target: Target::default(), name: String::new() };
        let number = self.shared.common.inputs.function(entry, name)?;
        LAST.set((pool, vtable, number));
        Ok(Function { number, name })
    }

    fn submit_one<A, T>(self, known: Result<Function>, argument: &A) -> Task<T>
    where
        A: Serialize + 'static,
    {
        let raw = (argument as &dyn Any).downcast_ref::<Bytes>();
        if let (Ok(function), Some(raw)) = (&known, raw) {
            // Needs no encoding, so no copy of its own.
            return match self.check_size(raw.len()) {
                Ok(()) => Task::submit(self, *function, raw),
                Err(error) => Task::failed(self, TaskError::not_submitted(error)),
            };
        }
        with_encoded(|buffer| {
            let encoded = known.and_then(|function| {
                self.encode(function, argument, buffer)?;
                Ok(function)
            });
            match encoded {
                Ok(function) => Task::submit(self, function, buffer),
                Err(error) => Task::failed(self, TaskError::not_submitted(error)),
            }
        })
    }

    /// Encodes `argument` into `buffer`, within the pool's limit.
    pub(super) fn encode<A: Serialize + 'static>(
        &self,
        function: Function,
        argument: &A,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        buffer.clear();
        codec::encode(argument, buffer)
            .map_err(|reason| Error::Encode { function: function.name, reason })?;
        self.check_size(buffer.len())
    }

    fn check_size(&self, size: usize) -> Result<()> {
        let max = self.shared.plan.max_payload;
        if size > max { Err(Error::PayloadTooLarge { size, max }) } else { Ok(()) }
    }
}

fn vtable_of<F, A, Fut, M>(_: &F, _: M) -> &'static Vtable
where
    F: Fn(A) -> Fut + Copy + 'static,
    A: DeserializeOwned + 'static,
    Fut: Future + 'static,
    M: Finish<Fut::Output>,
{
    entry::vtable::<F, A, Fut, M>()
}

/// Lends a buffer of this thread, so that submitting does not allocate.
pub(super) fn with_encoded<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out, since encoding runs user code, which may submit. A thread that is ending may
    // have lost its own, and gets one for this call.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    let result = f(&mut buffer);
    if buffer.capacity() <= 1 << 20 {
        let _ = BUFFER.try_with(|cell| cell.replace(buffer));
    }
    result
}
