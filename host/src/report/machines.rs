//! One record of each cell, where a store has those of several machines: all speeds that a table
//! compares are of one machine, as far as it has the cells.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::changes::differs;
use super::number;
use crate::record::{Outcome, Record, RunInfo};

const ELSEWHERE: &str = "its times are of another machine than most here: ";
/// Kernels give equal bits on every machine; the system's mathematical functions may not.
const TOLERANCE: f64 = 1e-6;

/// Whether [`one_of_each`] found that times of `record` do not compare with most.
pub(super) fn is_elsewhere(record: &Record) -> bool {
    record.notices.iter().any(|notice| notice.starts_with(ELSEWHERE))
}

/// Of several records of one cell that of the machine which has most of the cells, unless it did not
/// go well there and did elsewhere. Notices tell what else there is: that it failed elsewhere, that
/// another machine found another quality, that its times do not compare with most.
///
/// `runs` says on which machine each record was made. The order of the records stays.
pub fn one_of_each(records: Vec<Record>, runs: &[RunInfo]) -> Vec<Record> {
    let machines: HashMap<&str, (String, &str)> =
        runs.iter().map(|run| (run.run_id.as_str(), (run.machine(), cpu(run)))).collect();
    let machine = |record: &Record| machines.get(record.run_id.as_str()).map(|of| of.0.as_str());
    let Some(most) = most(&records, &machine) else { return records };
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        places.entry(&record.key).or_default().push(at);
    }
    let rank = |at: &usize| {
        let of = &records[*at];
        // What was interrupted says nothing.
        let says = of.outcome != Outcome::Cancelled;
        (of.outcome.is_ok(), says, machine(of) == Some(most), &of.started_at, &of.run_id)
    };
    let mut chosen: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for of_cell in places.values() {
        let Some(best) = of_cell.iter().copied().max_by_key(rank) else { continue };
        let others = of_cell.iter().filter(|at| **at != best).map(|at| &records[*at]);
        let mut notices = Vec::new();
        for other in others {
            let cpu = machines.get(other.run_id.as_str()).map_or("unknown", |of| of.1);
            match other.outcome {
                Outcome::Ok => notices.extend(other_quality(&records[best], other, cpu)),
                Outcome::Cancelled => {}
                outcome => {
                    let why = other.error.as_deref().map(|why| format!(": {why}"));
                    let why = why.unwrap_or_default();
                    notices.push(format!("it was {outcome} on another machine ({cpu}){why}"));
                }
            }
        }
        // Of no record of an unknown machine it is known that it is another.
        if machine(&records[best]).is_some_and(|machine| machine != most) {
            let cpu = machines.get(records[best].run_id.as_str()).map_or("unknown", |of| of.1);
            notices.push(format!("{ELSEWHERE}{cpu}"));
        }
        chosen.insert(best, notices);
    }
    let numbered = records.into_iter().enumerate();
    numbered
        .filter_map(|(at, mut record)| {
            record.notices.extend(chosen.remove(&at)?);
            Some(record)
        })
        .collect()
}

/// A line for each cell of a deterministic method on which two machines do not agree.
pub fn disagreements(records: &[Record], runs: &[RunInfo]) -> Vec<String> {
    let cpus: HashMap<&str, &str> =
        runs.iter().map(|run| (run.run_id.as_str(), cpu(run))).collect();
    let mut first: BTreeMap<&str, &Record> = BTreeMap::new();
    let mut lines = Vec::new();
    for record in records.iter().filter(|record| record.outcome.is_ok()) {
        let Some(earlier) = first.insert(&record.key, record) else { continue };
        let cpu = cpus.get(earlier.run_id.as_str()).copied().unwrap_or("unknown");
        if let Some(line) = other_quality(record, earlier, cpu) {
            let parts = [&record.dataset.name, &record.method.id, &record.label];
            let parts: Vec<&str> =
                parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            lines.push(format!("{} seed={}: {line}", parts.join(" "), record.seed));
        }
    }
    lines
}

/// The machine that has most cells that went well; of equals the one with the latest record.
fn most<'a>(records: &[Record], machine: &impl Fn(&Record) -> Option<&'a str>) -> Option<&'a str> {
    let mut covered: BTreeMap<&str, (BTreeSet<&str>, &str)> = BTreeMap::new();
    for record in records {
        let Some(name) = machine(record) else { continue };
        let (cells, latest) = covered.entry(name).or_default();
        if record.outcome.is_ok() {
            cells.insert(&record.key);
        }
        *latest = (*latest).max(&record.started_at);
    }
    let most =
        covered.iter().max_by_key(|(name, (cells, latest))| (cells.len(), *latest, *name))?;
    Some(most.0)
}

fn cpu(run: &RunInfo) -> &str {
    run.cpu_model.as_deref().unwrap_or("unknown processor")
}

/// What of the quality of `record`, whose method promises equal codes everywhere, another machine
/// found otherwise.
fn other_quality(record: &Record, other: &Record, cpu: &str) -> Option<String> {
    let mut changed = differs(other, record, TOLERANCE);
    let (name, there, here) = changed.next()?;
    let more = match changed.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let [here, there] = number::both(name, here, there);
    Some(format!(
        "another machine ({cpu}) found another quality though the method is deterministic: {name} is \
         {there} there and {here} here{more}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    fn run(id: &str, cpu: &str) -> RunInfo {
        RunInfo {
            run_id: id.to_owned(),
            cpu_model: Some(cpu.to_owned()),
            ..RunInfo::begin("s", "")
        }
    }

    fn record(run: &str, label: &str, outcome: Outcome, mse: f64) -> Record {
        let mut record = sample("a", label, &[("mse", mse), ("fit_s", mse)]);
        record.run_id = run.to_owned();
        record.outcome = outcome;
        record.method.deterministic = Some(true);
        record
    }

    #[test]
    fn speeds_are_of_the_machine_that_has_most_cells_and_others_are_told() {
        let runs = [run("one", "A"), run("two", "B"), run("three", "A")];
        let records = vec![
            record("one", "x", Outcome::Ok, 1.0),
            record("two", "x", Outcome::Ok, 1.0),
            record("three", "y", Outcome::Ok, 1.0),
            record("two", "y", Outcome::Ok, 2.0),
            record("two", "z", Outcome::Ok, 1.0),
            record("one", "z", Outcome::Failed, 1.0),
            record("one", "w", Outcome::Ok, 1.0),
            record("two", "w", Outcome::Cancelled, 1.0),
            record("one", "v", Outcome::Ok, 1.0),
        ];
        let shown = one_of_each(records.clone(), &runs);
        let of: Vec<_> =
            shown.iter().map(|one| (one.run_id.as_str(), one.label.as_str())).collect();
        assert_eq!(of, [("one", "x"), ("three", "y"), ("two", "z"), ("one", "w"), ("one", "v")]);
        assert!(shown[0].notices.is_empty() && shown[3].notices.is_empty());
        assert!(shown[1].notices[0].contains("another machine (B) found another quality"));
        assert!(shown[1].notices[0].contains("mse is 2.000 there and 1.000 here"));
        assert!(shown[2].notices[0].starts_with("it was failed on another machine (A)"));
        assert_eq!(shown.iter().filter(|one| is_elsewhere(one)).count(), 1);
        assert!(is_elsewhere(&shown[2]));
        let said = disagreements(&records, &runs);
        assert!(said.len() == 1 && said[0].contains("a y seed="), "{said:?}");
    }

    #[test]
    fn what_one_machine_measured_is_shown_as_it_is() {
        let records: Vec<Record> =
            ["x", "y"].map(|label| record("one", label, Outcome::Ok, 1.0)).to_vec();
        assert_eq!(one_of_each(records.clone(), &[run("one", "A")]), records);
        assert_eq!(one_of_each(records.clone(), &[]), records);
    }

    #[test]
    fn a_rounding_is_no_other_quality() {
        let runs = [run("one", "A"), run("two", "B")];
        let records =
            [record("one", "x", Outcome::Ok, 1.0), record("two", "x", Outcome::Ok, 1.0 + 1e-9)];
        assert!(disagreements(&records, &runs).is_empty());
    }
}
