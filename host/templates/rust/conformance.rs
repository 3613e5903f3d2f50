//! The law that `vq-host check` holds the built library to, as a test of this crate.

use vq_plugin_api::conformance;

#[test]
fn the_plugin_keeps_its_contract() {
    let report = conformance::check({{crate}}::plugin());
    println!("{report}");
    report.assert_clean();
    assert_eq!(report.findings().count(), 0, "warnings\n{report}");
}
