//! The C interface, from the header to programs in C and C++ that run pools.

mod coverage;
mod header;
mod names;
mod programs;
mod readme;
mod replaced;
