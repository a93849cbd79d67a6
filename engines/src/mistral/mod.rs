//! The mistralrs backend, which uses mistralrs in a way that avoids its errors.
//!
//! On a CPU mistralrs 0.8.1 decodes a batch wrongly, leaks adapters and quantisation between loads on one thread, grows a prefix
//! cache without bound, panics when a request is dropped at the wrong moment, and runs past the context. Therefore this module keeps one
//! request in flight per model, whose slot is held until mistralrs has dropped the request, even when the caller has gone; uses F32 and no
//! prefix cache; does every load on a thread of its own with the thread-locals cleared; and has its own sampler, which also decides where a
//! completion ends, and its own length limits.

mod adapter;
mod load;
mod request;
mod sampler;

pub(crate) use load::load;
