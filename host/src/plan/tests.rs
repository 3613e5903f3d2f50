use miette::Diagnostic;
use vq_plugin_api::Value;

use super::testing::{Generator, catalog, library, sweep};
use super::*;
use crate::plugin::Catalog;
use crate::sweep::Sweep;

const GAUSS: &str = "gauss";

/// Two data sets as their headers show them; sweeps of one take the first.
fn shapes(sweep: &Sweep) -> Vec<DataShape> {
    let of = |dataset: &crate::sweep::Dataset| DataShape {
        name: dataset.spec.name.clone(),
        dim: 16,
        metric: dataset.spec.metric,
    };
    sweep.datasets.iter().map(of).collect()
}

fn grids_of(sweep: &Sweep, catalog: &Catalog) -> Result<Grids, PlanError> {
    let shapes = shapes(sweep);
    let chosen = choose(sweep, catalog)?;
    let asked = requests(sweep, &chosen, &shapes)?;
    let generator = Generator::default();
    let answer = |asked: &Asked| {
        generator.expand(asked.of(&chosen).found(), asked.requests.clone()).unwrap()
    };
    let answers = asked.iter().map(answer).collect();
    assemble(sweep, &shapes, &chosen, &asked, answers)
}

fn grids(rest: &str) -> Result<Grids, PlanError> {
    grids_of(&sweep(rest), &catalog())
}

fn labels(grids: &Grids) -> Vec<&str> {
    grids.candidates.iter().map(|of| of.label.as_str()).collect()
}

/// What an error points at, its text and its help.
fn said(sweep: &Sweep, error: &PlanError) -> (String, String, String) {
    let label = error.labels().unwrap().next().unwrap();
    let written = &sweep.source.text()[label.offset()..label.offset() + label.len()];
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    (written.to_owned(), error.to_string(), help)
}

fn refused(rest: &str) -> (String, String, String) {
    let sweep = sweep(rest);
    said(&sweep, &grids_of(&sweep, &catalog()).unwrap_err())
}

#[test]
fn a_method_without_parameters_in_the_sweep_gets_its_default_grid() {
    let grids = grids("[[method]]\nuse = \"zlattice\"\n").unwrap();
    assert_eq!(labels(&grids), ["bits=4", "bits=8"]);
    assert!(grids.skips.is_empty());
    let of = &grids.candidates[0];
    assert_eq!((of.code_bytes, of.bits_per_dim), (Some(2), Some(1.0)));
    assert_eq!((of.dataset, of.dataset_name.as_str()), (0, GAUSS));
    assert_eq!(of.config["parts"], Value::Int(4), "defaults are filled in");
}

#[test]
fn a_python_of_its_own_is_for_methods_in_python_and_another_one_is_another_method() {
    let mut own = sweep("[[method]]\nuse = \"zlattice\"\n");
    let span = own.methods[0].id.span();
    own.methods[0].python = Some(toml::Spanned::new(span, "/venv".into()));
    let (_, error, help) = said(&own, &grids_of(&own, &catalog()).unwrap_err());
    assert_eq!(error, "zlattice is no method in Python");
    assert_eq!(help, "leave `python` out");
    let mut described = catalog();
    described.libraries[0].python = Some("/venv".into());
    let grids = grids_of(&own, &described).unwrap();
    assert_eq!(grids.candidates[0].python, Some("/venv".into()));
    let of_all = sweep("[[method]]\nuse = \"zlattice\"\n");
    assert!(grids_of(&of_all, &described).is_err(), "described in that alone");
}

#[test]
fn axes_span_their_product_and_other_parameters_keep_their_default() {
    let grids = grids("[[method]]\nuse = \"zlattice\"\nparams.parts = [2, 4]\n").unwrap();
    assert_eq!(labels(&grids), ["parts=2 bits=8", "parts=4 bits=8"]);
    let both = "[[method]]\nuse = \"zlattice\"\nparams.parts = [2, 4]\nparams.bits = { from = 2, to = 8, times = 2 }\n";
    let grids = self::grids(both).unwrap();
    let expected = [
        "parts=2 bits=2",
        "parts=2 bits=4",
        "parts=2 bits=8",
        "parts=4 bits=2",
        "parts=4 bits=4",
        "parts=4 bits=8",
    ];
    assert_eq!(labels(&grids), expected, "a range is an axis");
}

#[test]
fn every_configuration_is_measured_with_every_second_code_and_counts_its_bytes() {
    let rest = "[[method]]\nuse = \"zlattice\"\nparams.bits = [4, 8]\n\
                second = { use = \"zlattice\", params = { parts = [8, 5], bits = 8 } }\n\
                [[method]]\nuse = \"zlattice\"\nparams.bits = 4\n";
    let sweep = sweep(rest);
    let grids = grids_of(&sweep, &catalog()).unwrap();
    let expected =
        ["bits=4 + zlattice parts=8 bits=8", "bits=8 + zlattice parts=8 bits=8", "bits=4"];
    assert_eq!(labels(&grids), expected);
    let bytes: Vec<_> = grids.candidates.iter().map(|of| of.code_bytes).collect();
    assert_eq!(bytes, [Some(2 + 8), Some(4 + 8), Some(2)]);
    assert_eq!(grids.candidates[0].bits_per_dim, Some(5.0));
    assert_eq!(grids.skips[0].reason, "parts: 5 does not divide d = 16");
    let plan = grids.into_plan(&sweep, &["d"]);
    let [first, _, alone] = plan.cells.as_slice() else { panic!("{:?}", plan.cells) };
    assert_ne!(first.key, alone.key);
    let params = first.params();
    assert_eq!(params["bits"], 4);
    assert_eq!(params["second"]["use"], "zlattice");
    assert_eq!(params["second"]["plugin"], "1f");
    assert_eq!(params["second"]["params"]["parts"], 8);
    assert!(alone.params().get("second").is_none());

    let (at, error, _) = refused("[[method]]\nuse = \"plain\"\nsecond = { use = \"plane\" }\n");
    assert_eq!((at.as_str(), error.contains("plane")), ("\"plane\"", true), "{error}");
    let (at, error, _) = refused(
        "[[method]]\nuse = \"plain\"\nsecond = { use = \"zlattice\", params = { parts = 5 } }\n",
    );
    assert_eq!(at, "5", "{error}");
}

#[test]
fn a_combination_that_cannot_be_is_skipped_with_its_reason() {
    let grids = grids("[[method]]\nuse = \"zlattice\"\nparams.parts = [4, 5]\n").unwrap();
    assert_eq!(labels(&grids), ["parts=4 bits=8"]);
    let skip = Skip {
        dataset: GAUSS.into(),
        method: "zlattice".into(),
        what: "parts=5".into(),
        reason: "parts: 5 does not divide d = 16".into(),
    };
    assert_eq!(grids.skips, [skip]);
}

#[test]
fn what_the_sweep_excludes_is_skipped_and_said_so() {
    let rest = "[[method]]\nuse = \"zlattice\"\nparams.parts = [2, 4]\nparams.bits = [4, 8]\n\
                exclude = [{ parts = 2, bits = 4 }, { parts = 4, bits = 8 }]\n";
    let grids = grids(rest).unwrap();
    assert_eq!(labels(&grids), ["parts=2 bits=8", "parts=4 bits=4"]);
    assert!(grids.skips.iter().all(|skip| skip.reason == "excluded by the sweep"));
    assert_eq!(grids.skips[0].what, "bits=4 parts=2");
    // Of nothing that is left, the sweep is told.
    let rest = "[[method]]\nuse = \"zlattice\"\nparams.parts = 2\nexclude = [{ parts = 2 }]\n";
    let (at, error, help) = refused(rest);
    assert_eq!(at, "\"zlattice\"");
    assert_eq!(error, "zlattice has no valid configuration on `gauss` (d = 16)");
    assert!(help.starts_with("excluded by the sweep\n"), "{help}");
}

#[test]
fn a_rate_asks_the_generator_once_each() {
    let rest = "[[method]]\nuse = \"zlattice\"\nbits_per_dim = [1, 2]\n";
    let sweep = sweep(rest);
    let catalog = catalog();
    let chosen = choose(&sweep, &catalog).unwrap();
    let asked = requests(&sweep, &chosen, &shapes(&sweep)).unwrap();
    let rates: Vec<_> = asked[0].requests.iter().map(|request| request.bits_per_dim).collect();
    assert_eq!(rates, [Some(1.0), Some(2.0)]);
    // Four parts of 4 bits are 2 bytes, of 3 bits as well.
    let grids = grids(rest).unwrap();
    assert_eq!(labels(&grids), ["bits=3", "bits=4", "bits=7", "bits=8"]);
    let rates: Vec<_> = grids.candidates.iter().filter_map(|of| of.bits_per_dim).collect();
    assert_eq!(rates, [1.0, 1.0, 2.0, 2.0]);
}

/// Labels with their methods.
fn titles(grids: &Grids) -> Vec<String> {
    let title = |of: &Candidate| format!("{} {} {}", of.dataset_name, of.method.id, of.label);
    grids.candidates.iter().map(title).collect()
}

#[test]
fn a_rate_of_the_sweep_takes_the_first_configuration_of_each_method() {
    let rates = "[sweep]\nbits_per_dim = [1, 2]\n";
    let first = grids(&format!("[[method]]\nuse = \"zlattice\"\n{rates}")).unwrap();
    assert_eq!(labels(&first), ["bits=3", "bits=7"]);
    // Whoever names parameters, or rates, wants all that meet them.
    let named = "[[method]]\nuse = \"zlattice\"\nparams.parts = 4\n";
    let all = grids(&format!("{named}{rates}")).unwrap();
    let widths = ["bits=3", "bits=4", "bits=7", "bits=8"].map(|bits| format!("parts=4 {bits}"));
    assert_eq!(labels(&all), widths);
    let own = format!("[[method]]\nuse = \"zlattice\"\nbits_per_dim = 2\n{rates}");
    assert_eq!(labels(&grids(&own).unwrap()), ["bits=7", "bits=8"]);
}

#[test]
fn a_star_is_every_method_found_and_what_cannot_be_is_skipped() {
    let all = grids("[[method]]\nuse = \"*\"\n").unwrap();
    assert_eq!(titles(&all), ["gauss zlattice bits=4", "gauss zlattice bits=8", "gauss plain "]);
    // `plain` stores half a bit for each dimension, and nothing else.
    let rates = "[[method]]\nuse = \"*\"\nbits_per_dim = [0.5, 2]\n";
    let at_rates = grids(rates).unwrap();
    assert_eq!(
        titles(&at_rates),
        ["gauss zlattice bits=1", "gauss zlattice bits=7", "gauss plain "]
    );
    let [skip] = at_rates.skips.as_slice() else { panic!("{:?}", at_rates.skips) };
    assert_eq!((&*skip.method, &*skip.what), ("plain", "2 bits/dim"));
}

#[test]
fn a_method_of_its_own_replaces_what_a_star_says_of_it() {
    let star = "[[method]]\nuse = \"*\"\n";
    let own = "[[method]]\nuse = \"zlattice\"\nparams.bits = 2\n";
    let grids = grids(&format!("{star}{own}")).unwrap();
    assert_eq!(titles(&grids), ["gauss plain ", "gauss zlattice bits=2"]);
    // Only where it runs.
    let twin = "[[dataset]]\nname = \"twin\"\n\
                synthetic = { kind = \"gaussian\", n = 600, dim = 16, seed = 2 }\n\
                queries = { hold_out = 20 }\n";
    let grids = self::grids(&format!("{twin}{star}{own}datasets = [\"twin\"]\n")).unwrap();
    let of_gauss = titles(&grids).into_iter().filter(|title| title.starts_with(GAUSS));
    assert_eq!(of_gauss.count(), 3);
    assert_eq!(titles(&grids)[3..], ["twin plain ", "twin zlattice bits=2"]);
}

#[test]
fn a_star_leaves_out_what_two_files_offer() {
    let mut catalog = catalog();
    let twin = library(
        "/none/libtwin.so".into(),
        "2f",
        vec![catalog.libraries[0].about.methods[1].clone()],
    );
    catalog.libraries.push(twin);
    let sweep = sweep("[[method]]\nuse = \"*\"\n");
    let grids = grids_of(&sweep, &catalog).unwrap();
    assert_eq!(titles(&grids), ["gauss zlattice bits=4", "gauss zlattice bits=8"]);
    let reason = "/none/libzlattice.so and /none/libtwin.so both offer the method `plain`";
    assert_eq!((&*grids.skips[0].method, &*grids.skips[0].reason), ("plain", reason));
}

#[test]
fn a_star_that_nothing_answers_is_an_error() {
    let (at, error, help) = refused("[[method]]\nuse = \"*\"\nbits_per_dim = 99\n");
    assert_eq!(at, "\"*\"");
    assert_eq!(error, "no method has a valid configuration on `gauss` (d = 16)");
    assert!(help.starts_with("zlattice: no configuration"), "{help}");
    let sweep = sweep("[[method]]\nuse = \"*\"\n");
    let (at, error, _) = said(&sweep, &grids_of(&sweep, &Catalog::default()).unwrap_err());
    assert_eq!((&*at, &*error), ("\"*\"", "there is no method at all"));
}

#[test]
fn a_rate_that_cannot_be_points_at_the_rate() {
    let (at, error, help) = refused("[[method]]\nuse = \"zlattice\"\nbits_per_dim = [99]\n");
    assert_eq!(at, "99");
    assert!(error.contains("no valid configuration"), "{error}");
    assert!(help.starts_with("its grid generator offered nothing"), "{help}");
}

#[test]
fn an_impossible_grid_points_at_the_parameter_that_all_reasons_name() {
    let (at, error, help) = refused("[[method]]\nuse = \"zlattice\"\nparams.parts = [3, 5]\n");
    assert_eq!(at, "[3, 5]");
    assert_eq!(error, "zlattice has no valid configuration on `gauss` (d = 16)");
    let reasons = "parts: 3 does not divide d = 16\nparts: 5 does not divide d = 16\n";
    assert!(help.starts_with(reasons), "{help}");
}

#[test]
fn each_seed_makes_a_cell_of_its_own() {
    let rest = "[[method]]\nuse = \"zlattice\"\n[sweep]\nseeds = [3, 1]\n";
    let sweep = sweep(rest);
    let plan = grids_of(&sweep, &catalog()).unwrap().into_plan(&sweep, &["d1"]);
    let titles: Vec<_> = plan.cells.iter().map(Cell::title).collect();
    let expected = [
        "gauss zlattice bits=4 seed=3",
        "gauss zlattice bits=4 seed=1",
        "gauss zlattice bits=8 seed=3",
        "gauss zlattice bits=8 seed=1",
    ];
    assert_eq!(titles, expected);
    let mut keys: Vec<_> = plan.cells.iter().map(|cell| &cell.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}

#[test]
fn two_blocks_that_ask_for_one_configuration_make_one_cell() {
    let block = "[[method]]\nuse = \"zlattice\"\nparams.bits = 8\n";
    assert_eq!(labels(&grids(&format!("{block}{block}")).unwrap()), ["bits=8"]);
    // The default grid has it too.
    let grid = "[[method]]\nuse = \"zlattice\"\n";
    assert_eq!(labels(&grids(&format!("{block}{grid}")).unwrap()), ["bits=8", "bits=4"]);
}

#[test]
fn data_sets_of_one_content_share_keys_and_keep_their_cells() {
    let twin = "[[dataset]]\nname = \"twin\"\n\
                synthetic = { kind = \"gaussian\", n = 600, dim = 16, seed = 1 }\n\
                queries = { hold_out = 20 }\n[[method]]\nuse = \"plain\"\n";
    let sweep = sweep(twin);
    let plan = grids_of(&sweep, &catalog()).unwrap().into_plan(&sweep, &["one", "one"]);
    let [first, second] = plan.cells.as_slice() else { panic!("two cells") };
    assert_eq!(first.key, second.key);
    assert_eq!([&*first.dataset_name, &*second.dataset_name], [GAUSS, "twin"]);
    let named = [(GAUSS, "one"), ("other", "two"), ("twin", "one")];
    assert_eq!(same_contents(named), [(GAUSS, "twin")]);
    // A block may name the data sets that it runs on.
    let only = self::sweep(&format!("{twin}datasets = [\"twin\"]\n"));
    let grids = grids_of(&only, &catalog()).unwrap();
    assert_eq!(grids.candidates.len(), 1);
    assert_eq!(grids.candidates[0].dataset, 1);
}

#[test]
fn the_key_follows_data_configuration_seed_evaluation_and_library_alone() {
    let key = |rest: &str, digest: &str, catalog: &Catalog| {
        let sweep = sweep(rest);
        let plan = grids_of(&sweep, catalog).unwrap().into_plan(&sweep, &[digest]);
        plan.cells[0].key.clone()
    };
    let rest = "[[method]]\nuse = \"zlattice\"\nparams.bits = 8\n";
    let original = key(rest, "d1", &catalog());
    let renamed = format!("[sweep]\nname = \"other\"\n[run]\njobs = 2\n{rest}");
    assert_eq!(key(&renamed, "d1", &catalog()), original);
    let rebuilt = Catalog {
        libraries: vec![library(
            "/none/libzlattice.so".into(),
            "2f",
            catalog().libraries[0].about.methods.clone(),
        )],
        ..Catalog::default()
    };
    for other in [
        key(rest, "d2", &catalog()),
        key(&rest.replace('8', "4"), "d1", &catalog()),
        key(&format!("[sweep]\nseeds = [7]\n{rest}"), "d1", &catalog()),
        key(&format!("[evaluate]\nk = [3]\n{rest}"), "d1", &catalog()),
        key(rest, "d1", &rebuilt),
    ] {
        assert_ne!(other, original);
    }
}

#[test]
fn an_unknown_parameter_points_at_its_toml_key() {
    let (at, error, help) = refused("[[method]]\nuse = \"zlattice\"\nparams.part = 4\n");
    assert_eq!(at, "part");
    assert_eq!(error, "zlattice has no parameter `part`");
    assert_eq!(help, "did you mean `parts`? zlattice knows: parts, bits");
    let (at, error, help) = refused("[[method]]\nuse = \"plain\"\nparams.part = 4\n");
    assert_eq!((&*at, &*error), ("part", "plain has no parameter `part`"));
    assert_eq!(help, "plain has no parameters");
    let rest = "[[method]]\nuse = \"zlattice\"\nexclude = [{ bit = 4 }]\n";
    let (at, error, _) = refused(rest);
    assert_eq!((&*at, &*error), ("bit", "zlattice has no parameter `bit`"));
}

#[test]
fn a_value_that_the_schema_forbids_points_at_the_value() {
    let (at, error, help) = refused("[[method]]\nuse = \"zlattice\"\nparams.bits = [4, 17]\n");
    assert_eq!(at, "17");
    assert!(error.starts_with("bits: "), "{error}");
    assert_eq!(help, "bits is an int from 1 to 16");
}

#[test]
fn a_method_that_nobody_offers_points_at_its_id() {
    let (at, error, help) = refused("[[method]]\nuse = \"zlatice\"\n");
    assert_eq!(at, "\"zlatice\"");
    assert_eq!(error, "no plugin offers the method `zlatice`");
    assert_eq!(help, "did you mean `zlattice`? found are: zlattice, plain");
    let pin = "0".repeat(64);
    let (at, error, _) = refused(&format!("[[method]]\nuse = \"plain\"\ndigest = \"{pin}\"\n"));
    assert_eq!(at, format!("\"{pin}\""));
    assert_eq!(error, "/none/libzlattice.so is not the pinned file");
}
