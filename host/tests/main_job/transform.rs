//! Rows that are transformed before methods see them, from the sweep to what is told of it.

use std::collections::BTreeMap;

use vq_host::record::Record;

use crate::fixture::{Site, shipped, sweep, timeless};

fn site(methods: &str) -> Site {
    let site = Site::with(&["cast", "sq"].map(|name| shipped()[name].clone()));
    site.write("s.toml", &sweep("[1]", methods));
    site
}

fn by_label(site: &Site) -> BTreeMap<String, Record> {
    site.records().into_iter().map(|record| (record.label.clone(), record)).collect()
}

/// Row i is the first 16 of which each dimension has half the variance of the one before, as of an
/// embedding that may be cut short.
fn matryoshka(site: &Site) {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    let (n, d) = (1200_u32, 16_u32);
    let mut bytes: Vec<u8> = [n, d].into_iter().flat_map(u32::to_le_bytes).collect();
    for _ in 0..n {
        for t in 0..d {
            let value = uniform() * 0.5_f32.powf(t as f32 / 2.0) + 3.0;
            bytes.extend(value.to_le_bytes());
        }
    }
    std::fs::write(site.path("m.fbin"), bytes).expect("a writable folder");
}

#[test]
fn a_lossless_code_of_turned_rows_finds_all_and_one_of_fewer_dimensions_what_they_have() {
    for metric in ["l2", "ip", "cosine"] {
        let methods = "[[method]]\nuse = \"cast\"\nparams.type = \"f32\"\ntransform = [[], [\"rotate\"], \
             [\"centre\", \"rotate\"], [{ truncate = 8 }], [{ truncate = 3 }], [{ pca = 3 }]]\n";
        let site = site(methods);
        matryoshka(&site);
        let synthetic = "synthetic = { kind = \"gaussian\", n = 600, dim = 16, seed = 1 }";
        let file = format!("base = \"m.fbin\"\nmetric = \"{metric}\"");
        site.write("s.toml", &sweep("[1]", methods).replace(synthetic, &file));
        site.vq(&["run", "s.toml"]).expect_code(0);
        let of = by_label(&site);
        let value = |label: &str, name: &str| of[label].value(name).expect(name);
        let recall = |label: &str| value(label, "recall@10");
        for all in ["type=f32", "type=f32 after rotate", "type=f32 after centre rotate"] {
            assert!(recall(all) > 0.995, "{metric} {all}: {}", recall(all));
            assert!((value(all, "slope") - 1.0).abs() < 1e-3 && value(all, "bias").abs() < 1e-3);
        }
        let [eight, three] = [8, 3].map(|k| format!("type=f32 after truncate={k}"));
        assert!(recall(&eight) > recall(&three), "{metric}: {} {}", recall(&eight), recall(&three));
        // Of variances that halve, 2^-k is in the dimensions beyond.
        if metric != "cosine" {
            for (label, k) in [(&eight, 8), (&three, 3)] {
                let lost = value(label, "relative_error") / 0.5_f64.powi(k);
                assert!((lost - 1.0).abs() < 0.2, "{metric} {label}: {lost}");
            }
        }
        let principal = "type=f32 after pca=3";
        let error = |label: &str| value(label, "relative_error");
        assert!(error(principal) < 1.05 * error(&three));
        // Everything counts against all 16 dimensions.
        assert_eq!(value(&eight, "bits_per_dim"), 16.0);
        assert_eq!(value(principal, "model_bytes"), f64::from(4 * 16 * 4));
        assert_eq!(value("type=f32", "ratio_source"), 1.0);
    }
}

#[test]
fn a_chain_is_told_by_plan_and_part_of_the_key_and_a_cell_without_one_is_what_it_was() {
    let plain = "[[method]]\nuse = \"sq\"\nbits_per_dim = 2\n";
    let site = site(plain);
    site.vq(&["run", "s.toml"]).expect_code(0);
    let before = site.records();
    // As the data set has it, and replaced by the method's own.
    let chained = format!("{plain}transform = [[], [\"centre\", {{ pca = 5 }}]]\n");
    let chained =
        sweep("[1]", &chained).replace("queries =", "transform = [\"rotate\"]\nqueries =");
    site.write("s.toml", &chained);
    let planned = site.vq(&["plan", "s.toml", "--format", "json"]).expect_code(0).json();
    let chain = serde_json::json!(["centre", { "pca": 5 }]);
    let cell = &planned["cells"][1];
    assert_eq!(cell["params"]["transform"], chain);
    // 4 bytes for 16 dimensions are 6 bits for 5 of them.
    assert_eq!(cell["label"], "bits=6 after centre pca=5");
    assert_eq!(planned["cells"][0]["state"], "done: ok");
    // What the method sees of d.
    let table = site.vq(&["plan", "s.toml"]).expect_code(0).stdout;
    let row = |of: &str| {
        let found = table.lines().find(|line| line.contains(of));
        found.unwrap_or_else(|| panic!("{of} in {table}")).to_owned()
    };
    assert!(row("pca=5").contains(" 16 → 5 ") && row("done: ok").contains(" 16 "), "{table}");
    assert!(!row("done: ok").contains('→'), "{table}");
    site.vq(&["run", "s.toml"]).expect_code(0).says("[1/1]");
    site.vq(&["run", "s.toml"]).expect_code(0).says("all 2 cells are done");
    let after = site.records();
    assert_eq!((before.len(), after.len()), (1, 2));
    let same = after.iter().find(|record| record.key == before[0].key).expect("the first cell");
    assert_eq!(timeless(same), timeless(&before[0]));
    // Two stores of halves are one of both.
    site.vq(&["merge", "both.db", "results.db"]).expect_code(0);
    assert_eq!(site.records_of("both.db").len(), 2);
    // A data set's own chain, where a method says nothing.
    site.write("s.toml", &chained.replace("transform = [[], [\"centre\", { pca = 5 }]]\n", ""));
    let planned = site.vq(&["plan", "s.toml", "--format", "json"]).expect_code(0).json();
    assert_eq!(planned["cells"][0]["label"], "bits=2 after rotate");
    assert!(!site.vq(&["plan", "s.toml"]).expect_code(0).stdout.contains("dims"), "none is lost");
}

#[test]
fn one_dimension_and_rows_without_a_direction_are_measured() {
    let methods = "[[method]]\nuse = \"sq\"\nparams.bits = 8\ntransform = [[\"centre\", \"normalise\"], \
         [{ pca = 1 }, \"rotate\", \"normalise\"], [{ truncate = 1 }]]\n";
    let site = site(methods);
    // All rows are equal: nothing is left of them about their mean.
    let row: Vec<u8> = [1.5_f32, -2.0, 0.25].into_iter().flat_map(f32::to_le_bytes).collect();
    let mut bytes: Vec<u8> = [60_u32, 3].into_iter().flat_map(u32::to_le_bytes).collect();
    (0..60).for_each(|_| bytes.extend(&row));
    std::fs::write(site.path("same.fbin"), bytes).expect("a writable folder");
    let synthetic = "synthetic = { kind = \"gaussian\", n = 600, dim = 16, seed = 1 }";
    for metric in ["l2", "ip", "cosine"] {
        let file = format!("base = \"same.fbin\"\nmetric = \"{metric}\"");
        site.write("s.toml", &sweep("[1]", methods).replace(synthetic, &file));
        site.vq(&["run", "s.toml"]).expect_code(0);
    }
    let records = site.records();
    assert_eq!(records.len(), 9);
    for record in records {
        assert_eq!(record.value("recall@10"), Some(1.0), "{} {}", record.metric, record.label);
    }
}
