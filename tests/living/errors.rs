//! What a report with all its causes says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aiopool::{Error, TaskError};

/// One of each kind.
fn all() -> Vec<Error> {
    let system = || {
        let error = io::Error::other("the system's words");
        Error::System { what: "do something".to_owned(), error }
    };
    let (name, what) = ("an option", "something to come");
    vec![
        Error::InvalidOption { name, value: "3".into(), allowed: "1 or 2".into() },
        system(),
        Error::Misuse("a misuse"),
        Error::Closed,
        Error::Full,
        Error::PayloadTooLarge { size: 2, max: 1 },
        Error::Encode { function: "f", reason: "a reason".into() },
        Error::TimedOut { what, limit: Duration::ZERO },
        Error::ZygoteLost("it ended".into()),
        Error::Initializer("it said no".into()),
        Error::NoWorkers("none".into()),
        Error::Corrupt("a word".into()),
        Error::Failed(Arc::new(system())),
        Error::Forked { owner: 1, here: 2 },
    ]
}

/// Checks that no cause is said by the error in front of it, too.
fn check(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(text.matches("the system's words").count() <= 1, "{text}");
    let mut cause = error.source();
    while let Some(known) = cause {
        assert!(!text.contains(&known.to_string()), "{text}: {known}");
        cause = known.source();
    }
}

#[test]
fn a_report_with_all_causes_says_nothing_twice() {
    for error in all() {
        check(&error);
        let error = Arc::new(error);
        check(&TaskError::NotSubmitted(Arc::clone(&error)));
        check(&TaskError::PoolClosed { reason: Some(error) });
    }
    for error in
        [TaskError::Refused("x".into()), TaskError::Value("x".into()), TaskError::Cancelled]
    {
        check(&error);
    }
}
