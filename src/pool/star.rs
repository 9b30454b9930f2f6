//! Functions of several arguments, for `starmap`.

use std::fmt::Display;

use crate::task::{IsResult, Stateless, Value};

/// An async function of up to eight arguments, called with a tuple of them: for `starmap` and
/// `apply_star`.
///
/// As [`TaskFn`](crate::TaskFn), every such function implements the trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take the members of `{Args}` as its arguments",
    label = "expected an `async fn` with one argument for each member of `{Args}`",
    note = "`starmap` wants items that are tuples with one member for each argument"
)]
pub trait StarFn<Args>: Stateless {
    /// What calling the function gives.
    type Future: Future<Output = Self::Value> + 'static;

    /// What the caller of the task gets.
    type Value: Value;

    /// Calls the function with the members of `args`.
    fn call(self, args: Args) -> Self::Future;
}

/// A [`StarFn`] that returns a `Result`, for `try_starmap`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take the members of `{Args}` as its arguments and return a \
               `Result`",
    label = "expected an `async fn` with one argument for each member of `{Args}` that returns a \
             `Result`",
    note = "`try_starmap` wants items that are tuples with one member for each argument"
)]
pub trait TryStarFn<Args>: Stateless {
    /// What calling the function gives.
    type Future: Future<Output: IsResult<Value = Self::Value, Error = Self::Error>> + 'static;

    /// What the caller of the task gets.
    type Value: Value;

    /// What the task's error is made of.
    type Error: Display + 'static;

    /// Calls the function with the members of `args`.
    fn call(self, args: Args) -> Self::Future;
}

macro_rules! star_fn {
    ($($name:ident)+) => {
        impl<F, Fut, $($name),+> StarFn<($($name,)+)> for F
        where
            F: Fn($($name),+) -> Fut + Stateless,
            Fut: Future<Output: Value> + 'static,
        {
            type Future = Fut;
            type Value = Fut::Output;

            #[allow(non_snake_case)] // type names as variable names
            fn call(self, ($($name,)+): ($($name,)+)) -> Fut {
                self($($name),+)
            }
        }

        impl<F, Fut, T, Err, $($name),+> TryStarFn<($($name,)+)> for F
        where
            F: Fn($($name),+) -> Fut + Stateless,
            Fut: Future<Output: IsResult<Value = T, Error = Err>> + 'static,
            T: Value,
            Err: Display + 'static,
        {
            type Future = Fut;
            type Value = T;
            type Error = Err;

            #[allow(non_snake_case)] // type names as variable names
            fn call(self, ($($name,)+): ($($name,)+)) -> Fut {
                self($($name),+)
            }
        }
    };
}

impl<F, Fut> StarFn<()> for F
where
    F: Fn() -> Fut + Stateless,
    Fut: Future<Output: Value> + 'static,
{
    type Future = Fut;
    type Value = Fut::Output;

    fn call(self, (): ()) -> Fut {
        self()
    }
}

impl<F, Fut, T, Err> TryStarFn<()> for F
where
    F: Fn() -> Fut + Stateless,
    Fut: Future<Output: IsResult<Value = T, Error = Err>> + 'static,
    T: Value,
    Err: Display + 'static,
{
    type Future = Fut;
    type Value = T;
    type Error = Err;

    fn call(self, (): ()) -> Fut {
        self()
    }
}

star_fn!(A);
star_fn!(A B);
star_fn!(A B C);
star_fn!(A B C D);
star_fn!(A B C D E);
star_fn!(A B C D E G);
star_fn!(A B C D E G H);
star_fn!(A B C D E G H I);
