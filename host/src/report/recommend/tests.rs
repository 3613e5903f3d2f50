use super::*;
use crate::record::tests::sample;
use crate::record::{MetricValue, Proof, QueryRecalls};
use crate::report::{Style, columns};

/// What each of 500 queries found of its 10: 10, and `misses` of them 5.
fn recalls(misses: usize) -> QueryRecalls {
    let hits = (0..500).map(|query| if query < misses { 5 } else { 10 });
    QueryRecalls::new(10, hits.collect()).unwrap()
}

/// A code of `bits` per dimension, of whose 500 queries `misses` found half.
fn code(method: &str, label: &str, bits: f64, misses: usize) -> Record {
    let recall = 1.0 - misses as f64 / 1000.0;
    let again = 1.0 - misses as f64 / 4000.0;
    let mut record = sample(
        method,
        label,
        &[
            ("bits_per_dim", bits),
            ("code_bytes", bits * 12.5),
            ("model_bytes", 0.0),
            ("recall@10", recall),
            ("compress_vectors_per_s", 1e6 / bits),
        ],
    );
    let error = Some(0.25 * (misses as f64).sqrt() / 1000.0);
    record.metrics.push(MetricValue::with_error("recall@10/rerank=4", again, error).unwrap());
    record.recalls = vec![recalls(misses)];
    record
}

fn question() -> Question {
    Question { recall: 0.95, k: 10, rerank: None, max_bits: None, min_encode: None, rows: None }
}

fn label(pick: &Option<Pick>) -> Option<&str> {
    pick.as_ref().map(|pick| pick.label.as_str())
}

fn labels(answer: &Answer) -> [Option<&str>; 3] {
    [&answer.smallest, &answer.runner_up, &answer.closest].map(label)
}

fn asked(records: &[Record], question: &Question) -> Answer {
    recommend(records, question).datasets.remove(0)
}

#[test]
fn what_is_taken_from_a_record_changes_no_answer_and_parts_give_the_answer_of_all() {
    let mut all = records();
    let mut elsewhere = records();
    elsewhere.iter_mut().for_each(|record| record.dataset.name = "elsewhere".to_owned());
    for rerank in [None, Some(4)] {
        let question = Question { rerank, ..question() };
        let whole = recommend(&[&all[..], &elsewhere].concat(), &question);
        assert!(whole.across.is_some() && whole.datasets[1].smallest.is_some());
        let mut answering = Answering::new(question.clone());
        // In any order.
        for part in [&all, &elsewhere] {
            let mut part = part.clone();
            part.iter_mut().for_each(|record| question.trim(record));
            assert!(part.iter().all(|record| record.metrics.len() == 5));
            answering.add(&part);
        }
        assert_eq!(answering.end(), whole);
        std::mem::swap(&mut all, &mut elsewhere);
    }
}

fn records() -> Vec<Record> {
    vec![
        code("a", "poor", 1.0, 300),
        // 0.96 on average, and not surely 0.95.
        code("a", "lucky", 2.0, 40),
        code("a", "good", 3.0, 30),
        code("b", "larger", 4.0, 10),
        code("a", "next", 3.5, 10),
    ]
}

#[test]
fn the_smallest_is_surely_good_enough_and_not_only_on_average() {
    let records = records();
    let answer = asked(&records, &question());
    assert_eq!(labels(&answer), [Some("good"), Some("larger"), None], "another method is next");
    let pick = answer.smallest.unwrap();
    assert_eq!(pick.keys, [records[2].key.clone()]);
    assert!((pick.recall - 0.97).abs() < 1e-12 && pick.at_least < 0.97 && pick.at_least > 0.955);
    assert_eq!((answer.configurations, answer.not_proven_or_weighed), (5, 0));
    assert_eq!(label(&answer.undecided), Some("lucky"), "more queries may prove it");
}

#[test]
fn one_file_in_two_pythons_is_two_methods_at_every_size() {
    let [mut here, mut smaller] = [30, 10].map(|misses| code("a", "good", 3.0, misses));
    smaller.dataset.name = format!("{}@{}", smaller.dataset.name, 1000);
    smaller.dataset.n = 1000;
    let points = |records: &[Record]| {
        asked(records, &question()).smallest.unwrap().growth.map(|growth| growth.points.len())
    };
    assert_eq!(points(&[here.clone(), smaller.clone()]), Some(2));
    here.method.needs_digest = Some("numpy 2".to_owned());
    assert_eq!(points(&[here, smaller]), None);
}

#[test]
fn undecided_is_what_is_smaller_and_good_enough_on_average() {
    let undecided =
        |records: &[Record]| label(&asked(records, &question()).undecided).map(str::to_owned);
    // Hardly smaller than "good".
    assert_eq!(undecided(&[code("a", "lucky", 2.9, 40), code("a", "good", 3.0, 30)]), None);
    assert_eq!(undecided(&[code("a", "good", 3.0, 30), code("a", "lucky", 4.0, 40)]), None);
    assert_eq!(undecided(&[code("a", "poor", 1.0, 51), code("a", "good", 3.0, 30)]), None);
    // Where nothing is sure, the closest is told.
    assert_eq!(undecided(&[code("a", "lucky", 2.0, 40)]), None);
}

#[test]
fn ranking_again_answers_with_a_smaller_code_and_counts_the_originals() {
    let again = Question { rerank: Some(4), rows: Some(1e6), ..question() };
    let pick = asked(&records(), &again).smallest.unwrap();
    assert_eq!(pick.label, "lucky");
    assert_eq!((pick.total_bytes, pick.original_bytes), (25e6, Some(4e8)));
    let other = Question { rerank: Some(2), ..question() };
    let answer = asked(&records(), &other);
    assert_eq!((answer.configurations, answer.without_the_metric), (0, 5));
}

#[test]
fn a_model_is_shared_among_the_rows_that_will_be_stored() {
    let mut records = records();
    // One bit for each value of 10,000 × 100, a hundredth of that for a million rows.
    records[2].metrics.push(MetricValue::new("model_saved_bytes", 125_000.0).unwrap());
    let rate = |rows| {
        let question = Question { rows, ..question() };
        let answer = asked(&records, &question);
        (answer.smallest.map(|pick| (pick.label, pick.rate)), label(&answer.runner_up).is_some())
    };
    assert_eq!(rate(None), (Some(("next".to_owned(), 3.5)), true));
    assert_eq!(rate(Some(1e6)), (Some(("good".to_owned(), 3.01)), true));
}

#[test]
fn limits_are_kept_and_where_nothing_keeps_them_the_nearest_is_told() {
    let small = Question { max_bits: Some(2.5), ..question() };
    assert_eq!(labels(&asked(&records(), &small)), [None, None, Some("lucky")]);
    let fast = Question { min_encode: Some(3e5), ..question() };
    let answer = asked(&records(), &fast);
    assert_eq!(labels(&answer), [Some("good"), None, None]);
    let all = Question { recall: 0.999, ..question() };
    assert_eq!(labels(&asked(&records(), &all))[2], Some("next"));
}

#[test]
fn what_is_unproven_or_unweighed_is_never_recommended() {
    let mut records = records();
    records[2].proof = Some(Proof::Unproven { reason: "no sandbox".to_owned() });
    records[3].method.needs_training = Some(true);
    records[3].metrics.retain(|metric| metric.name() != "model_bytes");
    let answer = asked(&records, &question());
    assert_eq!(labels(&answer), [Some("next"), None, None]);
    assert_eq!(answer.not_proven_or_weighed, 2);
    let none = Question { recall: 0.999, ..question() };
    records.retain(|record| ["good", "larger"].contains(&record.label.as_str()));
    assert_eq!(labels(&asked(&records, &none)), [None; 3]);
}

#[test]
fn seeds_that_differ_make_an_answer_less_sure() {
    let mut records = records();
    let mut other = code("a", "good", 3.0, 5);
    other.seed = 7;
    records.push(other);
    // 0.97 and 0.995: the mean is better, and what a third seed gives is anybody's guess.
    let answer = asked(&records, &question());
    assert_eq!(labels(&answer)[0], Some("next"));
}

#[test]
fn the_worst_data_set_decides_for_all() {
    let mut records = records();
    let harder: Vec<Record> = [code("a", "good", 3.0, 100), code("b", "larger", 4.0, 20)]
        .into_iter()
        .map(|mut record| {
            record.dataset.name = "harder".to_owned();
            record.dataset.digest = "d2".to_owned();
            record
        })
        .collect();
    assert_eq!(recommend(&records, &question()).across, None);
    records.extend(harder);
    let recommendation = recommend(&records, &question());
    assert_eq!(recommendation.datasets.len(), 2);
    let across = recommendation.across.unwrap();
    assert_eq!(across.configurations, 2, "what both have");
    let pick = across.smallest.unwrap();
    assert_eq!((&*pick.label, &*pick.dataset), ("larger", "harder"));
}

#[test]
fn configurations_that_no_two_data_sets_share_are_said_to_be_apart() {
    let mut records = records();
    let mut other = code("a", "elsewhere", 3.0, 5);
    other.dataset.name = "other".to_owned();
    other.dataset.digest = "d2".to_owned();
    records.push(other);
    let text = drawn(&records, &question());
    let (_, across) = text.split_once("all data sets, by the worst of them").expect("across");
    assert!(across.contains("no configuration has recall@10 on all of them"), "{text}");
}

/// The code `good` and `next` among fewer rows of the same data set.
fn sizes() -> Vec<Record> {
    let mut records = records();
    for (n, good, next) in [(2500, 8, 8), (5000, 15, 9)] {
        for (label, bits, misses) in [("good", 3.0, good), ("next", 3.5, next)] {
            let mut record = code("a", label, bits, misses);
            record.dataset.name = format!("glove@{n}");
            record.dataset.digest = format!("d{n}");
            record.key = format!("{label} among {n}");
            record.dataset.n = n;
            records.push(record);
        }
    }
    records
}

#[test]
fn several_sizes_of_a_data_set_are_one_answer_and_its_trend() {
    let question = Question { rows: Some(40_000.0), ..question() };
    let recommendation = recommend(&sizes(), &question);
    let [answer] = recommendation.datasets.as_slice() else { panic!("one data set") };
    assert_eq!(recommendation.across, None);
    assert_eq!(labels(answer)[0], Some("good"));
    let growth = answer.smallest.as_ref().unwrap().growth.as_ref().unwrap();
    let rows: Vec<u64> = growth.points.iter().map(|point| point.rows).collect();
    assert_eq!(rows, [2500, 5000, 10_000]);
    let predicted = growth.predicted.unwrap();
    assert!(predicted.recall < 0.93 && predicted.at_least < 0.9, "{predicted:?}");
    // It falls, and the other one stays: that one holds.
    assert_eq!(label(&answer.smallest_when_grown), Some("next"));
}

fn drawn(records: &[Record], question: &Question) -> String {
    let mut out = Vec::new();
    let style = Style { width: 80, color: false };
    let recommendation = recommend(records, question);
    write_recommendation(&recommendation, style, &mut out).unwrap();
    write_reproduction(&recommendation, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_not_transformed_says_so_where_others_are() {
    let mut records = records();
    let text = drawn(&records, &question());
    assert!(!text.contains("transform"), "{text}");
    // Of another data set, whose codes are no picks of the first.
    let mut other = code("a", "turned", 30.0, 10);
    other.params = serde_json::json!({ "transform": ["rotate"] });
    other.dataset.name = "other".to_owned();
    records.push(other);
    let text = drawn(&records, &question());
    assert!(
        text.contains("transform = []") && text.contains(r#"transform = ["rotate"]"#),
        "{text}"
    );
}

#[test]
fn an_answer_tells_the_names_that_it_is_given() {
    let mut recommendation = recommend(&records(), &question());
    recommendation.name(|pick| vec![("Else".to_owned(), format!("CODE-{}", pick.label))]);
    let mut out = Vec::new();
    let style = Style { width: 80, color: false };
    write_recommendation(&recommendation, style, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("a good elsewhere: CODE-good (Else)"), "{text}");
}

#[test]
fn the_answer_fits_a_terminal_and_says_what_it_costs() {
    let again = Question { rows: Some(80_000.0), rerank: Some(4), ..question() };
    let text = drawn(&sizes(), &again);
    assert!(text.lines().all(|line| columns(line) <= 80), "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "recall@10 ≥ 0.95 with the best 4·10 ranked again, for 80 k vectors",
        "80 k vectors: 2.00 MB, of which codes 2.00 MB and model 0 bytes; ranking again reads the \
         originals, 32.0 MB in f32",
        "by 500 queries and 1 seed",
        "chosen from 5 configurations",
    ] {
        assert!(flat.contains(part), "no `{part}` in:\n{text}");
    }
    let key = &sizes()[1].key.clone();
    assert!(text.contains(&format!("# seed 42: {key}\nuse = \"a\"\nparams.label = \"lucky\"")));
    let nothing = drawn(&records(), &Question { recall: 0.999, ..question() });
    assert!(nothing.contains("nothing reaches it"), "{nothing}");
    assert!(nothing.contains("what it lacks: its recall is not surely 0.999 or more"), "{nothing}");
    assert!(drawn(&[], &question()).contains("nothing to recommend"));
}

#[test]
fn every_number_of_an_answer_has_the_keys_of_its_records_beside_it() {
    let records = sizes();
    let again = Question { rows: Some(80_000.0), rerank: Some(4), ..question() };
    let out_of_reach = Question { recall: 0.9999, ..question() };
    for question in [question(), again, out_of_reach] {
        let text = drawn(&records, &question);
        let answer = asked(&records, &question);
        assert!(!answer.picks().is_empty(), "{question:?}");
        for (role, pick) in answer.picks() {
            let points = pick.growth.iter().flat_map(|growth| &growth.points);
            let keys: Vec<&String> = points.flat_map(|of| &of.keys).chain(&pick.keys).collect();
            for key in keys {
                let of = records.iter().find(|record| record.key == *key);
                assert!(of.is_some_and(|of| of.label == pick.label), "{role}: no record {key}");
                assert!(text.contains(key.as_str()), "{role}: no {key} in\n{text}");
            }
        }
    }
}
