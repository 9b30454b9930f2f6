//! The command `aiopool` as its users type it.

mod browser;
mod dashboard;
mod family;
mod faults;
mod faulty_site;
mod nodes;
mod perfetto;
mod pool;
mod rig;
mod scrape;
mod sick;
mod site;
mod stack;
mod stats;
mod top;
mod trace;
