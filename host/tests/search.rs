//! A method's own search: what it finds is measured, and one that breaks its promises is found out.

#[expect(dead_code, unused_imports, reason = "the fixture serves other targets as well")]
mod fixture;

use fixture::build::compile_c;
use fixture::{Site, sweep, workspace};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use vq_host::record::{Outcome, Record};

/// `examples/c-sq8` with `edits`; none without a C compiler, which is said then.
fn edited(name: &str, edits: &[(&str, &str)]) -> Option<PathBuf> {
    let source = workspace().join("examples/c-sq8/c_sq8.c");
    let source = fs::read_to_string(source).expect("the example's source");
    let edit = |text: String, (old, new): &(&str, &str)| {
        assert!(text.contains(old), "c_sq8.c no longer says `{old}`: adapt the test");
        text.replace(old, new)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(format!("{name}.c"));
    fs::write(&file, edits.iter().fold(source, edit)).expect("a writable folder");
    compile_c(&file, &workspace().join("plugin-api/include"), &format!("libvq_{name}"))
}

/// The one record that a run with `edits` ends with.
fn record(name: &str, edits: &[(&str, &str)]) -> Option<Record> {
    let site = Site::with(&[edited(name, edits)?]);
    let methods = "[[method]]\nuse = \"c_sq8\"\nparams.clip = 1.0\n";
    site.write("s.toml", &sweep("[1]", methods));
    let _ = site.vq(&["run", "s.toml"]);
    let mut records = site.records();
    assert_eq!(records.len(), 1, "{records:?}");
    records.pop()
}

fn values(record: &Record) -> BTreeMap<String, f64> {
    record.metrics.iter().map(|m| (m.name().to_owned(), m.value())).collect()
}

/// The line of the example that writes an estimate into its place.
const KEPT: &str = "if (place < k) best[place] = now, ids[place] = i;\n  }";

#[test]
fn a_search_that_ranks_estimates_finds_what_they_rank() {
    let Some(record) = record("searches", &[]) else { return };
    assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
    let of = values(&record);
    assert!(of["search_codes_per_s"] > 0.0);
    assert!(of["search_compared"] > 0.0);
    let searched: Vec<_> = of.iter().filter(|(name, _)| name.ends_with("/search")).collect();
    assert!(searched.len() >= 2, "{of:?}");
    for (name, value) in searched {
        let plain = name.strip_suffix("/search").expect("it ends so");
        assert_eq!(of[plain], *value, "{name}");
    }
}

/// Works for 20 ms on a query that it does not know: on a busy machine a call waits for some of them.
const THINKS: &str = r#"#include <time.h>
static uint64_t given[4096];
static void think(vq_mat queries) {
  for (size_t q = 0; q < queries.rows; q++) {
    uint64_t sum = 1;
    const uint8_t *bytes = (const uint8_t *)(queries.data + q * queries.row_stride);
    for (size_t i = 0; i < queries.dim * sizeof(float); i++) sum = (sum ^ bytes[i]) * 0x100000001B3;
    uint64_t *at = &given[(sum >> 32) % 4096];
    for (clock_t from = clock(); *at != sum && clock() - from < CLOCKS_PER_SEC / 50;) continue;
    *at = sum;
  }
}
"#;

/// For queries that were asked before, it is fast.
#[test]
fn what_is_answered_from_memory_counts_as_long_as_what_is_new() {
    let scores = "static vq_rc score(";
    let at_score = "struct ask ask = {self, queries, codes, n, 0, NULL, estimates};";
    let at_search =
        "struct ask ask = {self, queries, packed, n, k, ids, {estimates, queries.rows, k, k}};";
    let offers = "memcmp(id.ptr, VQ_SEARCH_V1, id.len) == 0)";
    let (thinks, score) = (format!("{THINKS}{scores}"), format!("{at_score} think(queries);"));
    let (search, none) =
        (format!("{at_search} think(queries);"), format!("{offers} return NULL; else if (0)"));
    let acts = [
        ("honest", "search", vec![]),
        ("search", "search", vec![(scores, &*thinks), (at_search, &*search)]),
        ("score", "score", vec![(scores, &*thinks), (at_score, &*score), (offers, &*none)]),
    ];
    for (act, function, edits) in acts {
        let Some(plugin) = edited(&format!("remembers_{act}"), &edits) else { return };
        let site = Site::with(&[plugin]);
        let of = sweep("[1]", "[[method]]\nuse = \"c_sq8\"\nparams.clip = 1.0\n");
        let of = of.replace("repeats = 1", "repeats = 1\nmetrics = [\"latency\"]");
        site.write("s.toml", &of.replace("hold_out = 20", "hold_out = 40"));
        let _ = site.vq(&["run", "s.toml"]);
        let records = site.records();
        assert_eq!((records.len(), records[0].outcome), (1, Outcome::Ok), "{records:?}");
        let (of, notices) = (values(&records[0]), &records[0].notices);
        let remembers = act != "honest";
        assert_eq!(of.contains_key("latency_p50_s"), !remembers, "{act}: {notices:?}");
        let starts = [format!("{function} took "), "one query that was seen before ".to_owned()];
        for start in starts {
            let told = notices.iter().any(|of| of.starts_with(&start) && of.contains("memory"));
            assert_eq!(told, remembers, "{act}: {notices:?}");
        }
        // There are fewer codes.
        let fastest = 600.0 / 20e-3;
        let speed = of[&format!("{function}_codes_per_s")];
        assert_eq!(speed < fastest, remembers, "{act}: {speed} codes per second");
    }
}

#[test]
fn a_search_that_claims_no_ranking_is_judged_by_what_it_finds() {
    let looks = "float now = estimate(ask->self, query, ask->codes + i * ask->self->dim);";
    let skips =
        "float now = i % 2 ? 1e30f : estimate(ask->self, query, ask->codes + i * ask->self->dim);";
    let edits = [(".flags = VQ_SEARCH_RANKS_ESTIMATES, ", ""), (looks, skips)];
    let Some(record) = record("skips", &edits) else { return };
    assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
    let of = values(&record);
    let (all, some) = (of["recall@10"], of["recall@10/search"]);
    assert!(some < 0.7 * all && some > 0.3 * all, "{some} of {all}");
    assert!(!of.contains_key("search_compared"));
}

#[test]
fn what_a_search_may_not_answer_makes_the_cell_invalid() {
    let faults = [
        (
            "beyond",
            (KEPT, "if (place < k) best[place] = now, ids[place] = i + ask->n;\n  }"),
            "holds row",
        ),
        (
            "twice",
            (KEPT, "if (place < k) best[place] = now, ids[place] = i / 2;\n  }"),
            "is found twice",
        ),
        (
            "unsorted",
            (
                KEPT,
                "if (place < k) best[place] = now, ids[place] = i;\n  }\n  if (k > 1 && ask->n > 1) best[1] = best[0] - 1, best[0] = best[0] + 1;",
            ),
            "is nearer than the one before it",
        ),
        (
            "nan",
            (KEPT, "if (place < k) best[place] = now, ids[place] = i;\n  }\n  best[0] = NAN;"),
            "the estimate NaN",
        ),
        (
            "nothing",
            (
                "if (rc == VQ_OK) ctx->parallel_for(ctx->host, queries.rows, search_query, &ask);",
                "(void)search_query, (void)ask, (void)ctx;",
            ),
            "search returned nothing",
        ),
        (
            "other",
            (KEPT, "if (place < k) best[place] = now, ids[place] = i;\n  }\n  best[0] -= 1;"),
            "though it claims to rank them",
        ),
    ];
    for (name, edit, words) in faults {
        let Some(record) = record(name, &[edit]) else { return };
        assert_eq!(record.outcome, Outcome::Invalid, "{name}: {record:?}");
        let error = record.error.as_deref().unwrap_or_default();
        assert!(error.contains(words), "{name}: {error}");
    }
}
