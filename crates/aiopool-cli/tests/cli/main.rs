//! The command `aiopool` as its users type it.

mod dashboard;
mod family;
mod faults;
mod faulty_site;
mod pool;
mod rig;
mod scrape;
mod site;
mod stats;
mod top;
