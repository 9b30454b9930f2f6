//! Prints the path of the newest server's program, fetching it if it is not there: for tests in other
//! languages.
#![forbid(unsafe_code)]

fn main() {
    println!("{}", aiopool_nats::NEWEST.program().display());
}
