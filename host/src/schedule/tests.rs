use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::plan::testing::{Generator, catalog_of, sweep};
use crate::session::{Callbacks, Planned, Selection, Session};
use crate::worker::protocol::Measured;

/// Eight cells of a method that is described in memory, and a file that stands for its library.
struct Place {
    folder: tempfile::TempDir,
    planned: Planned,
    data: Prepared,
}

const EIGHT: &str =
    "[[method]]\nuse = \"zlattice\"\nparams.bits = { from = 1, to = 8, step = 1 }\n";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libzlattice.so");
        std::fs::write(&library, "not a library").unwrap();
        let digest = blake3::hash(b"not a library").to_hex();
        let catalog = catalog_of(library, &digest);
        let cache = folder.path().join("cache");
        let session = Session::new(sweep(EIGHT), catalog, cache, HashMap::new()).unwrap();
        let generator = Generator::default();
        let on = Callbacks {
            expand: &|found, requests| generator.expand(found, requests),
            progress: &|_, _| (),
            note: &|_, _| (),
            cancel: &AtomicBool::new(false),
        };
        let planned = session.plan(&Selection::default(), &on).unwrap();
        let data = planned.rows[&0].clone().with_neighbours(5, &|_| true).unwrap();
        Self { folder, planned, data }
    }

    fn schedule(&self, jobs: usize) -> Schedule<'_> {
        let cells = self.planned.to_run();
        assert_eq!(cells.len(), 8);
        Schedule {
            cells: cells
                .into_iter()
                .map(|cell| Scheduled {
                    cell,
                    data: &self.data,
                    evaluation: crate::plan::evaluation(&self.planned.sweep, 0, &[""]),
                })
                .collect(),
            limits: Limits {
                timeout: Duration::from_secs(1),
                own_time: None,
                memory: None,
                threads: 1,
                scratch: 0,
                sandbox: false,
            },
            jobs,
            run_id: "r".into(),
            block_rows: None,
        }
    }

    /// Runs all cells, `measure` in place of processes; every event as a line.
    fn run(
        &self,
        jobs: usize,
        measure: &(dyn Fn(usize) -> Result<Answer, HostFault> + Sync),
    ) -> (Vec<String>, Result<(), RunError<Infallible>>) {
        let schedule = self.schedule(jobs);
        let mut said = Vec::new();
        let ended = run_with(
            &schedule,
            &|_, _, job, _, _, progress| {
                progress("fit", 0.5);
                measure(bits(&job.engine.config)).map(Ended::testing)
            },
            &AtomicBool::new(false),
            &mut |event| {
                said.push(match event {
                    RunEvent::Started { cell, .. } => format!("started {cell}"),
                    RunEvent::Progress { stage, fraction, .. } => format!("{stage} {fraction}"),
                    RunEvent::Finished { record, .. } => {
                        format!("{} {}", record.label, record.outcome)
                    }
                    RunEvent::Left { how, cells, .. } => format!("left {cells}: {how}"),
                });
                Ok(())
            },
        );
        (said, ended)
    }
}

fn bits(config: &vq_plugin_api::params::Config) -> usize {
    match config["bits"] {
        vq_plugin_api::Value::Int(bits) => usize::try_from(bits).unwrap(),
        ref other => panic!("{other}"),
    }
}

fn measured() -> Answer {
    Answer::Measured(Measured {
        metrics: vec![MetricValue::new("recall_at_10", 0.5).unwrap()],
        recalls: Vec::new(),
        block_rows: 580,
        measured_s: 0.1,
        threads_used: None,
        unproven: None,
        notices: Vec::new(),
    })
}

fn fault() -> HostFault {
    HostFault::Referee { reason: "a test".into() }
}

#[test]
fn one_job_runs_the_cells_in_their_order() {
    let (said, ended) = Place::new().run(1, &|_| Ok(measured()));
    ended.unwrap();
    let expected: Vec<String> = (0..8)
        .flat_map(|i| [format!("started {i}"), "fit 0.5".into(), format!("bits={} ok", i + 1)])
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn several_jobs_run_each_cell_once_and_no_more_at_a_time() {
    let place = Place::new();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (said, ended) = place.run(3, &|_| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(measured())
    });
    ended.unwrap();
    let mut finished: Vec<_> = said.iter().filter(|line| line.ends_with(" ok")).collect();
    finished.sort();
    finished.dedup();
    assert_eq!(finished.len(), 8);
    assert!((1..=3).contains(&most.into_inner()));
}

#[test]
fn a_cell_that_fails_is_recorded_and_the_others_run() {
    let place = Place::new();
    let mut records = Vec::new();
    let measure = |_: &Path,
                   _: &Digests,
                   job: &CellJob<'_>,
                   _: &Limits,
                   _: &AtomicBool,
                   _: &mut dyn FnMut(&str, f32)| {
        Ok(Ended::testing(match bits(&job.engine.config) {
            3 => Answer::Failed { outcome: Outcome::Crashed, error: "it fell".into() },
            _ => measured(),
        }))
    };
    let cancel = AtomicBool::new(false);
    run_with(&place.schedule(2), &measure, &cancel, &mut |event| {
        if let RunEvent::Finished { record, .. } = event {
            records.push(record);
        }
        Ok::<(), Infallible>(())
    })
    .unwrap();
    assert_eq!(records.len(), 8);
    let failed: Vec<_> = records.iter().filter(|record| !record.outcome.is_ok()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((&*failed[0].label, failed[0].outcome), ("bits=3", Outcome::Crashed));
    assert_eq!(failed[0].error.as_deref(), Some("it fell"));
    assert_eq!(failed[0].value("peak_rss_bytes"), Some(7.0));
    assert!(failed[0].proof.is_none() && failed[0].value("overhead_s").is_none());
    let ok = records.iter().find(|record| record.label == "bits=1").unwrap();
    assert_eq!(ok.key, place.planned.plan.cells[0].key);
    assert_eq!(ok.value("overhead_s"), Some(0.15));
    assert_eq!(ok.proof, Some(Proof::Proven));
    assert_eq!((ok.timing.exclusive, ok.timing.block_rows), (false, Some(580)));
    assert_eq!(ok.dataset, place.data.info());
}

#[test]
fn a_fault_of_the_host_ends_the_run_and_is_recorded_against_nobody() {
    let (said, ended) = Place::new().run(1, &|bits| match bits {
        3 => Err(fault()),
        _ => Ok(measured()),
    });
    assert!(matches!(ended, Err(RunError::Host(HostFault::Referee { .. }))));
    assert!(said.iter().any(|line| line == "bits=2 ok"));
    assert!(!said.iter().any(|line| line.starts_with("bits=3") || line == "started 3"), "{said:?}");
}

#[test]
fn the_cells_of_a_library_that_was_replaced_are_left_and_counted() {
    let (said, ended) = Place::new().run(1, &|bits| match bits {
        4 => Ok(Answer::Replaced { how: "has other contents".into() }),
        _ => Ok(measured()),
    });
    ended.unwrap();
    assert_eq!(said.last().unwrap(), "left 5: has other contents");
    assert_eq!(said.iter().filter(|line| line.ends_with(" ok")).count(), 3);
    // Also where it shows only after the cell: what was measured is not that library.
    let place = Place::new();
    let library = place.folder.path().join("libzlattice.so");
    let (said, ended) = place.run(1, &|bits| {
        if bits == 2 {
            std::fs::write(&library, "another one").unwrap();
        }
        Ok(measured())
    });
    ended.unwrap();
    assert_eq!(said.last().unwrap(), "left 7: has other contents");
}

#[test]
fn who_cannot_store_a_record_ends_the_run() {
    let place = Place::new();
    #[derive(Debug, thiserror::Error)]
    #[error("no room")]
    struct NoRoom;
    let (cancel, mut finished) = (AtomicBool::new(false), 0);
    let measure = |_: &Path,
                   _: &Digests,
                   _: &CellJob<'_>,
                   _: &Limits,
                   _: &AtomicBool,
                   _: &mut dyn FnMut(&str, f32)| Ok(Ended::testing(measured()));
    let error = run_with(&place.schedule(1), &measure, &cancel, &mut |event| {
        if let RunEvent::Finished { .. } = event {
            finished += 1;
            return Err(NoRoom);
        }
        Ok(())
    });
    assert!(matches!(error, Err(RunError::Event(NoRoom))));
    assert!(finished == 1 && cancel.into_inner());
}

#[test]
fn what_is_cancelled_starts_no_further_cell() {
    let place = Place::new();
    let cancel = AtomicBool::new(false);
    let measure = |_: &Path,
                   _: &Digests,
                   _: &CellJob<'_>,
                   _: &Limits,
                   cancel: &AtomicBool,
                   _: &mut dyn FnMut(&str, f32)| {
        cancel.store(true, Ordering::Relaxed);
        let error = "interrupted".to_owned();
        Ok(Ended::testing(Answer::Failed { outcome: Outcome::Cancelled, error }))
    };
    let mut outcomes = Vec::new();
    run_with(&place.schedule(1), &measure, &cancel, &mut |event| {
        if let RunEvent::Finished { record, .. } = event {
            outcomes.push(record.outcome);
        }
        Ok::<(), Infallible>(())
    })
    .unwrap();
    assert_eq!(outcomes, [Outcome::Cancelled]);
}
