//! What a worker reports when a task did not return its value.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::codec;

/// How a task ended, as its worker saw it: the `status` of an output descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The output is the encoded value.
    Ok = 0,
    /// The function returned an error; the output is an encoded [`TaskFailure`].
    Failed = 1,
    /// User code panicked; the output is an encoded [`TaskPanic`].
    Panicked = 2,
    /// The input could not be decoded; the output is the text.
    Undecodable = 3,
    /// The value could not be encoded; the output is the text.
    Unencodable = 4,
    /// The output found no room in the result arena; the output is the text.
    OutputSpace = 5,
    /// The worker does not know the function; the output is the text.
    UnknownFunction = 6,
    /// The future was dropped because the host cancelled the task.
    Cancelled = 7,
    /// Shared memory says that the worker has the task, and it has not; the output is the text.
    Damaged = 8,
}

impl Status {
    /// Returns the status with that number.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Ok,
            1 => Self::Failed,
            2 => Self::Panicked,
            3 => Self::Undecodable,
            4 => Self::Unencodable,
            5 => Self::OutputSpace,
            6 => Self::UnknownFunction,
            7 => Self::Cancelled,
            8 => Self::Damaged,
            _ => return None,
        })
    }
}

/// An error that a task function returned: its text and the texts of its causes, and the error
/// itself where it travelled as a [`TypedError`](crate::TypedError); see
/// [`downcast`](Self::downcast).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFailure(Box<Failure>);

/// Boxed: an error is rare, and room for it is moved with each value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    message: String,
    chain: Vec<String>,
    type_name: String,
    code: Option<i32>,
    /// The error itself, encoded.
    value: Option<Vec<u8>>,
}

impl TaskFailure {
    fn new(message: String, chain: Vec<String>, type_name: String) -> Self {
        Self(Box::new(Failure { message, chain, type_name, code: None, value: None }))
    }

    /// Takes down `error`: its text, its type and, where the type shows one, the chain of causes.
    pub(crate) fn of<E: fmt::Display + 'static>(error: &E) -> Self {
        if let Some(typed) = (error as &dyn Any).downcast_ref::<TypedError>() {
            return (*typed.0).clone();
        }
        let message = error.to_string();
        let chain = chain_of(error, &message);
        Self::new(message, chain, std::any::type_name::<E>().to_owned())
    }

    /// Returns an error of another language, of which there is only the text.
    pub(crate) fn foreign(message: &str) -> Self {
        Self::new(message.to_owned(), Vec::new(), String::new())
    }

    /// Returns the error of a C function: its text and the number that it returned.
    pub(crate) fn from_c(message: String, code: i32) -> Self {
        let mut failure = Self::foreign(&message);
        failure.0.code = Some(code);
        failure
    }

    /// Returns the number that a task function in C returned; none for one in another language.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.0.code
    }

    /// Returns the error's own text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the texts of its causes, the nearest first. Known for boxed errors, `std::io::Error`
    /// and types that show their chain when formatted with `{:#}` (`anyhow::Error` does).
    #[must_use]
    pub fn chain(&self) -> &[String] {
        &self.0.chain
    }

    /// Returns the error itself, if it is an `E` that travelled as a
    /// [`TypedError`](crate::TypedError).
    ///
    /// ```
    /// use aiopool::{Pool, TaskError, typed};
    ///
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// enum FetchError {
    ///     NotFound,
    ///     Busy { seconds: u32 },
    /// }
    ///
    /// impl std::fmt::Display for FetchError {
    ///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    ///         write!(f, "{self:?}")
    ///     }
    /// }
    ///
    /// async fn fetch(_url: String) -> Result<String, FetchError> {
    ///     Err(FetchError::Busy { seconds: 3 })
    /// }
    ///
    /// # fn main() -> aiopool::Result<()> {
    /// let pool = Pool::builder().processes(1).build()?;
    /// match pool.try_apply(typed(fetch), "http://example.org/".into()).wait().unwrap_err() {
    ///     TaskError::Failed(failure) => match failure.downcast::<FetchError>() {
    ///         Some(error) => assert_eq!(error, FetchError::Busy { seconds: 3 }),
    ///         None => panic!("{failure}"),
    ///     },
    ///     other => panic!("{other}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn downcast<E: DeserializeOwned + 'static>(&self) -> Option<E> {
        let value = self.0.value.as_ref()?;
        // Before the bytes are decoded: those of another type could be an `E`, too.
        if self.0.type_name != std::any::type_name::<E>() {
            return None;
        }
        codec::decode(value).ok()
    }

    /// Returns the name of the error's type in the worker; empty for an error of another language.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.0.type_name
    }
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0.chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// An error that travels as itself: beside its text, serde carries its value, and the host gets it
/// back with [`TaskFailure::downcast`](crate::TaskFailure::downcast).
///
/// [`typed`](crate::typed) makes a task function of one whose error serde can encode. A function
/// may also return `Result<T, TypedError>`: `?` and `into` make one of any such error.
#[derive(Clone, Debug)]
pub struct TypedError(Box<TaskFailure>);

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Display + Serialize + DeserializeOwned + 'static> From<E> for TypedError {
    fn from(error: E) -> Self {
        let mut failure = TaskFailure::of(&error);
        let mut value = Vec::new();
        // An error that cannot be encoded has its text.
        if codec::encode(&error, &mut value).is_ok() {
            failure.0.value = Some(value);
        }
        Self(Box::new(failure))
    }
}

/// A task function of one that returns a `Result`, whose error travels as itself.
///
/// For the verbs that begin with `try_`. The error implements [`Display`](std::fmt::Display) and
/// serde's traits; [`TaskFailure::downcast`](crate::TaskFailure::downcast) gives it back, also to
/// the predicate of [`TaskOptions::retry_if`](crate::TaskOptions::retry_if).
pub fn typed<F, A, Fut, T, E>(
    function: F,
) -> impl Fn(A) -> Pin<Box<dyn Future<Output = Result<T, TypedError>>>> + Copy + Send + 'static
where
    F: Fn(A) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<T, E>> + 'static,
    A: 'static,
    T: 'static,
    E: fmt::Display + Serialize + DeserializeOwned + 'static,
{
    move |argument| {
        let future = function(argument);
        Box::pin(async move { future.await.map_err(TypedError::from) })
    }
}

fn chain_of<E: fmt::Display + 'static>(error: &E, message: &str) -> Vec<String> {
    let any = error as &dyn Any;
    let known = any
        .downcast_ref::<Box<dyn StdError + Send + Sync>>()
        .map(|boxed| &**boxed as &dyn StdError)
        .or_else(|| {
            any.downcast_ref::<Box<dyn StdError + Send>>().map(|boxed| &**boxed as &dyn StdError)
        })
        .or_else(|| any.downcast_ref::<Box<dyn StdError>>().map(|boxed| &**boxed))
        .or_else(|| any.downcast_ref::<std::io::Error>().map(|error| error as &dyn StdError));
    if let Some(error) = known {
        return std::iter::successors(error.source(), |&cause| cause.source())
            .map(ToString::to_string)
            .collect();
    }
    let full = format!("{error:#}");
    match full.strip_prefix(message).and_then(|rest| rest.strip_prefix(": ")) {
        Some(causes) if !causes.is_empty() => vec![causes.to_owned()],
        _ => Vec::new(),
    }
}

/// A panic in a task function, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPanic(Box<Panic>);

/// Boxed, as [`Failure`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Panic {
    message: String,
    location: String,
    backtrace: String,
}

/// Returns the text that a panic was given, if it was given one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

impl TaskPanic {
    pub(crate) fn new(message: String, location: String, backtrace: String) -> Self {
        Self(Box::new(Panic { message, location, backtrace }))
    }

    /// Returns the panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns `file:line:column` of the panic, or an empty text where it is not known.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Returns the backtrace at the panic.
    #[must_use]
    pub fn backtrace(&self) -> &str {
        &self.0.backtrace
    }
}

impl fmt::Display for TaskPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if self.0.location.is_empty() { Ok(()) } else { write!(f, " (at {})", self.0.location) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn chains_are_kept_for_boxed_and_for_anyhow_errors() {
        let cause = "x".parse::<i32>().unwrap_err();
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(Outer(cause.clone()));
        let failure = TaskFailure::of(&boxed);
        assert_eq!((failure.message(), failure.chain()), ("outer", &[cause.to_string()][..]));
        let any = anyhow::Error::new(cause.clone()).context("outer");
        assert_eq!(TaskFailure::of(&any).to_string(), format!("outer: {cause}"));
        assert_eq!(TaskFailure::of(&"plain").to_string(), "plain");
    }

    #[test]
    fn every_status_has_its_number() {
        for bits in 0..=255 {
            if let Some(status) = Status::from_bits(bits) {
                assert_eq!(status as u8, bits);
            }
        }
    }
}
