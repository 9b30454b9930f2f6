//! Programs as a service manager, a terminal or a container runs them: each test starts hosts that
//! are processes of their own, with a `main` of their own, which the test harness does not have.

mod boot;
mod host;
mod sig;
mod snap;
mod zygote;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A name, and what is done under it.
type Named = (&'static str, fn());

const TESTS: &[&[Named]] = &[boot::TESTS, sig::TESTS, snap::TESTS, zygote::TESTS];
const ROLES: &[&[Named]] = &[boot::ROLES, sig::ROLES, snap::ROLES, zygote::ROLES];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let first = arguments.next();
    if first.as_deref() == Some(host::ROLE) {
        let name = arguments.next().expect("the name of a role");
        let role = ROLES.iter().copied().flatten().find(|role| role.0 == name);
        role.unwrap_or_else(|| panic!("no role is called {name}")).1();
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| first.as_deref().is_none_or(|filter| name.contains(filter));
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.iter().copied().flatten().filter(|test| wanted(test.0)) {
        let ok = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        *(if ok { &mut passed } else { &mut failed }) += 1;
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
