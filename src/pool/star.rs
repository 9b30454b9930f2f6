//! Functions of several arguments, for `starmap`.

use crate::task::{Finish, Plain};

/// An async function whose arguments come as a tuple; implemented for functions of one to eight.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take the members of `{Args}` as its arguments",
    note = "`starmap` wants items that are tuples with one member for each argument"
)]
pub trait StarFunction<Args>: Copy + 'static {
    /// What calling it returns.
    type Future: Future + 'static;

    /// Calls it with the members of `args`.
    fn call(self, args: Args) -> Self::Future;
}

/// What a task of `F`, called with the members of `Args`, gives its caller.
pub type StarValue<F, Args> =
    <Plain as Finish<<<F as StarFunction<Args>>::Future as Future>::Output>>::Value;

macro_rules! star_function {
    ($($name:ident)+) => {
        impl<F, Fut, $($name),+> StarFunction<($($name,)+)> for F
        where
            F: Fn($($name),+) -> Fut + Copy + 'static,
            Fut: Future + 'static,
        {
            type Future = Fut;

            #[allow(non_snake_case)] // type names as variable names
            fn call(self, ($($name,)+): ($($name,)+)) -> Fut {
                self($($name),+)
            }
        }
    };
}

star_function!(A);
star_function!(A B);
star_function!(A B C);
star_function!(A B C D);
star_function!(A B C D E);
star_function!(A B C D E G);
star_function!(A B C D E G H);
star_function!(A B C D E G H I);
