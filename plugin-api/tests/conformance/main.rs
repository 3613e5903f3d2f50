//! The kit passes a method that keeps the contract, and names exactly the broken rule of methods
//! with one fault each.

mod faults;
mod ladder;
mod padded;
mod raw;

use crate::ladder::{Fault, ladder};
use std::collections::{BTreeMap, BTreeSet};
use vq_plugin_api::abi::{VqMethod, VqParam, VqPlugin, VqStr, VqValue};
use vq_plugin_api::conformance::{self, Event, Report, Severity};
use vq_plugin_api::handle::Plugin;
use vq_plugin_api::params::Config;

/// The rules that fired, true for an error.
pub(crate) fn fired(report: &Report) -> BTreeMap<&'static str, bool> {
    let mut fired = BTreeMap::new();
    for finding in report.findings() {
        *fired.entry(finding.rule).or_default() |= finding.severity == Severity::Error;
    }
    fired
}

pub(crate) fn assert_only(report: &Report, rule: &'static str, severity: Severity) {
    let expected = BTreeMap::from([(rule, severity == Severity::Error)]);
    assert_eq!(fired(report), expected, "\n{report}");
}

#[test]
fn a_method_that_keeps_the_contract_passes() {
    let report = conformance::check(ladder::<{ Fault::None as u8 }>());
    report.assert_clean();
    assert_eq!(fired(&report), [].into(), "\n{report}");
    assert_eq!(report.methods[0].skipped, [], "\n{report}");
    assert!(report.methods[0].checks_run > 100, "{}", report.methods[0].checks_run);
}

#[test]
fn a_worthless_reconstruction_is_noticed() {
    let report = conformance::check(ladder::<{ Fault::PoorQuality as u8 }>());
    assert!(fired(&report).contains_key("quality"), "\n{report}");
    assert_eq!(report.errors().count(), 0, "\n{report}");
}

#[test]
fn nonsense_from_the_generator_is_noticed() {
    let report = conformance::check(ladder::<{ Fault::ProposesNonsense as u8 }>());
    let expected = [("grid-axes", true), ("grid-default", true)];
    assert_eq!(fired(&report), expected.into(), "\n{report}");
}

#[test]
fn the_observer_hears_every_rule_before_it_runs() {
    let plugin = Plugin::linked(ladder::<{ Fault::None as u8 }>()).unwrap();
    let mut heard = Vec::new();
    let report = conformance::check_plugin(&plugin, &mut |event| {
        if let Event::Begins(told) = event {
            heard.push(told.to_owned());
        }
    });
    assert_eq!(heard.len(), report.methods[0].checks_run);
    let batch = "ladder: batch-independence (default configuration, d = 32, L2)";
    assert!(heard.iter().any(|told| told == batch), "{heard:?}");
    let cells = ["d = 1,", "d = 3,", "d = 7,", "d = 13,", "d = 100,", "Ip", "Cosine", "rungs=16"];
    for cell in cells {
        assert!(heard.iter().any(|told| told.contains(cell)), "{cell}: {heard:?}");
    }
}

#[test]
fn the_listing_names_function_input_and_contract() {
    let report = conformance::check(ladder::<{ Fault::PanicsOnOneRow as u8 }>());
    let finding = report.errors().next().unwrap();
    assert_eq!((finding.method.as_str(), finding.function), ("ladder", "fit"));
    assert!(finding.input.contains("default configuration, d = 32, L2"), "{finding}");
    assert!(finding.input.contains("1 rows"), "{finding}");
    assert_eq!(finding.found, "panicked: one row");
    assert!(report.to_string().contains("error no-panic in fit"), "{report}");
    assert!(std::panic::catch_unwind(|| report.assert_clean()).is_err());
}

#[test]
fn a_print_is_the_same_each_time_and_tells_what_differs() {
    let silent = || std::sync::Arc::new(|_: vq_plugin_api::Level, _: &str| ());
    let print = |plugin: &'static VqPlugin| {
        let plugin = Plugin::linked(plugin).unwrap();
        conformance::print(&plugin.methods()[0], &Config::new(), silent())
    };
    let good = ladder::<{ Fault::None as u8 }>();
    let first = print(good).unwrap();
    assert_eq!(print(good), Some(first));
    let plugin = Plugin::linked(good).unwrap();
    let mut heard = None;
    conformance::check_plugin(&plugin, &mut |event| {
        if let Event::Printed(print) = event {
            assert_eq!(heard.replace(*print), None, "one print for a method");
        }
    });
    assert_eq!(heard, Some(first), "a check prints what print does");

    let differs = |plugin| print(plugin).unwrap().difference(&print(plugin).unwrap());
    let seedless = ladder::<{ Fault::IgnoresSeed as u8 }>();
    assert_eq!(differs(seedless).map(|(function, _)| function), Some("fit"));
    assert_eq!(differs(good), None);
    assert_eq!(print(ladder::<{ Fault::NanOutput as u8 }>()), None, "there is nothing to print");
}

#[test]
fn rules_have_distinct_ids_and_a_sentence() {
    let ids: BTreeSet<&str> = conformance::rules().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), conformance::rules().count());
    assert!(conformance::rules().all(|rule| rule.contract.ends_with('.')));
}

/// Texts are shown to people, and some of what shows them is quadratic in a word's length.
#[test]
fn endless_texts_are_cut_and_too_many_values_refused() {
    let plugin = ladder::<{ Fault::None as u8 }>();
    // SAFETY: the table's own pointer.
    let method = unsafe { *plugin.methods };
    // SAFETY: likewise.
    let method: &VqMethod = unsafe { &*method };
    let big: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
    let huge = VqMethod { description: VqStr::new(big), name: VqStr::new(big), ..*method };
    let table = |method: VqMethod| -> &'static VqPlugin {
        let method: *const VqMethod = Box::leak(Box::new(method));
        let methods: &'static [*const VqMethod] = Box::leak(Box::new([method]));
        Box::leak(Box::new(VqPlugin { methods: methods.as_ptr(), n_methods: 1, ..*plugin }))
    };
    let read = Plugin::linked(table(huge)).unwrap();
    let about = read.methods()[0].about();
    assert_eq!(about.description.chars().count(), 2001);
    assert!(about.description.ends_with('…') && about.name.chars().count() == 201);
    let nameless = VqMethod { id: VqStr::new(big), ..*method };
    let refused = Plugin::linked(table(nameless)).unwrap_err().to_string();
    assert!(refused.len() < 500, "{} bytes", refused.len());
    // SAFETY: the table's own pointer.
    let param = unsafe { &*method.params };
    let values = vec![param.default_value; 5000].leak();
    let choices = VqValue {
        kind: vq_plugin_api::abi::kind::LIST,
        items: values.as_ptr(),
        n_items: values.len(),
        ..VqValue::NULL
    };
    let params: &'static [VqParam] = Box::leak(Box::new([VqParam { choices, ..*param }]));
    let many = VqMethod { params: params.as_ptr(), n_params: 1, ..*method };
    let refused = Plugin::linked(table(many)).unwrap_err().to_string();
    assert!(refused.contains("has 5000 choices or grid values"), "{refused}");
    let long =
        VqValue { kind: vq_plugin_api::abi::kind::STRING, s: VqStr::new(big), ..VqValue::NULL };
    let long = vec![long].leak();
    let choices = VqValue { items: long.as_ptr(), n_items: 1, ..choices };
    let params: &'static [VqParam] = Box::leak(Box::new([VqParam { choices, ..*param }]));
    let endless = VqMethod { params: params.as_ptr(), n_params: 1, ..*method };
    let refused = Plugin::linked(table(endless)).unwrap_err().to_string();
    assert!(refused.contains("has a value of 1048576 bytes, above 4096"), "{refused}");
}
