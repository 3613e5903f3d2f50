//! What the referee and a plugin's process exchange: frames over a socket and values in two areas.
//!
//! ```text
//! referee ── Request ──► engine      one at a time, each answered once
//!         ◄── Reply ────
//! lent     rows, codes, queries, a model's bytes: the referee writes, the engine can only read
//! filled   what a call puts out: codes, rows, estimates, a model's bytes; the referee copies
//!          everything out before it looks at it
//! ```
//!
//! A short frame is shown at the start of an area as well, where a side that waits awake sees it at once.
//!
//! The engine holds plugin code, so that nothing it sends is more than a claim: numbers are
//! checked against what was asked, texts are cut, values are looked at in a copy of the referee's.

mod area;
mod frame;
mod glance;

pub(crate) use area::{
    AREA, Area, AreaError, Closed, FILLED, Kept, LENT, MARGIN, Plain, ROOM, slots,
};
pub(crate) use frame::{Frames, Opened, Reply, Request, WireError, trespassed};
