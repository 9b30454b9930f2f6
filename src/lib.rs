//! `aiopool`: a process pool for async tasks.
