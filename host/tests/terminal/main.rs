//! The program as a person has it: in a terminal of any size, interrupted, closed, read by nobody.

#[path = "../fixture/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
mod fixture;

mod gone;
mod pty;
mod screens;
mod signals;
mod texts;
