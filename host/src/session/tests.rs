use std::cell::RefCell;
use std::fs;

use super::*;
use crate::plan::testing::{Generator, catalog, sweep};
use crate::record::tests::sample;
use crate::store::Store;

/// A cache folder that does not exist yet, a generator, and what was said.
struct Desk {
    folder: tempfile::TempDir,
    generator: Generator,
    notes: RefCell<Vec<String>>,
    cancel: AtomicBool,
}

impl Desk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            generator: Generator::default(),
            notes: RefCell::default(),
            cancel: AtomicBool::new(false),
        }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn with<T>(&self, act: impl FnOnce(&Callbacks<'_>) -> T) -> T {
        act(&Callbacks {
            expand: &|found, requests| self.generator.expand(found, requests),
            progress: &|_, _| (),
            note: &|name, text| self.notes.borrow_mut().push(format!("{name}: {text}")),
            cancel: &self.cancel,
        })
    }

    fn plan_with(
        &self,
        rest: &str,
        done: HashMap<String, Done>,
        selection: &Selection,
    ) -> Result<Planned, SessionError> {
        let session = Session::new(sweep(rest), catalog(), self.cache(), done)?;
        self.with(|on| session.plan(selection, on))
    }

    fn plan(&self, rest: &str) -> Result<Planned, SessionError> {
        self.plan_with(rest, HashMap::new(), &Selection::default())
    }

    fn neighbours(&self, planned: &Planned) -> Ready {
        self.with(|on| planned.neighbours(on)).unwrap()
    }

    /// Entries of a folder of the cache; none if it does not exist.
    fn kept(&self, of: &str) -> usize {
        fs::read_dir(self.cache().join(of)).map_or(0, Iterator::count)
    }
}

const BOTH: &str = "[[method]]\nuse = \"zlattice\"\n";

/// A second data set beside `gauss`.
const TWO: &str = "[[dataset]]\nname = \"other\"\n\
                   synthetic = { kind = \"uniform\", n = 500, dim = 16, seed = 1 }\n\
                   queries = { hold_out = 20 }\n[[method]]\nuse = \"zlattice\"\n";

fn done(planned: &Planned, of: &[usize], outcome: Outcome) -> HashMap<String, Done> {
    let done = Done { outcome, metrics: Family::usual(), datasets: Vec::new() };
    of.iter().map(|i| (planned.plan.cells[*i].key.clone(), done.clone())).collect()
}

#[test]
fn an_impossible_grid_is_refused_before_anything_is_prepared() {
    let desk = Desk::new();
    let error = desk.plan("[[method]]\nuse = \"zlattice\"\nparams.parts = 5\n").unwrap_err();
    assert!(matches!(error, SessionError::Plan(_)), "{error}");
    assert_eq!(error.to_string(), "zlattice has no valid configuration on `gauss` (d = 16)");
    assert_eq!(desk.generator.asked.get(), 1);
    assert!(!desk.cache().exists(), "nothing was read, nothing prepared");
}

#[test]
fn what_selects_nothing_is_refused_before_anything_is_prepared() {
    let desk = Desk::new();
    let selection = Selection { only: vec!["bits=5".into()], ..Selection::default() };
    let error = desk.plan_with(BOTH, HashMap::new(), &selection).unwrap_err();
    assert_eq!(error.to_string(), "--only bits=5 selects none of the 2 cells");
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert_eq!(help, "titles look like: gauss zlattice bits=4 seed=42");
    assert!(!desk.cache().exists());
}

#[test]
fn a_header_that_is_wrong_is_said_before_a_generator_is_asked() {
    let desk = Desk::new();
    let file = desk.folder.path().join("short.fbin");
    fs::write(&file, [1; 20]).unwrap();
    let text = format!(
        "[[dataset]]\nname = \"short\"\nbase = {:?}\nqueries = {{ hold_out = 1 }}\n{BOTH}",
        file.to_str().unwrap()
    );
    let sweep = Sweep::parse("s.toml", &text, Path::new("")).unwrap();
    let session = Session::new(sweep, catalog(), desk.cache(), HashMap::new()).unwrap();
    let error = desk.with(|on| session.plan(&Selection::default(), on)).unwrap_err();
    assert!(error.to_string().contains("short.fbin: expected"), "{error}");
    assert_eq!(desk.generator.asked.get(), 0);
}

#[test]
fn a_plan_reads_rows_and_seeks_no_neighbour() {
    let desk = Desk::new();
    let planned = desk.plan(BOTH).unwrap();
    assert_eq!(planned.to_run().len(), 2);
    assert_eq!((desk.kept("rows"), desk.kept("truth")), (1, 0));
    assert!(planned.facts.is_empty(), "some of them are counted with neighbours");
    desk.neighbours(&planned);
    let facts = desk.plan(BOTH).unwrap().facts[&0];
    assert!(facts.synthetic && facts.queries_in_base == 0);
}

#[test]
fn neighbours_are_sought_for_data_sets_with_cells_to_run_alone() {
    let desk = Desk::new();
    let planned = desk.plan(TWO).unwrap();
    let names: Vec<_> = planned.cells().map(|cell| cell.dataset_name.as_str()).collect();
    assert_eq!(names, ["gauss", "gauss", "other", "other"]);
    let recorded = done(&planned, &[0, 1, 3], Outcome::Ok);
    let left = desk.plan_with(TWO, recorded.clone(), &Selection::default()).unwrap();
    assert_eq!(left.to_run().len(), 1);
    let ready = desk.neighbours(&left);
    assert_eq!((ready.0.len(), desk.kept("truth")), (1, 1));
    assert_eq!(ready.0[&1].name, "other");
    assert_eq!(ready.0[&1].digest, left.rows[&1].digest);
    // All done: none at all.
    let all = done(&planned, &[0, 1, 2, 3], Outcome::Ok);
    let nothing = desk.plan_with(TWO, all, &Selection::default()).unwrap();
    assert!(desk.neighbours(&nothing).is_empty() && desk.kept("truth") == 1);
    // Selected away: the same.
    let only = Selection { only: vec!["gauss".into()], ..Selection::default() };
    let selected = desk.plan_with(TWO, recorded, &only).unwrap();
    assert!(desk.neighbours(&selected).is_empty());
    assert_eq!(selected.cells().len(), 2);
}

#[test]
fn what_is_recorded_is_done_unless_it_is_asked_for_again() {
    let desk = Desk::new();
    let planned = desk.plan(BOTH).unwrap();
    assert_eq!(planned.states(), [State::ToRun, State::ToRun]);
    let mut recorded = done(&planned, &[0], Outcome::Ok);
    recorded.extend(done(&planned, &[1], Outcome::Timeout));
    let (ok, timeout) = (State::Done(Outcome::Ok), State::Done(Outcome::Timeout));
    let again = State::Again;
    for (rerun, force, expected) in [
        (None, false, [ok, timeout]),
        (None, true, [again(Outcome::Ok), again(Outcome::Timeout)]),
        (Some(Rerun::Failed), false, [ok, again(Outcome::Timeout)]),
        (Some(Rerun::Outcome(Outcome::Timeout)), false, [ok, again(Outcome::Timeout)]),
        (Some(Rerun::Outcome(Outcome::Crashed)), false, [ok, timeout]),
    ] {
        let selection = Selection { rerun, force, ..Selection::default() };
        let planned = desk.plan_with(BOTH, recorded.clone(), &selection).unwrap();
        assert_eq!(planned.states(), expected, "{selection:?}");
    }
    let cancelled = done(&planned, &[0], Outcome::Cancelled);
    let planned = desk.plan_with(BOTH, cancelled, &Selection::default()).unwrap();
    assert_eq!(planned.states(), [again(Outcome::Cancelled), State::ToRun]);
}

#[test]
fn cells_of_two_data_sets_with_one_content_run_once() {
    let twin = "[[dataset]]\nname = \"twin\"\n\
                synthetic = { kind = \"gaussian\", n = 600, dim = 16, seed = 1 }\n\
                queries = { hold_out = 20 }\n[[method]]\nuse = \"plain\"\n";
    let desk = Desk::new();
    let planned = desk.plan(twin).unwrap();
    assert_eq!(planned.same_contents(), [("gauss", "twin")]);
    assert_eq!(planned.states(), [State::ToRun, State::With("gauss")]);
    assert_eq!(desk.neighbours(&planned).0.len(), 1);
}

#[test]
fn equal_rows_of_two_files_share_a_record_and_each_has_the_size_of_its_own_file() {
    let desk = Desk::new();
    let numbers: Vec<u8> = (0..600_u32 * 16).map(|i| (i * i % 251) as u8).collect();
    let head: Vec<u8> = [600_u32, 16].into_iter().flat_map(u32::to_le_bytes).collect();
    let floats: Vec<u8> = numbers.iter().flat_map(|x| f32::from(*x).to_le_bytes()).collect();
    let file = |name: &str, values: &[u8]| {
        let path = desk.folder.path().join(name);
        fs::write(&path, [&head[..], values].concat()).unwrap();
        format!(
            "[[dataset]]\nname = {:?}\nbase = {:?}\nqueries = {{ hold_out = 20 }}\n",
            name.split_once('.').unwrap().0,
            path.to_str().unwrap()
        )
    };
    let bytes = file("bytes.u8bin", &numbers);
    let floats = file("floats.fbin", &floats);
    let plan = |datasets: &[&str]| {
        let text = format!("{}[[method]]\nuse = \"plain\"\n", datasets.concat());
        let sweep = Sweep::parse("s.toml", &text, Path::new("")).unwrap();
        let session = Session::new(sweep, catalog(), desk.cache(), HashMap::new()).unwrap();
        desk.with(|on| session.plan(&Selection::default(), on)).unwrap()
    };
    let both = plan(&[&bytes, &floats]);
    assert_eq!(both.states(), [State::ToRun, State::With("bytes")]);
    let cell = &both.plan.cells[0];
    let sizes = [("code_bytes", 8.0), ("mse", 1.0), (OF_SOURCE[0], 8.0), (OF_SOURCE[1], 2.0)];
    let mut record = sample("plain", &cell.label, &sizes);
    record.key.clone_from(&cell.key);
    record.dataset = both.rows[&0].info();
    (record.method, record.params) = (cell.method.clone(), cell.params());
    record.evaluation = serde_json::to_value(both.evaluation(cell)).unwrap();
    assert_eq!(record.key, crate::record::cell_key(&record.key_parts()));
    let of = |record: &Record| {
        let value = |name| record.value(name).unwrap();
        (record.dataset.name.clone(), value(OF_SOURCE[0]), value(OF_SOURCE[1]), value("mse"))
    };
    let of_bytes = ("bytes".to_owned(), 8.0, 2.0, 1.0);
    let of_floats = ("floats".to_owned(), 32.0, 8.0, 1.0);
    let shown = both.records_of_cells(vec![record.clone()]);
    assert_eq!(shown.iter().map(of).collect::<Vec<_>>(), [of_bytes.clone(), of_floats.clone()]);

    let mut store = Store::open(desk.folder.path().join("s.db")).unwrap();
    store.begin_run(&RunInfo { run_id: record.run_id.clone(), ..RunInfo::begin("s", "") }).unwrap();
    store.insert(&record).unwrap();
    let mut kept_by = |sweep: &[&str]| {
        let done = store.finished().unwrap().outcomes;
        let planned = Planned { done, ..plan(sweep) };
        planned.rename(&mut store).unwrap();
        of(&store.of_cells(&[&record.key]).unwrap().records[0])
    };
    assert_eq!(kept_by(&[&floats]), of_floats);
    assert_eq!(kept_by(&[&bytes, &floats]), of_floats, "it is one of the two");
    assert_eq!(kept_by(&[&bytes]), of_bytes);
    // The same name for another file.
    assert_eq!(kept_by(&[&floats.replace("\"floats\"", "\"bytes\"")]).1, 32.0);
    // What says nothing of its source is left alone.
    let mut old = sample("plain", "", &[("code_bytes", 8.0)]);
    old.key.clone_from(&record.key);
    let shown = both.records_of_cells(vec![old]);
    assert!(shown.len() == 2 && shown.iter().all(|of| of.value(OF_SOURCE[1]).is_none()));
}

#[test]
fn a_base_of_fewer_rows_than_k_is_noted() {
    let desk = Desk::new();
    desk.plan(&format!("[evaluate]\nk = [1, 590, 9999]\n{BOTH}")).unwrap();
    let said = desk.notes.borrow();
    let expected = "gauss: its base has 580 rows: metrics of k = 590, 9999 are not recorded";
    assert!(said.iter().any(|note| note == expected), "{said:?}");
}

#[test]
fn an_interrupted_session_ends_and_keeps_nothing_half_made() {
    let desk = Desk::new();
    desk.cancel.store(true, Ordering::Relaxed);
    assert!(matches!(desk.plan(BOTH), Err(SessionError::Interrupted)));
    assert!(!desk.cache().exists());
    let desk = Desk::new();
    let session = Session::new(sweep(BOTH), catalog(), desk.cache(), HashMap::new()).unwrap();
    let error = desk.with(|on| {
        let progress = &|_: &str, _| desk.cancel.store(true, Ordering::Relaxed);
        session.plan(&Selection::default(), &Callbacks { progress, ..*on }).unwrap_err()
    });
    assert!(matches!(error, SessionError::Interrupted), "{error}");
    assert_eq!(desk.kept("rows"), 0);
}

#[test]
fn rows_in_the_cache_may_be_all_that_is_needed() {
    let desk = Desk::new();
    let session = |done| Session::new(sweep(BOTH), catalog(), desk.cache(), done).unwrap();
    let recorded = Done { outcome: Outcome::Ok, metrics: Vec::new(), datasets: Vec::new() };
    let recorded = HashMap::from([("a key".to_owned(), recorded)]);
    assert!(!session(recorded.clone()).may_be_done(), "nothing is prepared");
    desk.plan(BOTH).unwrap();
    assert!(session(recorded).may_be_done());
    assert!(!session(HashMap::new()).may_be_done(), "nothing is recorded");
}

#[test]
fn a_record_with_more_metrics_is_done_and_one_with_fewer_is_measured_again_with_both() {
    let desk = Desk::new();
    let asks = |families: &str| format!("[evaluate]\nmetrics = {families}\n{BOTH}");
    let planned = desk.plan(&asks("[\"pairs\"]")).unwrap();
    let recorded = |metrics: &[Family]| {
        let (metrics, datasets) = (metrics.to_vec(), Vec::new());
        let done = Done { outcome: Outcome::Ok, metrics, datasets };
        HashMap::from([(planned.plan.cells[0].key.clone(), done)])
    };
    let states = |asked: &str, has: &[Family]| {
        let planned = desk.plan_with(&asks(asked), recorded(has), &Selection::default()).unwrap();
        let cell = &planned.plan.cells[0];
        (planned.states()[0].to_string(), planned.evaluation(cell).metrics)
    };
    let both = vec![Family::Pairs, Family::Latency];
    assert_eq!(states("[\"pairs\"]", &both), ("done: ok".to_owned(), both.clone()));
    assert_eq!(states("[]", &[]), ("done: ok".to_owned(), vec![]));
    let (state, measured) = states("[\"latency\"]", &[Family::Pairs]);
    assert_eq!((state.as_str(), measured), ("again: ok", both));
}

#[test]
fn rows_of_unit_length_are_noted_under_a_metric_that_nobody_wrote() {
    let desk = Desk::new();
    let file = desk.folder.path().join("unit.fbin");
    let value = |i: u32| if i % 16 == i / 16 % 16 { 1.0 } else { 0.0_f32 };
    let values = (0..600 * 16).flat_map(|i| value(i).to_le_bytes());
    let head = [600_u32, 16].into_iter().flat_map(u32::to_le_bytes);
    fs::write(&file, head.chain(values).collect::<Vec<u8>>()).unwrap();
    let noted = |head: &str| {
        let base = file.to_str().unwrap();
        let text = format!(
            "{head}[[dataset]]\nname = \"unit\"\nbase = {base:?}\nqueries = {{ hold_out = 20 }}\n{BOTH}"
        );
        let sweep = Sweep::parse("s.toml", &text, Path::new("")).unwrap();
        let session = Session::new(sweep, catalog(), desk.cache(), HashMap::new()).unwrap();
        desk.with(|on| session.plan(&Selection::default(), on)).unwrap();
        desk.notes.take().iter().any(|note| note.starts_with("unit: its rows have unit length"))
    };
    assert!(noted(""));
    assert!(!noted("[sweep]\nmetric = \"l2\"\n"));
    assert!(!noted("[sweep]\nmetric = \"cosine\"\n"));
}

#[test]
fn a_plan_without_cells_to_run_stores_no_run() {
    let desk = Desk::new();
    let planned = desk.plan(BOTH).unwrap();
    let recorded = done(&planned, &[0, 1], Outcome::Ok);
    let planned = desk.plan_with(BOTH, recorded, &Selection::default()).unwrap();
    assert!(planned.to_run().is_empty());
    let mut store = Store::open(desk.folder.path().join("s.db")).unwrap();
    planned.rename(&mut store).unwrap();
    assert!(store.runs().unwrap().is_empty());
}

fn part(text: &str) -> Selection {
    Selection { partition: Some(text.parse().unwrap()), ..Selection::default() }
}

#[test]
fn parts_have_every_cell_once_and_one_by_hash_stays_as_cells_are_added() {
    let desk = Desk::new();
    let titles = |sweep: &str, selection: &Selection| -> Vec<String> {
        let planned = desk.plan_with(sweep, HashMap::new(), selection).unwrap();
        planned.cells().map(Cell::title).collect()
    };
    let all = titles(TWO, &Selection::default());
    for kind in ["hash", "slice"] {
        let mut parts: Vec<String> =
            (1..=3).flat_map(|i| titles(TWO, &part(&format!("{kind}:{i}/3")))).collect();
        parts.sort();
        let mut all = all.clone();
        all.sort();
        assert_eq!(parts, all, "{kind}");
    }
    for i in 1..=3 {
        let hashed = part(&format!("hash:{i}/3"));
        let fewer = titles(BOTH, &hashed);
        let more = titles(TWO, &hashed);
        assert!(fewer.iter().all(|title| more.contains(title)), "{fewer:?} in {more:?}");
    }
}

#[test]
fn a_part_prepares_the_data_of_its_cells_alone() {
    let desk = Desk::new();
    let whole = desk.plan(TWO).unwrap();
    let other = Desk::new();
    let sliced = other.plan_with(TWO, HashMap::new(), &part("slice:3/4")).unwrap();
    assert_eq!(
        sliced.cells().map(Cell::title).collect::<Vec<_>>(),
        ["other zlattice bits=4 seed=42"]
    );
    assert_eq!((desk.kept("rows"), other.kept("rows")), (2, 1));
    assert_eq!(sliced.cells().next().unwrap().key, whole.cells().nth(2).unwrap().key);
    assert_eq!(other.neighbours(&sliced).0.len(), 1);
    // More parts than cells: nothing to do is no error, and takes no data.
    let nothing = Desk::new();
    let none = nothing.plan_with(TWO, HashMap::new(), &part("slice:5/5")).unwrap();
    assert!(none.cells().len() == 0 && nothing.kept("rows") == 0);
}
