//! The library behind the `vq-host` program: sweep → plan → cells → records → report.
//!
//! [`worker`] holds what runs in child processes and what starts them; `measure` is the referee of
//! a cell, one of these processes, which has the data and no plugin code.

pub mod cost;
pub mod data;
mod measure;
pub mod metric;
pub mod output;
pub mod plan;
pub mod plugin;
pub mod probe;
pub mod python;
pub mod record;
pub mod report;
pub mod schedule;
pub mod session;
pub mod store;
pub mod submit;
pub mod suggest;
pub mod sweep;
pub mod tournament;
pub mod transform;
pub mod trial;
pub mod worker;
