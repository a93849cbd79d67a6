//! mistralrs, driven so that what it answers is right.
//!
//! On a CPU mistralrs 0.8.1 decodes a batch wrongly, leaks adapters and quantisation between loads on one thread, grows a prefix
//! cache for ever, panics when a request is dropped at the wrong moment and runs past the context. So here: one request in flight
//! per model, whose place is held until the engine has let go of it, even when the caller has gone; F32; no prefix cache; every
//! load on a thread of its own with the thread-locals cleared; our own sampler, which also decides the end; our own length limits.

mod adapter;
mod load;
mod request;
mod sampler;

pub(crate) use load::load;
