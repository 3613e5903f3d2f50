//! Plugins that come and go: dropped in, damaged, made for something else, unsafe to load.

use crate::faults::long_site;
use crate::fixture::{
    C_SQ8, MISBEHAVING, OTHER_LAYOUT, RESIDUAL, Site, ZLATTICE, shipped, sweep, text, workspace,
};
use object::{Object, ObjectSection};
use std::collections::BTreeSet;
use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vq_host::record::Outcome;

const SQ: &str = "[[method]]\nuse = \"sq\"\nparams.bits = [4, 8]\n\n";

fn digest(file: &Path) -> blake3::Hash {
    blake3::hash(&fs::read(file).expect("a readable file"))
}

/// Runs a sweep, drops `plugin` in, adds its `method` to the sweep, runs again.
fn dropping_in_adds_just_its_own_cells(plugin: &Path, id: &str) {
    let site = Site::with(&[shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1]", SQ));
    site.vq(&["run", "s.toml"]).expect_code(0);
    let before = site.records();
    let host = PathBuf::from(site.command(&[]).get_program());
    let host_before = digest(&host);
    let methods = || site.vq(&["methods"]).expect_code(0).stdout;
    let lists = |table: &str| table.lines().any(|line| line.split_whitespace().next() == Some(id));
    assert!(!lists(&methods()));

    let dropped = site.drop_in(plugin);
    assert!(lists(&methods()));
    site.write("s.toml", &sweep("[1]", &format!("{SQ}[[method]]\nuse = \"{id}\"\n")));
    let new = site.planned("s.toml").len() - before.len();
    assert!(new > 0);
    site.vq(&["run", "s.toml"]).expect_code(0).says(&format!("{new} cells to run, 2 done already"));
    let after = site.records();
    assert_eq!(after.len(), before.len() + new);
    let (old, added): (Vec<_>, Vec<_>) = after.iter().partition(|r| before.contains(r));
    assert_eq!(old.len(), before.len(), "old records are untouched");
    for record in added {
        assert_eq!((record.method.id.as_str(), record.outcome), (id, Outcome::Ok), "{record:?}");
        assert_eq!(record.method.plugin_digest, digest(&dropped).to_hex().as_str());
    }
    assert_eq!(digest(&host), host_before, "the host is the same file");
    site.vq(&["run", "s.toml"]).expect_code(0).says("are done");
}

#[test]
fn a_rust_plugin_dropped_in_adds_just_its_own_cells() {
    dropping_in_adds_just_its_own_cells(&ZLATTICE, "zlattice");
}

#[test]
fn a_rust_plugin_that_learns_dropped_in_adds_just_its_own_cells() {
    dropping_in_adds_just_its_own_cells(&RESIDUAL, "residual");
}

#[test]
fn a_c_plugin_dropped_in_adds_just_its_own_cells() {
    if let Some(plugin) = C_SQ8.as_ref() {
        dropping_in_adds_just_its_own_cells(plugin, "c_sq8");
    }
}

#[test]
fn a_rebuilt_plugin_is_measured_again() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1]", SQ));
    site.vq(&["run", "s.toml"]).expect_code(0);
    // Bytes after the end of an object file change nothing but its digest.
    let plugin = site.drop_in(&shipped()["sq"]);
    let mut bytes = fs::read(&plugin).expect("a plugin");
    bytes.push(0);
    fs::write(&plugin, bytes).expect("a site is writable");
    site.vq(&["run", "s.toml"]).expect_code(0).says("2 cells to run, 0 done already");
    assert_eq!(site.records().len(), 4);
}

#[test]
fn a_library_that_cannot_be_used_costs_one_line_that_says_what_to_do() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    let whole = fs::read(&shipped()["sq"]).expect("a plugin");
    let put = |name: &str, bytes: &[u8]| {
        let name = format!("{name}{DLL_SUFFIX}");
        fs::write(site.path("plugins").join(&name), bytes).expect("a site is writable");
        name
    };
    let again = "copy it again or rebuild it";
    let mut expected = Vec::new();
    let len = whole.len();
    for cut in [0, 3, 64, 4096, len / 4, len / 2, len - len / 8, len - 1] {
        expected.push((put(&format!("libcut_{cut}"), &whole[..cut]), "", again));
    }
    // Its tables are whole and its code is not: only loading it shows that, in a child process.
    let code = {
        let object = object::File::parse(&*whole).expect("a plugin");
        let section = object.section_by_name(".text").expect("code");
        section.file_range().expect("code lies in the file")
    };
    let mut hole = whole.clone();
    let start = usize::try_from(code.0).expect("small");
    hole[start..][..usize::try_from(code.1).expect("small")].fill(0);
    expected.push((put("libhole", &hole), "while it was loaded", again));
    let text = b"This is no library.\n";
    expected.push((put("libtext", text), "it is not a shared library", again));
    let entry = "exports no symbol vq_plugin_entry_v1";
    expected.push((put("libsystem", &system_library()), entry, "Rust: export_plugin!"));
    let other = site.drop_in(&OTHER_LAYOUT);
    let other = other.file_name().expect("a name").to_string_lossy().into_owned();
    expected.push((other, "it was built against a different vq-plugin-api", "rebuild it against"));
    let open = site.drop_in(&ZLATTICE);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).expect("our file");
    let open = open.file_name().expect("a name").to_string_lossy().into_owned();
    expected.push((open, "anybody may write to this file", "chmod o-w it"));

    site.write("s.toml", &sweep("[1]", SQ));
    let ended = site.vq(&["run", "s.toml"]).expect_code(0);
    let warnings = ended.lines("warning:");
    assert_eq!(warnings.len(), expected.len(), "{}", ended.stderr);
    for (name, reason, remedy) in &expected {
        let about: Vec<&&str> =
            warnings.iter().filter(|w| w.contains(&format!("/{name} "))).collect();
        assert_eq!(about.len(), 1, "{name} in:\n{}", ended.stderr);
        let warning = about[0];
        assert!(warning.contains("is left out: "), "{warning}");
        assert!(warning.contains(reason) && warning.contains(remedy), "{warning}");
        assert!(warning.len() < 500, "{} characters: {warning}", warning.len());
    }
    assert!(site.records().iter().all(|record| record.outcome == Outcome::Ok));
    assert_eq!(site.records().len(), 2);
    let methods = site.vq(&["methods", "--allow-world-writable"]).expect_code(0);
    assert!(methods.stdout.contains("zlattice"), "{}", methods.stdout);
}

/// A library of the system that is no plugin: the C library this test runs on.
fn system_library() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps of this process");
    let mut libraries = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let libc = libraries.find(|path| path.contains("/libc")).expect("a C library");
    fs::read(libc).expect("a readable C library")
}

#[test]
fn a_plugin_folder_that_anybody_may_write_to_is_left_out() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(site.path("plugins"), open).expect("our folder");
    let ended = site.vq(&["methods"]).expect_code(1).says("chmod o-w it");
    assert_eq!(ended.lines("warning:").len(), 1);
    site.vq(&["methods", "--allow-world-writable"]).expect_code(0);
}

#[test]
fn two_plugins_with_one_method_are_told_apart_by_the_search_order_or_the_sweep() {
    let site = Site::with(&[shipped()["sq"].clone()]);
    site.write("s.toml", &sweep("[1]", SQ));
    let mut twin = fs::read(&shipped()["sq"]).expect("a plugin");
    // The same file under another name counts once.
    fs::write(site.path("plugins/libcopy.so"), &twin).expect("a site is writable");
    site.vq(&["plan", "s.toml"]).expect_code(0);
    twin.push(0);
    fs::write(site.path("plugins/libcopy.so"), &twin).expect("a site is writable");
    site.vq(&["plan", "s.toml"])
        .expect_code(1)
        .says("both offer the method `sq`")
        .says("plugin = \"FILE\"");
    let named = SQ.replace("use = \"sq\"", "use = \"sq\"\nplugin = \"libcopy.so\"");
    site.write("s.toml", &sweep("[1]", &named));
    site.vq(&["plan", "s.toml"]).expect_code(0);
    // In an earlier place it wins, and a notice names both.
    fs::create_dir(site.path("first")).expect("a site is writable");
    fs::rename(site.path("plugins/libcopy.so"), site.path("first/libcopy.so")).expect("a move");
    site.write("s.toml", &sweep("[1]", SQ));
    let ended = site.vq(&["run", "s.toml", "--plugin-dir", "first"]).expect_code(0);
    assert!(ended.lines("note: method sq is taken from ").len() == 1, "{}", ended.stderr);
    let digests: BTreeSet<String> =
        site.records().into_iter().map(|r| r.method.plugin_digest).collect();
    assert_eq!(digests, BTreeSet::from([blake3::hash(&twin).to_hex().to_string()]));
}

#[test]
fn shipped_plugins_are_found_beside_the_executable() {
    let site = Site::with(&[]);
    fs::create_dir(site.path("bin")).expect("a site is writable");
    let host = site.path("bin/vq-host");
    fs::copy(site.command(&[]).get_program(), &host).expect("a copy");
    let plugin = &shipped()["sq"];
    let name = plugin.file_name().expect("a name");
    fs::copy(plugin, site.path("bin").join(name)).expect("a copy");
    fs::copy(&*ZLATTICE, site.path("bin/libother.so")).expect("a copy");
    let output = std::process::Command::new(&host)
        .args(["methods", "--format", "json"])
        .current_dir(site.path("home"))
        .env_remove("VQ_PLUGIN_PATH")
        .env("HOME", site.path("home"))
        .output()
        .expect("vq-host starts");
    let catalog: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let libraries = catalog["libraries"].as_array().expect("libraries");
    assert_eq!(libraries.len(), 1, "{catalog}");
    assert_eq!(libraries[0]["methods"][0]["id"], "sq");
}

/// Only cells of the file that is not what it was are left, with one line, to the next run.
#[test]
fn a_plugin_that_changes_or_goes_in_the_middle_leaves_its_cells_to_the_next_run() {
    for (gone, how) in [(false, "has other contents"), (true, "cannot be read any more")] {
        let site = long_site();
        let plugin = site.drop_in(&shipped()["sq"]);
        let mut other = fs::read(&plugin).expect("a plugin");
        other.push(0);
        fs::write(site.path("other"), &other).expect("a site is writable");
        let mut run = site.start(&["run", "s.toml"]);
        run.wait_for_cells(2);
        match gone {
            false => fs::rename(site.path("other"), &plugin).expect("our files"),
            true => fs::rename(&plugin, site.path("other")).expect("our files"),
        }
        let ended = run.end().expect_code(3).says(how).says("cells are left: run again");
        assert_eq!(ended.stderr.matches("of it left to the next run").count(), 1);
        let records = site.records();
        assert!(records.iter().all(|record| record.outcome == Outcome::Ok));
        assert_eq!(records.iter().filter(|r| r.method.id == "zlattice").count(), 20);
        let of_sq = records.len() - 20;
        assert!((2..20).contains(&of_sq), "{of_sq}");
        let left = format!(": {} cells of it left", 20 - of_sq);
        assert!(ended.stderr.contains(&left), "{left} is missing in:\n{}", ended.stderr);
        if gone {
            fs::rename(site.path("other"), &plugin).expect("our files");
        }
        site.vq(&["run", "s.toml"]).expect_code(0);
    }
}

/// A cell that ends badly because its code was pulled away from under it is nobody's fault.
#[test]
fn a_plugin_that_is_overwritten_under_its_cell_is_not_blamed_for_how_that_ends() {
    let site = Site::with(std::slice::from_ref(&MISBEHAVING));
    let method = "[[method]]\nuse = \"bad_abort\"\n\n[[method]]\nuse = \"bad_hang\"\n";
    site.write("s.toml", &sweep("[1]", method));
    let plugin = site.path("plugins").join(MISBEHAVING.file_name().expect("a name"));
    let whole = fs::read(&plugin).expect("a plugin");
    let mut run = site.start(&["run", "s.toml", "--timeout", "4s"]);
    run.wait_for_cells(1);
    std::thread::sleep(Duration::from_secs(1));
    let file = fs::File::options().write(true).open(&plugin).expect("our file");
    file.set_len(whole.len() as u64 / 2).expect("our file");
    run.end().expect_code(3).says("has other contents").says("left: run again");
    let records = site.records();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].method.id, "bad_abort");
}

#[test]
fn the_host_names_no_method() {
    let site = Site::shipped();
    let catalog = site.vq(&["methods", "--format", "json"]).expect_code(0).json();
    let mut ids: BTreeSet<String> = shipped().keys().cloned().collect();
    for library in catalog["libraries"].as_array().expect("libraries") {
        for method in library["methods"].as_array().expect("methods") {
            ids.insert(text(&method["id"]));
        }
    }
    assert!(ids.len() >= shipped().len());
    let mut folders = vec![workspace().join("host/src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("sources") {
            let path = entry.expect("a source").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            for (at, line) in (1..).zip(text.lines()) {
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                // A cast of a pointer or a type is Rust's word.
                let of_rust = [".cast(", "::cast::"].iter().any(|cast| line.contains(cast));
                // So is this one the word for a step that the host takes before any method.
                let of_steps = path.to_string_lossy().contains("transform");
                let names = |w: &str| ids.contains(w) && !(of_steps && w == "pca");
                if words.any(names) && !of_rust {
                    found.push(format!("{}:{at}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
