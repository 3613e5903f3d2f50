//! The main job through the real binary: what a person types, kills, drops in and mistypes.
//!
//! One target for all of it, so that plugins are built once and the library is linked once.

#[path = "../fixture/mod.rs"]
mod fixture;

mod cluster;
mod damage;
mod equal;
mod errors;
mod faults;
mod installed;
mod output;
mod plugins;
mod probe;
mod runs;
mod sources;
mod store;
mod submit;
mod transform;
mod views;
