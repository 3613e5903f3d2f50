//! Sources of plugins in a plugin folder that nobody has built: they offer nothing yet.

use super::Catalog;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::Path;

/// The file that building the source in `folder` makes, if that is a crate of a shared library.
fn library_of(folder: &Path) -> Option<String> {
    let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).ok()?.parse().ok()?;
    let of = |table: &str, key: &str| manifest.get(table)?.get(key);
    let kinds = of("lib", "crate-type")?.as_array()?;
    kinds.iter().any(|kind| kind.as_str() == Some("cdylib")).then_some(())?;
    let name = of("lib", "name").or_else(|| of("package", "name"))?.as_str()?;
    Some(format!("{DLL_PREFIX}{}{DLL_SUFFIX}", name.replace('-', "_")))
}

impl Catalog {
    /// Tells of the sources in the folder `place` whose libraries were found nowhere.
    pub(super) fn tell_unbuilt(&mut self, place: &Path) {
        let found = |file: &str| {
            let named = |path: &Path| path.file_name().is_some_and(|name| name == file);
            self.libraries.iter().any(|library| named(&library.path))
                || self.refused.iter().any(|refused| named(&refused.path))
        };
        let Ok(entries) = fs::read_dir(place) else { return };
        let mut unbuilt: Vec<(String, String)> = entries
            .filter_map(|entry| {
                let folder = entry.ok()?.path();
                let library = library_of(&folder).filter(|library| !found(library))?;
                Some((folder.file_name()?.to_string_lossy().into_owned(), library))
            })
            .collect();
        unbuilt.sort();
        let Some((folder, library)) = unbuilt.first() else { return };
        let names: Vec<&str> = unbuilt.iter().map(|(folder, _)| folder.as_str()).collect();
        let place = place.display();
        self.notices.push(match names.as_slice() {
            [_] => format!(
                "{place}/{folder} is the source of a plugin that is not built: run `cargo build --release` \
                 there and copy target/release/{library} to {place}"
            ),
            names => format!(
                "{place} has sources of plugins that are not built: {}; run `cargo build --release` in each \
                 and copy what it makes in target/release, such as {library}, to {place}",
                names.join(", ")
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::library;

    #[test]
    fn a_source_is_told_until_its_library_is_found() {
        let place = tempfile::tempdir().unwrap();
        let crate_of = |folder: &str, manifest: &str| {
            fs::create_dir(place.path().join(folder)).unwrap();
            fs::write(place.path().join(folder).join("Cargo.toml"), manifest).unwrap();
        };
        crate_of("mine", "[package]\nname = \"my-method\"\n[lib]\ncrate-type = [\"cdylib\"]\n");
        crate_of("tool", "[package]\nname = \"tool\"\n");
        crate_of("broken", "[package\n");
        let mut catalog = Catalog::default();
        catalog.tell_unbuilt(place.path());
        let file = format!("{DLL_PREFIX}my_method{DLL_SUFFIX}");
        let [notice] = catalog.notices.as_slice() else { panic!("{:?}", catalog.notices) };
        assert!(notice.contains("/mine is the source") && notice.contains(&file), "{notice}");

        let mut catalog = Catalog::default();
        catalog.libraries.push(library(format!("/elsewhere/{file}").into(), "1f", Vec::new()));
        catalog.tell_unbuilt(place.path());
        catalog.tell_unbuilt(Path::new("/none"));
        assert!(catalog.notices.is_empty(), "{:?}", catalog.notices);
    }
}
