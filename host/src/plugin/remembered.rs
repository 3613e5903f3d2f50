//! What libraries said of themselves, kept beside prepared data, so that a command opens only those
//! that it never met, and one that hangs or crashes does so once.
//!
//! ```text
//! CACHE/plugins/KEY.json       KEY: of the file, of what it needs, of the sandbox and of this host
//! CACHE/plugins/KEY.grid.json  what a method in Python proposed; KEY: also of the method and the request
//! ```
//! A note is taken for what a library might have said just now, not for more: it is held against
//! the same rules, and whoever opens the library for a cell compares its digest first.

use super::discover::AllDescribed;
use super::discover::Candidate;
use super::{Described, Digests, Library, LibraryDescription, Refusal};
use nix::unistd::getuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use vq_plugin_api::GridRequest;
use vq_plugin_api::handle::Proposal;

const FOLDER: &str = "plugins";
/// A longer note is none of ours.
const MAX_BYTES: u64 = 16 << 20;
/// Notes of this age are made again: libraries that are gone leave theirs behind.
const KEPT_FOR: Duration = Duration::from_secs(180 * 24 * 3600);
/// What to do about a failure that is remembered.
const AGAIN: &str = "; `vq-host methods --refresh` asks it again";

/// The notes of one cache.
#[derive(Clone, Debug)]
pub struct Remembered {
    folder: PathBuf,
    host: String,
    sandbox: bool,
}

/// What a library is asked under, and what it said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    host: String,
    sandbox: bool,
    file: String,
    needs: Option<String>,
    said: Said,
}

/// What a method in Python proposed.
#[derive(Debug, Serialize, Deserialize)]
struct Expanded {
    asked: String,
    answers: Vec<Vec<Proposal>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Offers(LibraryDescription),
    Refused { reason: String, remedy: String },
}

impl Remembered {
    /// Those in `cache` of libraries that this program described in its sandbox, or without it.
    pub fn in_cache(cache: &Path, sandbox: bool) -> Self {
        Remembered { folder: cache.join(FOLDER), host: host(), sandbox }
    }

    /// What each of `candidates` says of itself, in their order: as remembered, or, if it is
    /// `fresh` or not known, as `ask` learns, which is remembered.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn describe(
        &self,
        candidates: &[Candidate],
        fresh: bool,
        ask: &mut dyn FnMut(&[&Candidate]) -> AllDescribed,
    ) -> AllDescribed {
        let recall = |of: &Candidate| if fresh { None } else { self.recall(of) };
        let mut known: Vec<Option<Described>> = candidates.iter().map(recall).collect();
        let unknown: Vec<usize> = (0..known.len()).filter(|i| known[*i].is_none()).collect();
        if !unknown.is_empty() {
            let asked: Vec<&Candidate> = unknown.iter().map(|i| &candidates[*i]).collect();
            for (i, described) in unknown.into_iter().zip(ask(&asked)?) {
                self.keep(&candidates[i].digests, &described);
                known[i] = Some(described);
            }
        }
        Ok(known.into_iter().flatten().collect())
    }

    fn recall(&self, of: &Candidate) -> Option<Described> {
        let note: Note = taken(&self.file(&of.digests))?;
        let same = note.host == self.host
            && note.sandbox == self.sandbox
            && note.file == of.digests.file
            && note.needs == of.digests.needs;
        match note.said {
            _ if !same => None,
            Said::Offers(about) => {
                let (found, own) = (about.python.as_ref(), of.python.as_deref());
                let installed = found.is_none_or(|python| python.holds(&of.path, own));
                (installed && about.check().is_ok()).then_some(Ok(about))
            }
            Said::Refused { reason, remedy } => {
                let path = of.path.clone();
                Some(Err(Refusal { path, reason, remedy: remedy + AGAIN, lasting: true }))
            }
        }
    }

    /// Without a place to keep it, the next command asks again.
    fn keep(&self, digests: &Digests, described: &Described) {
        let said = match described {
            Ok(about) => Said::Offers(about.clone()),
            Err(Refusal { reason, remedy, lasting: true, .. }) => {
                Said::Refused { reason: reason.clone(), remedy: remedy.clone() }
            }
            // What was remembered before is no better.
            Err(_) => return drop(fs::remove_file(self.file(digests))),
        };
        let Digests { file, needs } = digests.clone();
        let note = Note { host: self.host.clone(), sandbox: self.sandbox, file, needs, said };
        let _ = self.write(&self.file(digests), &note);
    }

    /// The configurations that the Python method `id` of `library` proposes for `requests`: as
    /// remembered, or as `ask` learns. A library's is asked for each time: that starts no interpreter.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn expand<E>(
        &self,
        library: &Library,
        id: &str,
        requests: Vec<GridRequest>,
        ask: impl FnOnce(Vec<GridRequest>) -> Result<Vec<Vec<Proposal>>, E>,
    ) -> Result<Vec<Vec<Proposal>>, E> {
        if library.about.python.is_none() {
            return ask(requests);
        }
        let asked = serde_json::to_string(&(id, &requests)).unwrap_or_default();
        let mut key = blake3::Hasher::new();
        key.update(self.file(&library.digests()).as_os_str().as_encoded_bytes());
        key.update(asked.as_bytes());
        let path = self.folder.join(format!("{}.grid.json", key.finalize().to_hex()));
        if let Some(note) = taken::<Expanded>(&path).filter(|note| note.asked == asked) {
            return Ok(note.answers);
        }
        let answers = ask(requests)?;
        let note = Expanded { asked, answers };
        let _ = self.write(&path, &note);
        Ok(note.answers)
    }

    fn write(&self, path: &Path, note: &impl Serialize) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.forget_old();
        let mut new = tempfile::NamedTempFile::new_in(&self.folder)?;
        new.write_all(&serde_json::to_vec(note)?)?;
        new.persist(path)?;
        Ok(())
    }

    fn forget_old(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > KEPT_FOR);
            if modified.is_ok_and(old) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn file(&self, digests: &Digests) -> PathBuf {
        let mut key = blake3::Hasher::new();
        let needs = digests.needs.as_deref().unwrap_or_default();
        let sandbox = if self.sandbox { "sandbox" } else { "" };
        for part in [&self.host, &digests.file, needs, sandbox] {
            key.update(part.as_bytes()).update(&[0]);
        }
        self.folder.join(format!("{}.json", key.finalize().to_hex()))
    }
}

/// The note at `path`, if it is ours and not too old.
fn taken<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let old = meta.modified().ok()?.elapsed().is_ok_and(|age| age > KEPT_FOR);
    if !is_ours(&meta) || meta.len() > MAX_BYTES || old {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether a note is this user's, and nobody else may have written it.
fn is_ours(meta: &Metadata) -> bool {
    meta.is_file() && meta.uid() == getuid().as_raw() && meta.mode() & 0o022 == 0
}

/// This very program: one that was built again may ask for other things.
fn host() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let meta = std::env::current_exe().and_then(fs::metadata);
    meta.map_or_else(
        |_| version.to_owned(),
        |of| format!("{version} {} {}.{:09}", of.len(), of.mtime(), of.mtime_nsec()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use vq_plugin_api::handle::Descriptor;

    fn candidate(digest: &str) -> Candidate {
        let digests = Digests { file: digest.into(), needs: None };
        Candidate { path: format!("/some/{digest}.so").into(), digests, python: None }
    }

    fn offers(id: &str) -> LibraryDescription {
        let text = String::new;
        let methods = vec![Descriptor {
            id: id.into(),
            name: text(),
            version: text(),
            description: text(),
            paper: text(),
            authors: text(),
            license: text(),
            homepage: text(),
            tags: text(),
            needs_training: false,
            deterministic: true,
            thread_safe: true,
            extensions: Vec::new(),
            params: Vec::new(),
        }];
        LibraryDescription {
            sdk: "c".into(),
            abi: (1, 0),
            layout_checked: false,
            python: None,
            methods,
        }
    }

    fn refusal(lasting: bool) -> Described {
        let (reason, remedy) = ("it hangs".to_owned(), "report it".to_owned());
        Err(Refusal { path: "/some/b.so".into(), reason, remedy, lasting })
    }

    /// Ids or remedies, and which libraries were asked.
    fn ask(notes: &Remembered, fresh: bool, answers: &[(&str, Described)]) -> (Vec<String>, usize) {
        let candidates: Vec<_> = answers.iter().map(|(digest, _)| candidate(digest)).collect();
        let mut asked = 0;
        let described = notes.describe(&candidates, fresh, &mut |unknown| {
            asked += unknown.len();
            let answer = |of: &&Candidate| {
                let named = |(digest, _): &&(&str, _)| of.path.ends_with(format!("{digest}.so"));
                answers.iter().find(named).unwrap().1.clone()
            };
            Ok(unknown.iter().map(answer).collect())
        });
        let text = |described: Described| match described {
            Ok(about) => about.methods[0].id.clone(),
            Err(refusal) => refusal.remedy,
        };
        (described.unwrap().into_iter().map(text).collect(), asked)
    }

    #[test]
    fn a_library_is_asked_once_and_a_failure_says_how_to_ask_again() {
        let cache = tempfile::tempdir().unwrap();
        let notes = Remembered::in_cache(cache.path(), true);
        let answers = [("a", Ok(offers("m"))), ("b", refusal(true)), ("c", refusal(false))];
        let (texts, asked) = ask(&notes, false, &answers);
        assert_eq!((texts, asked), (vec!["m".into(), "report it".into(), "report it".into()], 3));
        let (texts, asked) = ask(&notes, false, &answers);
        let again = format!("report it{AGAIN}");
        assert_eq!((texts, asked), (vec!["m".into(), again, "report it".into()], 1));
        let healed = [("a", Ok(offers("m"))), ("b", Ok(offers("n")))];
        assert_eq!(ask(&notes, true, &healed), (vec!["m".into(), "n".into()], 2));
        assert_eq!(ask(&notes, false, &healed), (vec!["m".into(), "n".into()], 0));
        let without = Remembered::in_cache(cache.path(), false);
        assert_eq!(
            ask(&without, false, &healed).1,
            2,
            "without a sandbox it may say another thing"
        );
        let other = Remembered { host: "another".into(), ..notes.clone() };
        assert_eq!(ask(&other, false, &healed).1, 2);
    }

    #[test]
    fn a_note_that_is_damaged_or_not_its_own_is_ignored() {
        let cache = tempfile::tempdir().unwrap();
        let notes = Remembered::in_cache(cache.path(), true);
        let answers = [("a", Ok(offers("m")))];
        let path = notes.file(&candidate("a").digests);
        let damage: [&dyn Fn(&str) -> String; 5] = [
            &|text| text[..text.len() - 1].to_owned(),
            &|_| String::new(),
            &|text| text.replace("\"m\"", "\"M\\u001b[2J\""),
            &|text| text.replace("\"file\":\"a\"", "\"file\":\"b\""),
            &|text| text.replace("\"host\"", "\"hosts\""),
        ];
        for damage in damage {
            ask(&notes, true, &answers);
            let text = fs::read_to_string(&path).unwrap();
            assert_ne!(damage(&text), text);
            fs::write(&path, damage(&text)).unwrap();
            assert_eq!(ask(&notes, false, &answers), (vec!["m".into()], 1));
        }
        ask(&notes, true, &answers);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(ask(&notes, false, &answers).1, 1, "anybody may have written it");
        assert_eq!(ask(&notes, false, &answers).1, 0);
    }

    #[test]
    fn where_nothing_can_be_kept_each_command_asks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let notes = Remembered::in_cache(file.path(), true);
        for _ in 0..2 {
            assert_eq!(ask(&notes, false, &[("a", Ok(offers("m")))]), (vec!["m".into()], 1));
        }
    }
}
