//! Files that move or change.

use super::*;

#[test]
fn a_source_touched_copied_or_moved_is_the_same_one() {
    let place = Place::new();
    let mut spec = place.spec();
    let first = place.prepare(&spec).unwrap();
    let file = fs::File::options().append(true).open(place.path("base.fbin")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(place.prepare_counting(&spec), (first.clone(), 0));
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("base.fbin"), place.path("elsewhere/b.fbin")).unwrap();
    fs::remove_file(place.path("base.fbin")).unwrap();
    spec.source = Source::File(place.path("elsewhere/b.fbin"));
    let (mut moved, steps) = place.prepare_counting(&spec);
    assert!(steps == 0 && moved.base.path.ends_with("elsewhere/b.fbin"));
    moved.base.path.clone_from(&first.base.path);
    moved.train.path.clone_from(&first.base.path);
    assert_eq!(moved, first);
}

#[test]
fn equal_sources_that_serve_as_they_are_are_each_read_where_they_are() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
    let first = place.prepare(&spec).unwrap();
    spec.source = Source::File(place.file("copy.fbin", &place.values));
    let (second, steps) = place.prepare_counting(&spec);
    assert_eq!(steps, 0);
    assert!(first.base.path.ends_with("base.fbin") && second.base.path.ends_with("copy.fbin"));
    fs::remove_file(place.path("copy.fbin")).unwrap();
    assert!(first.unchanged().is_ok());
    let error = second.unchanged().unwrap_err();
    assert!(error.to_string().ends_with("copy.fbin was removed since it was prepared"));
}

#[test]
fn a_source_that_changes_later_or_whose_link_leads_elsewhere_is_told() {
    let place = Place::new();
    let link = place.path("link.fbin");
    std::os::unix::fs::symlink("base.fbin", &link).unwrap();
    let prepared = place.prepare(&spec(link.clone())).unwrap();
    assert!(prepared.unchanged().is_ok());
    // A copy of the same contents leads nowhere else; other contents do.
    let mut values = place.values.clone();
    for (to, same) in [("copy.fbin", true), ("other.fbin", false)] {
        place.file(to, &values);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(to, &link).unwrap();
        assert_eq!(prepared.unchanged().is_ok(), same, "{to}");
        values[(3, 3)] += 1.0;
    }
    let of = place.prepare(&place.spec()).unwrap();
    let mut bytes = fs::read(place.path("base.fbin")).unwrap();
    bytes[100] ^= 1;
    fs::write(place.path("base.fbin"), bytes).unwrap();
    let error = of.unchanged().unwrap_err().to_string();
    assert!(error.ends_with("base.fbin changed since it was prepared"), "{error}");
}

#[test]
fn a_source_that_changes_while_it_is_read_leaves_nothing() {
    let place = Place::new();
    let error = prepare(&place.spec(), 5, &place.path("cache"), &|at| {
        if at.stage == "sum covariance" {
            let mut bytes = fs::read(place.path("base.fbin")).unwrap();
            bytes[100] ^= 1;
            fs::write(place.path("base.fbin"), bytes).unwrap();
        }
        true
    });
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("base.fbin changed while it was being prepared"), "{error}");
    assert!(place.kept().is_empty());
}

#[test]
fn a_file_written_to_is_prepared_again() {
    let place = Place::new();
    let mut spec = place.spec();
    spec.queries = Queries::File(place.file("q.fbin", &small_integers(4, 6, 9)));
    let before = place.prepare(&spec).unwrap();
    let mut values = place.values.clone();
    values[(0, 0)] += 1.0;
    place.file("base.fbin", &values);
    let after = place.prepare(&spec).unwrap();
    assert_ne!(after.digest, before.digest);
    assert_eq!(after.base, before.base);
}
