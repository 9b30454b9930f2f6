//! What may run as a task: the bounds that the verbs share, under names that an error can explain.
//!
//! Each trait is an alias: one blanket implementation, so no user implements it by hand, and a
//! sentence for the compiler to say where the bound does not hold.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A task function: an `async fn` of one argument, or a closure that captures nothing.
///
/// Every function and closure of this form implements the trait; it is a bound to write, never a
/// trait to implement. A worker is another process and calls the function there, so
///
/// - the function has no state of its own: what a closure would capture is part of the argument,
///   or is put into each worker by [`initializer`](crate::PoolBuilder::initializer);
/// - the argument is an [`Argument`]: serde can encode it, and it borrows nothing;
/// - what the function returns is a [`Value`]: serde can carry it back. For a function that
///   returns a `Result` whose error is not serde's there is [`TryTaskFn`].
///
/// The future need not be `Send`: it stays on the thread of its worker.
///
/// ```
/// use aiopool::{Argument, Pool, TaskFn};
///
/// async fn double(x: u64) -> u64 {
///     x * 2
/// }
///
/// async fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// // A function of one's own that takes task functions:
/// async fn twice<F: TaskFn<A>, A: Argument + Clone>(pool: &Pool, f: F, a: A) -> [F::Value; 2] {
///     let (one, two) = (pool.apply(f, a.clone()), pool.apply(f, a));
///     [one.await.unwrap(), two.await.unwrap()]
/// }
///
/// # fn main() -> aiopool::Result<()> {
/// let pool = Pool::builder().processes(1).build()?;
/// aiopool::block_on(async {
///     assert_eq!(twice(&pool, double, 21).await, [42, 42]);
///     assert_eq!(twice(&pool, |x: u8| async move { x + 1 }, 1).await, [2, 2]);
///     // Several arguments travel as a tuple, none as `()`.
///     assert_eq!(twice(&pool, |(a, b)| add(a, b), (1, 2)).await, [3, 3]);
///     let ids = twice(&pool, |()| async { std::process::id() }, ()).await;
///     assert_eq!(ids[0], pool.worker_pids()[0]);
/// });
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task function for items of type `{A}`",
    label = "expected `async fn({A}) -> T`, or a closure of that form that captures nothing"
)]
pub trait TaskFn<A>: Fn(A) -> Self::Future + Stateless {
    /// What calling the function gives.
    type Future: Future<Output = Self::Value> + 'static;

    /// What the caller of the task gets.
    type Value: Value;
}

impl<F, A, Fut> TaskFn<A> for F
where
    F: Fn(A) -> Fut + Stateless,
    Fut: Awaitable,
    Fut::Output: Value,
{
    type Future = Fut;
    type Value = Fut::Output;
}

/// A [`TaskFn`] that returns a `Result`, for the verbs that begin with `try_`.
///
/// Its error may be anything that is [`Display`]: it becomes the task's error, as text with the
/// chain of its causes.
///
/// ```
/// # fn main() -> aiopool::Result<()> {
/// async fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// let pool = aiopool::Pool::builder().processes(1).build()?;
/// let error = pool.try_apply(parse, "one".to_owned()).wait().unwrap_err();
/// assert!(error.to_string().contains("invalid digit"));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task function that returns a `Result` for items of type `{A}`",
    label = "expected `async fn({A}) -> Result<T, E>`, or a closure of that form that captures \
             nothing"
)]
pub trait TryTaskFn<A>: Fn(A) -> Self::Future + Stateless {
    /// What calling the function gives.
    type Future: Future<Output: IsResult<Value = Self::Value, Error = Self::Error>> + 'static;

    /// What the caller of the task gets.
    type Value: Value;

    /// What the task's error is made of.
    type Error: Display + 'static;
}

impl<F, A, Fut, T, E> TryTaskFn<A> for F
where
    F: Fn(A) -> Fut + Stateless,
    Fut: Awaitable,
    Fut::Output: IsResult<Value = T, Error = E>,
    T: Value,
    E: Display + 'static,
{
    type Future = Fut;
    type Value = T;
    type Error = E;
}

/// What a task function can be called with: owned data that serde can encode and decode.
///
/// Every such type implements the trait. `Bytes` travels as it is, without an encoding.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a worker process",
    label = "takes or gives a `{Self}`, which serde cannot encode and decode",
    note = "on a type of your own: `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "a borrowed type becomes an owned one: `String` for `&str`, `Vec<T>` for `&[T]`; an \
            open file or socket is opened by the task, from its path or address"
)]
pub trait Argument: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Argument for T {}

/// What a task can return: owned data that serde can encode and decode.
///
/// Every such type implements the trait. `Bytes` travels as it is, without an encoding.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`: it cannot be sent back from a worker process",
    label = "returns a `{Self}`, which serde cannot encode and decode",
    note = "if it is a `Result`, use the verb's `try_` form (`try_map`, `try_apply`, \
            `try_starmap`): that takes any error that implements `Display`",
    note = "on a type of your own: `#[derive(serde::Serialize, serde::Deserialize)]`"
)]
pub trait Value: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Value for T {}

/// A function without state: a worker calls it in another process, which has none of the caller's.
///
/// Every function item and every closure that captures nothing implements the trait.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the closure captures variables, which a worker process does not have",
    label = "given a closure that captures",
    note = "pass what the task needs as part of its argument, for instance \
            `pool.map(|(x, limit)| ..., items.map(|x| (x, limit)))`",
    note = "or put it into each worker once with `PoolBuilder::initializer`"
)]
pub trait Stateless: Copy + Send + 'static {
    /// Fails to compile for a closure that captures something that is `Copy`: that much the type
    /// system cannot tell. Each verb names it, so that the compiler's notes reach the caller's
    /// line.
    const CHECK: () = assert!(
        size_of::<Self>() == 0,
        "this task function carries a value, which a worker process does not have. \
         A closure may capture nothing: pass what the task needs as part of its argument, or put \
         it into each worker with `PoolBuilder::initializer`. \
         A function pointer names no function that a worker could find: pass the function itself."
    );
}

#[diagnostic::do_not_recommend]
impl<T: Copy + Send + 'static> Stateless for T {}

/// A future, for the error message of a function that returns none.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the task function returns a `{Self}`, which is not a future",
    label = "the function is not async",
    note = "make it an `async fn`, or pass `aiopool::sync_fn(function)`"
)]
pub trait Awaitable: Future + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Future + 'static> Awaitable for T {}

/// A `Result`, for the error message of a function that returns none.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the task function returns a `{Self}`, which is not a `Result`",
    label = "returns no `Result`",
    note = "use the verb without `try_`: `map`, `apply`, `starmap`"
)]
pub trait IsResult {
    /// Of its `Ok`.
    type Value;

    /// Of its `Err`.
    type Error;

    /// Itself.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, E> IsResult for Result<T, E> {
    type Value = T;
    type Error = E;

    #[inline(always)]
    fn into_result(self) -> Result<T, E> {
        self
    }
}

/// A task function made of a function that is not async.
///
/// The worker runs it to its end before it turns to another task, as it would run any code between
/// two awaits: the other tasks of that worker wait meanwhile. For work that computes, a pool with
/// `child_concurrency(1)` keeps them in the queue, where another worker takes them.
///
/// ```
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = aiopool::Pool::builder().processes(2).child_concurrency(1).build()?;
/// let squares = aiopool::block_on(pool.map(aiopool::sync_fn(square), 1..=3))?;
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok(())
/// # }
/// ```
pub fn sync_fn<F, A, T>(function: F) -> impl Fn(A) -> std::future::Ready<T> + Copy + Send + 'static
where
    F: Fn(A) -> T + Copy + Send + 'static,
    A: 'static,
    T: 'static,
{
    move |argument| std::future::ready(function(argument))
}
