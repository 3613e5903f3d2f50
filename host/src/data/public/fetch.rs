//! One file over HTTP: whole or not at all, and from where an earlier try ended.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::PublicFile;
use crate::data::error::cache_io;
use crate::data::room::has_room;
use crate::data::turn::Turn;
use crate::data::{DataError, OnProgress, Progress};

/// What a server may take to be reached, and for each answer and read.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that may break off before it is given up; one that brought something is not counted.
const TRIES: usize = 4;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 2000 });
/// Bytes taken at a time.
const TAKEN: usize = 1 << 18;
/// u32 rows, u32 dimensions.
const HEADER: u64 = 8;

/// What is known of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    address: String,
    /// What the server calls this edition of it.
    edition: Option<String>,
    /// BLAKE3, in hex, of the file that was fetched first.
    digest: Option<String>,
}

impl About {
    fn read(path: &Path) -> Self {
        let known = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        known.unwrap_or_default()
    }

    fn write(&self, path: &Path) -> Result<(), DataError> {
        let text = serde_json::to_vec_pretty(self).expect("text has a JSON form");
        // Whole or not at all: without it a trusted digest would be lost.
        let beside = path.with_extension("json.new");
        fs::write(&beside, text).map_err(cache_io("write", &beside))?;
        fs::rename(&beside, path).map_err(cache_io("write", path))
    }
}

/// Where a file and what belongs to it are.
struct Places {
    whole: PathBuf,
    part: PathBuf,
    about: PathBuf,
}

/// Fetches `file` into `folder`, and answers where it is.
pub(super) fn fetch(
    file: &PublicFile,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<PathBuf, DataError> {
    fs::create_dir_all(folder).map_err(cache_io("create", folder))?;
    let _turn = Turn::take(folder, file.name, progress)?;
    let at = |end: &str| folder.join(format!("{}{end}", file.name));
    let places = Places { whole: at(""), part: at(".part"), about: at(".json") };
    let mut about = About::read(&places.about);
    if places.whole.is_file() && about.digest.is_some() {
        return Ok(places.whole);
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(PATIENCE))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        // A part of what was compressed on the way is a part of nothing.
        .accept_encoding("identity")
        .user_agent(concat!("vq-host/", env!("CARGO_PKG_VERSION")));
    // A proxy of the environment does not reach the tests' servers.
    let config = if cfg!(test) { config.proxy(None) } else { config };
    let agent = Agent::new_with_config(config.build());
    if about.address != file.address {
        about = About { address: file.address.clone(), ..About::default() };
        remove(&places.part)?;
    }
    let mut tries = 0;
    loop {
        let before = length(&places.part);
        match attempt(&agent, file, &places, &mut about, progress) {
            Ok(()) => break,
            Err(Broken::For(error)) => return Err(error),
            Err(Broken::Off(how)) => {
                tries = if length(&places.part) > before { 0 } else { tries + 1 };
                if tries == TRIES {
                    return Err(failed(file, how));
                }
                thread::sleep(PAUSE);
            }
        }
    }
    finish(file, &places, about, progress)?;
    Ok(places.whole)
}

/// Why an attempt ended.
enum Broken {
    /// The connection did: another one may go on.
    Off(String),
    /// There is no going on.
    For(DataError),
}

impl From<DataError> for Broken {
    fn from(error: DataError) -> Self {
        Self::For(error)
    }
}

fn failed(file: &PublicFile, reason: impl Into<String>) -> DataError {
    DataError::Fetch { address: file.address.clone(), reason: reason.into() }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |of| of.len())
}

fn remove(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(cache_io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What a server calls an edition: only what it compares byte by byte lets parts be joined.
fn edition(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(header::ETAG).filter(|of| !of.starts_with("W/")).or_else(|| text(header::LAST_MODIFIED))
}

/// Whether an answer is of another edition than the one called `known`. Where it says nothing, it is
/// of this one: that is what was asked for.
fn is_another(headers: &HeaderMap, known: Option<&str>) -> bool {
    let Some(known) = known else { return false };
    let same = if known.starts_with('"') { header::ETAG } else { header::LAST_MODIFIED };
    headers.get(same).is_some_and(|of| of.as_bytes() != known.as_bytes())
}

/// What `Content-Range` has before and behind its slash: the part that comes, and the bytes of the
/// whole, which a server need not know.
fn content_range(headers: &HeaderMap) -> Option<(&str, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    match text.strip_prefix("bytes ")?.split_once('/')? {
        (part, "*") => Some((part, None)),
        (part, whole) => Some((part, Some(whole.parse().ok()?))),
    }
}

/// The first byte that comes, and how many the whole has.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (part, whole) = content_range(headers)?;
    Some((part.split_once('-')?.0.parse().ok()?, whole))
}

/// Takes what comes of one connection.
fn attempt(
    agent: &Agent,
    file: &PublicFile,
    places: &Places,
    about: &mut About,
    progress: OnProgress<'_>,
) -> Result<(), Broken> {
    let wanted = file.first.map(|(rows, bytes)| HEADER + u64::from(rows) * bytes);
    let mut have = length(&places.part);
    if about.edition.is_none() && have > 0 {
        // Of what else it could be the beginning nobody knows.
        remove(&places.part)?;
        have = 0;
    }
    if wanted == Some(have) {
        return Ok(());
    }
    let mut request = agent.get(&file.address);
    if have > 0 || wanted.is_some() {
        let last = wanted.map_or_else(String::new, |all| (all - 1).to_string());
        request = request.header(header::RANGE, format!("bytes={have}-{last}"));
    }
    if let Some(edition) = about.edition.as_ref().filter(|_| have > 0) {
        request = request.header(header::IF_RANGE, edition);
    }
    let response = request.call().map_err(|error| Broken::Off(error.to_string()))?;
    let another = have > 0 && is_another(response.headers(), about.edition.as_deref());
    let all = match response.status() {
        StatusCode::OK => {
            // Before the new edition is written down: nobody takes this for a part of it.
            remove(&places.part)?;
            have = 0;
            let length = response.headers().get(header::CONTENT_LENGTH);
            length.and_then(|of| of.to_str().ok()?.parse().ok())
        }
        StatusCode::PARTIAL_CONTENT if another => {
            remove(&places.part)?;
            return Err(Broken::Off("it sends a part of another edition".into()));
        }
        StatusCode::PARTIAL_CONTENT => match range(response.headers()) {
            Some((first, all)) if first == have => all,
            _ => return Err(failed(file, "it sends another part than was asked for").into()),
        },
        StatusCode::RANGE_NOT_SATISFIABLE
            if have > 0
                && wanted.is_none()
                && !another
                && content_range(response.headers()) == Some(("*", Some(have))) =>
        {
            return Ok(());
        }
        // It is a shorter one by now, or does not say how long.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            remove(&places.part)?;
            return Err(Broken::Off("it has no more bytes than came before".into()));
        }
        other if other.is_server_error() => return Err(Broken::Off(format!("it answers {other}"))),
        other => return Err(failed(file, format!("it answers {other}")).into()),
    };
    let total = match (wanted, all) {
        (Some(wanted), Some(all)) if all < wanted => {
            return Err(failed(file, format!("it has {all} bytes, {wanted} are needed")).into());
        }
        (wanted, all) => wanted.or(all),
    };
    if have == 0 {
        about.edition = edition(response.headers());
        about.write(&places.about)?;
    }
    has_room(
        places.part.parent().unwrap_or(Path::new(".")),
        total.unwrap_or(0).saturating_sub(have),
    )
    .map_err(cache_io("write", &places.part))?;
    take(response, (have, total), places, progress)
}

/// Appends a body to what there is: `have` bytes of `total`, where that is known.
fn take(
    response: Response<Body>,
    (have, total): (u64, Option<u64>),
    places: &Places,
    progress: OnProgress<'_>,
) -> Result<(), Broken> {
    let write = |error| Broken::For(cache_io("write", &places.part)(error));
    let mut out = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&places.part)
        .map_err(cache_io("open", &places.part))?;
    out.set_len(have).map_err(write)?;
    let mut body = response.into_body().into_reader();
    let mut bytes = vec![0; TAKEN];
    let mut done = have;
    loop {
        progress(Progress { stage: "fetch", done, total: total.unwrap_or(done).max(1) })?;
        let left = total.map_or(u64::MAX, |total| total - done);
        let most = TAKEN.min(usize::try_from(left).unwrap_or(TAKEN));
        if most == 0 {
            break;
        }
        match body.read(&mut bytes[..most]) {
            Ok(0) => break,
            Ok(read) => {
                out.write_all(&bytes[..read]).map_err(write)?;
                done += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Off(error.to_string())),
        }
    }
    match total {
        Some(total) if done < total => {
            Err(Broken::Off(format!("it ended after {done} of {total} bytes")))
        }
        _ => out.sync_all().map_err(write),
    }
}

/// How an HDF5 file begins.
const HDF5: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// Whether what came is what the catalogue says, and not the page of a server that says something
/// else.
fn is_such(file: &PublicFile, fetched: &File) -> std::io::Result<bool> {
    let length = fetched.metadata()?.len();
    let mut head = [[0; 4]; 2];
    if length < HEADER {
        return Ok(false);
    }
    fetched.read_exact_at(head.as_flattened_mut(), 0)?;
    if file.name.ends_with(".hdf5") {
        return Ok(head.as_flattened() == HDF5);
    }
    let [rows, dim] = head.map(|word| u64::from(u32::from_le_bytes(word)));
    // Bytes of a value; neighbours may have their distances behind them.
    let values: &[u64] = match file.name.rsplit_once('.') {
        Some((_, "u8bin")) => &[1],
        Some((_, "ibin")) => &[4, 8],
        _ => &[4],
    };
    Ok(values.iter().any(|value| match file.first {
        Some((first, bytes)) => rows >= u64::from(first) && dim * value == bytes,
        None => {
            let of_rows = u128::from(rows) * u128::from(dim) * u128::from(*value);
            of_rows > 0 && u128::from(HEADER) + of_rows == u128::from(length)
        }
    }))
}

/// Makes the part the file: with a header of its own where it is a beginning, and of the digest that it
/// had before.
fn finish(
    file: &PublicFile,
    places: &Places,
    mut about: About,
    progress: OnProgress<'_>,
) -> Result<(), DataError> {
    let Places { whole, part, about: place } = places;
    let io = |error| cache_io("read", part)(error);
    let mut fetched = File::options().read(true).write(true).open(part).map_err(io)?;
    if !is_such(file, &fetched).map_err(io)? {
        remove(part)?;
        let kind = file.name.rsplit('.').next().unwrap_or_default();
        return Err(failed(file, format!("what it sends is no .{kind} file")));
    }
    if let Some((rows, _)) = file.first {
        fetched.write_all_at(&rows.to_le_bytes(), 0).map_err(cache_io("write", part))?;
    }
    let total = length(part);
    let mut digest = blake3::Hasher::new();
    let mut bytes = vec![0; TAKEN];
    let mut done = 0;
    loop {
        let read = fetched.read(&mut bytes).map_err(cache_io("read", part))?;
        if read == 0 {
            break;
        }
        digest.update(&bytes[..read]);
        done += read as u64;
        progress(Progress { stage: "digest", done, total })?;
    }
    let found = digest.finalize().to_hex().to_string();
    if let Some(first) = about.digest.filter(|first| *first != found) {
        remove(part)?;
        let (address, about) = (file.address.clone(), place.clone());
        return Err(DataError::AnotherFile { address, about, first, found });
    }
    about.digest = Some(found);
    about.write(place)?;
    fetched.sync_all().map_err(cache_io("write", part))?;
    fs::rename(part, whole).map_err(cache_io("write", whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    /// What a server does with the next request.
    #[derive(Clone, Copy)]
    enum Does {
        /// Sends what is asked for.
        All,
        /// Breaks off after so many bytes of the body.
        Cut(usize),
        /// Sends the whole, whatever part is asked for.
        Whole,
        /// Sends the part that is asked for, of whatever edition, and says nothing of the whole.
        Part,
        /// Answers this line.
        Says(&'static str),
    }

    /// A server on this machine that does one thing after the other, the last one ever again.
    struct Server {
        address: String,
        /// What was asked: the ranges.
        asked: Arc<Mutex<Vec<Option<String>>>>,
        content: Arc<Mutex<(Vec<u8>, &'static str)>>,
    }

    impl Server {
        fn start(content: &[u8], does: &'static [Does]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}/a.u8bin", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let content = Arc::new(Mutex::new((content.to_vec(), "\"one\"")));
            let (log, of) = (Arc::clone(&asked), Arc::clone(&content));
            thread::spawn(move || {
                for (i, stream) in listener.incoming().enumerate() {
                    let (content, edition) = of.lock().unwrap().clone();
                    let does = does[i.min(does.len() - 1)];
                    let stream = stream.unwrap();
                    let (range, same) = heard(&stream, edition);
                    // Before the answer: whoever has it may look here.
                    log.lock().unwrap().push(range.clone());
                    let same = same || matches!(does, Does::Part);
                    answer(stream, &content, edition, does, range.filter(|_| same));
                }
            });
            Self { address, asked, content }
        }

        fn file(&self) -> PublicFile {
            let (key, name) = ("base", "a.u8bin");
            PublicFile { key, address: self.address.clone(), name, first: None }
        }

        fn asked(&self) -> Vec<Option<String>> {
            self.asked.lock().unwrap().clone()
        }
    }

    /// The part that is asked for, and whether it may be of this edition.
    fn heard(stream: &TcpStream, edition: &str) -> (Option<String>, bool) {
        let mut range = None;
        let mut same = true;
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            match line.to_ascii_lowercase().split_once(": ") {
                Some(("range", of)) => range = of.strip_prefix("bytes=").map(str::to_owned),
                Some(("if-range", of)) => same = of == edition.to_ascii_lowercase(),
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        (range, same)
    }

    fn answer(
        mut stream: TcpStream,
        content: &[u8],
        edition: &str,
        does: Does,
        range: Option<String>,
    ) {
        let all = content.len();
        let part = range.as_deref().filter(|_| !matches!(does, Does::Whole));
        let (first, last) = match part.and_then(|of| of.split_once('-')) {
            Some((first, last)) => {
                let last = last.parse::<usize>().map_or(all, |last| (last + 1).min(all));
                (first.parse().unwrap(), last)
            }
            None => (0, all),
        };
        let status = match (does, part) {
            (Does::Says(line), _) => line.to_owned(),
            (_, Some(_)) if first >= all => {
                format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{all}")
            }
            (Does::Part, Some(_)) => {
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{}/*", last - 1)
            }
            (_, Some(_)) => {
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{}/{all}", last - 1)
            }
            (_, None) => "200 OK".to_owned(),
        };
        let body = content.get(first..last).unwrap_or(&[]);
        let head = format!(
            "HTTP/1.1 {status}\r\nETag: {edition}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let sent = if let Does::Cut(most) = does { most.min(body.len()) } else { body.len() };
        // Whoever has enough does not wait for the rest.
        let _sent =
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
    }

    /// A file of `n` bytes: its header, then one row.
    fn content(n: usize) -> Vec<u8> {
        let row = (0..n - 8).map(|i| (i * 7 % 251) as u8);
        [1, n as u32 - 8].into_iter().flat_map(u32::to_le_bytes).chain(row).collect()
    }

    fn quiet(_: Progress) -> Result<(), DataError> {
        Ok(())
    }

    #[test]
    fn what_breaks_off_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let expected = content(700_000);
        let server = Server::start(&expected, &[Does::Cut(300_000), Does::Cut(100), Does::All]);
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let asked = server.asked();
        let starts = ["300000-".to_owned(), "300100-".to_owned()].map(Some);
        assert_eq!((&asked[0], &asked[1..]), (&None, &starts[..]));
        assert!(!folder.path().join("a.u8bin.part").exists());
        // It is here, so nothing is asked.
        assert_eq!(fetch(&server.file(), folder.path(), &quiet).unwrap(), path);
        assert_eq!(server.asked().len(), 3);
    }

    #[test]
    fn who_is_interrupted_goes_on_later_and_another_edition_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(900_000), &[Does::All]);
        let until = |most: u64| {
            move |of: Progress| match of.done > most {
                true => Err(DataError::Interrupted),
                false => Ok(()),
            }
        };
        let error = fetch(&server.file(), folder.path(), &until(200_000)).unwrap_err();
        assert!(matches!(error, DataError::Interrupted));
        let part = folder.path().join("a.u8bin.part");
        let came = length(&part);
        assert!((200_000..900_000).contains(&came), "{came}");
        *server.content.lock().unwrap() = (content(500_000), "\"two\"");
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(path).unwrap(), content(500_000));
        assert_eq!(server.asked()[1], Some(format!("{came}-")));
    }

    #[test]
    fn a_server_that_knows_no_parts_sends_all_again() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(400_000), &[Does::Cut(300_000), Does::Whole]);
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(path).unwrap(), content(400_000));
    }

    #[test]
    fn what_is_fetched_again_has_to_be_what_was_fetched_first() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(1000), &[Does::All]);
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        fs::remove_file(&path).unwrap();
        fetch(&server.file(), folder.path(), &quiet).unwrap();
        fs::remove_file(&path).unwrap();
        *server.content.lock().unwrap() = (content(1001), "\"two\"");
        let error = fetch(&server.file(), folder.path(), &quiet).unwrap_err();
        let about = folder.path().join("a.u8bin.json");
        assert!(matches!(&error, DataError::AnotherFile { about: of, .. } if *of == about));
        assert!(error.to_string().contains("a.u8bin.json keeps another digest"), "{error}");
        assert!(!path.exists() && !folder.path().join("a.u8bin.part").exists());
    }

    #[test]
    fn of_a_large_file_its_beginning_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        // 1000 rows of 4 bytes, of which the first 30 are wanted.
        let mut large = [1000_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat();
        large.extend(&content(4008)[8..]);
        let expected = [&30_u32.to_le_bytes(), &large[4..8 + 120]].concat();
        for does in [&[Does::All], &[Does::Whole]] {
            let server = Server::start(&large, does);
            let file = PublicFile { first: Some((30, 4)), ..server.file() };
            let path = fetch(&file, folder.path(), &quiet).unwrap();
            assert_eq!(fs::read(&path).unwrap(), expected);
            assert_eq!(server.asked(), [Some("0-127".to_owned())]);
            fs::remove_file(path).unwrap();
            let more = PublicFile { first: Some((1001, 4)), ..server.file() };
            let error = fetch(&more, folder.path(), &quiet).unwrap_err().to_string();
            assert!(error.ends_with("it has 4008 bytes, 4012 are needed"), "{error}");
        }
    }

    /// A part of `content`, as a process leaves it that is killed.
    fn left(folder: &Path, file: &PublicFile, content: &[u8]) {
        fs::write(folder.join("a.u8bin.part"), content).unwrap();
        let (address, edition) = (file.address.clone(), Some("\"one\"".to_owned()));
        About { address, edition, digest: None }.write(&folder.join("a.u8bin.json")).unwrap();
    }

    #[test]
    fn a_part_of_another_edition_is_joined_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(500), &[Does::Part]);
        left(folder.path(), &server.file(), &content(400)[..300]);
        *server.content.lock().unwrap() = (content(500), "\"two\"");
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(path).unwrap(), content(500));
        assert_eq!(server.asked(), [Some("300-".to_owned()), None]);
    }

    #[test]
    fn of_a_whole_whose_length_nobody_tells_the_rest_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(500), &[Does::Part]);
        left(folder.path(), &server.file(), &content(500)[..300]);
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(path).unwrap(), content(500));
        assert_eq!(server.asked(), [Some("300-".to_owned())]);
    }

    #[test]
    fn a_part_that_is_all_of_it_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&content(500), &[Does::All]);
        left(folder.path(), &server.file(), &content(500));
        let path = fetch(&server.file(), folder.path(), &quiet).unwrap();
        assert_eq!(fs::read(path).unwrap(), content(500));
        assert_eq!(server.asked(), [Some("500-".to_owned())]);
    }

    #[test]
    fn what_is_not_what_the_catalogue_says_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let page = b"<html>please sign in to this network</html>";
        let server = Server::start(page, &[Does::Whole]);
        let of = |name, first| PublicFile { name, first, ..server.file() };
        for file in [
            of("a.hdf5", None),
            of("a.u8bin", None),
            of("a.ibin", None),
            of("a.fbin", Some((2, 16))),
        ] {
            let error = fetch(&file, folder.path(), &quiet).unwrap_err().to_string();
            let (_, kind) = file.name.split_once('.').unwrap();
            assert!(error.ends_with(&format!("what it sends is no .{kind} file")), "{error}");
        }
        let mut names = fs::read_dir(folder.path()).unwrap().map(|of| of.unwrap().file_name());
        assert!(names.all(|name| name.to_string_lossy().ends_with(".json")));
        *server.content.lock().unwrap() = ([&HDF5[..], b"more"].concat(), "\"two\"");
        fetch(&of("a.hdf5", None), folder.path(), &quiet).unwrap();
    }

    #[test]
    fn what_cannot_be_had_is_told_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&[], &[Does::Says("404 Not Found")]);
        let error = fetch(&server.file(), folder.path(), &quiet).unwrap_err().to_string();
        assert!(error.ends_with("it answers 404 Not Found"), "{error}");
        assert_eq!(server.asked().len(), 1, "nobody asks again");
        let busy = Server::start(&[], &[Does::Says("503 Service Unavailable")]);
        let error = fetch(&busy.file(), folder.path(), &quiet).unwrap_err().to_string();
        assert!(error.ends_with("it answers 503 Service Unavailable"), "{error}");
        assert_eq!(busy.asked().len(), TRIES);
        let file = PublicFile { address: "http://127.0.0.1:1/a.u8bin".into(), ..server.file() };
        let error = fetch(&file, folder.path(), &quiet).unwrap_err();
        assert!(matches!(error, DataError::Fetch { .. }), "{error}");
    }
}
