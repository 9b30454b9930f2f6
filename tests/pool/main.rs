//! What a user relies on: the verbs, their options and outcomes, on pools with real workers.

mod attached;
mod basics;
mod cancel;
mod deadlines;
mod events;
mod functions;
mod keyed;
mod observed;
mod options;
mod process;
mod promises;
mod retries;
mod schedulers;
mod sets;
mod spawn;
mod stats;
mod streams;
mod surroundings;
mod traces;
mod waiting;
