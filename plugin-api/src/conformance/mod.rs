//! The law for every plugin: what `include/vq_plugin.h` says, as checks on the C table.
//!
//! An author's test is one line, `conformance::check(plugin()).assert_clean()`; `vq-host check`
//! runs the same on a library. No method is named here: rules learn parameters, ranges and sizes
//! from the descriptor.
//!
//! [`rules`] is the whole law in order; each [extension](crate::extension) adds its own. Rules on the *descriptor* need no data. Rules on a *cell*
//! (one configuration in one space, fitted on Gaussian rows) start from the same few facts: the
//! cell was built, its codes are complete, its rows finite, the same call gives the same codes.
//! Where one of these fails, the rules derived from them are skipped, so that one fault gives one
//! finding.
//!
//! A plugin may crash or hang the process instead of failing; the observer of [`check_plugin`]
//! tells a parent process what was running, which then finds [`SURVIVES`] or [`TERMINATES`] broken.

use crate::abi::VqPlugin;
use crate::handle::{Method, Plugin};
use crate::params::Config;
use crate::{Level, Space};
use cell::{Cell, Plan};
use lab::Lab;
use log::Log;
use rule::Run;
use std::sync::Arc;

pub(crate) mod cell;
pub(crate) mod codec;
mod descriptor;
pub(crate) mod lab;
pub(crate) mod log;
mod print;
mod report;
mod robustness;
pub(crate) mod rule;

pub use print::{Print, print};
pub use report::{Finding, MethodReport, Report, Severity, Skip};
pub use rule::{ACROSS, AS_IN_RUN, Rule, STDOUT, SURVIVES, TERMINATES, rule, rules};

pub(crate) use rule::{Depth, Law};

/// Takes the log lines of a method that is checked, from any thread.
pub type Hear = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// What an observer hears while a check runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// What is about to run: `method: rule (place)`.
    Begins(&'a str),
    /// What was just found; its text may still grow in the report, by how often it was seen.
    Found(&'a Finding),
    /// What cannot be checked.
    Skipped(&'a Skip),
    /// What the first configuration made just now.
    Printed(&'a Print),
}

/// Checks a plugin linked into this program; for an author's own test.
pub fn check(plugin: &'static VqPlugin) -> Report {
    match Plugin::linked(plugin) {
        Ok(plugin) => check_plugin(&plugin, &mut |_| ()),
        Err(error) => Report::unreadable(&error),
    }
}

/// Checks a plugin. `observer` hears each [`Event`], so that a parent process can say what a crash
/// or a hang came from, and what was found before.
pub fn check_plugin(plugin: &Plugin, observer: &mut dyn FnMut(Event<'_>)) -> Report {
    let methods = plugin
        .methods()
        .iter()
        .map(|method| check_method(method, &Config::new(), Arc::new(|_, _| ()), observer));
    Report { methods: methods.collect() }
}

/// Checks one method, whose log lines `hear` takes, as [`check_plugin`] checks all; for a parent process that gives each method
/// a process of its own, so that one that ends the process costs only its own report. A parent
/// that also wants to know the function hands in a [`Method::watched`].
///
/// Cells are built with the parameters of `fixed`, where the default and the grid have others: a
/// way to check a method whose usual training takes minutes. Rules on the descriptor are not
/// concerned.
pub fn check_method(
    method: &Method,
    fixed: &Config,
    hear: Hear,
    observer: &mut dyn FnMut(Event<'_>),
) -> MethodReport {
    let mut log = Log::new(&method.about().id, observer);
    examine(method, fixed, &Lab::new(hear), &mut log);
    log.finish()
}

/// The method under examination and a configuration it accepts.
pub(crate) struct Subject<'a> {
    method: &'a Method,
    lab: &'a Lab,
    /// What every configuration has.
    fixed: &'a Config,
    /// A configuration that `create` accepts in `space`.
    config: Config,
    space: Space,
}

fn examine(method: &Method, fixed: &Config, lab: &Lab, log: &mut Log<'_>) {
    let Some((config, space)) = descriptor::foothold(method, fixed) else {
        log.begin("grid-default", "");
        log.error(
            "create",
            "the default configuration and the default grid at common dimensions, all metrics",
            "none can be created",
        );
        return;
    };
    let subject = Subject { method, lab, fixed, config, space };
    for rule in rules() {
        if let Run::Method(run) = rule.run {
            log.begin(rule.id, "");
            run(&subject, log);
        }
    }
    for plan in Plan::of(&subject, log) {
        let Some(cell) = Cell::build(&subject, &plan, log) else { continue };
        if plan.depth == Depth::Deep {
            (log.observer)(Event::Printed(&Print::of(&cell)));
        }
        for rule in rules() {
            if let Run::Cell(depth, run) = rule.run
                && plan.depth >= depth
            {
                log.begin(rule.id, &plan.place());
                run(&cell, log);
            }
        }
    }
}
