//! Bytes that nobody meant, for every parser of ours, in this process: none may panic, take long, or
//! say nothing. What libraries parse alone (HDF5, Parquet, Arrow) is damaged in `tests/foreign`, where a
//! child reads it.
//!
//! ```text
//! VQ_FUZZ_S=600 cargo test --release -p vq-host --lib -- --ignored --nocapture damaged_bytes
//! ```
//!
//! runs so many seconds for each parser, one after the other; `VQ_FUZZ_ONLY=npy` takes one of them,
//! `VQ_FUZZ_SEED` begins elsewhere than the last time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::claimed::Lists;
use super::format::testing::every_format;
use super::reader::Reader;
use super::{look, send};

/// What a small file may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same beside other tests, on a machine that does much else.
const BESIDE_OTHERS: Duration = Duration::from_mins(1);
/// A file grows by splices; beyond this it is taken anew.
const LONGEST: usize = 1 << 14;

/// Numbers that are the same for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let place = self.below(bytes.len());
        let end = (place + 1 + self.below(16)).min(bytes.len());
        const LIES: [&[u8]; 10] = [
            &[0xff; 8],
            &[0; 4],
            &[0xff, 0xff, 0xff, 0x7f],
            &[0, 0, 0, 0x80],
            b"99999999999",
            b"-1",
            b"1e999",
            b"nan",
            b"[[{\"",
            b"\n",
        ];
        match self.below(6) {
            0 => bytes.truncate(place),
            1 if place < bytes.len() => bytes[place] ^= 1 << self.below(8),
            2 => {
                let lie = LIES[self.below(LIES.len())];
                bytes[place..].iter_mut().zip(lie).for_each(|(byte, lie)| *byte = *lie);
            }
            3 => drop(bytes.splice(place..place, LIES[self.below(LIES.len())].iter().copied())),
            4 if place < end => drop(bytes.drain(place..end)),
            _ => {
                let part = bytes[place.min(end)..end].to_vec();
                drop(bytes.splice(place..place, part));
            }
        }
    }
}

/// Reads the file at `path` to its end; the error in one line.
type Parser = fn(&Path) -> Result<(), String>;

fn plain(path: &Path) -> Result<(), String> {
    let reader = Reader::open(path, None).map_err(|e| e.to_string())?;
    let rows = reader.rows();
    let read = reader.walk(rows, false, "read", &|_| Ok(()), |_, _| Ok(()));
    read.map_err(|e| e.to_string())
}

fn parsed(path: &Path) -> Result<(), String> {
    let extension = path.extension().and_then(|of| of.to_str()).unwrap_or_default();
    let shape = look(path, extension, None, false)?;
    send(path, extension, None, shape.rows, &mut std::io::sink())
}

fn neighbours(path: &Path) -> Result<(), String> {
    Lists::read(path).map(drop).map_err(|e| e.to_string())
}

/// A file as it should be, and the parser of ours that reads it.
struct Seed {
    /// Of the file in `format/`, or what it reads.
    parser: &'static str,
    name: String,
    whole: Vec<u8>,
    read: Parser,
}

const PARSERS: [&str; 8] =
    ["fbin", "fvecs", "npy", "delimited", "lines", "safetensors", "npz", "neighbours"];

fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    let mut add = |parser: &'static str, name: &str, whole: Vec<u8>, read: Parser| {
        all.push(Seed { parser, name: name.to_owned(), whole, read });
    };
    for (name, whole) in every_format() {
        let parser = match name.rsplit('.').next() {
            Some("npy") => "npy",
            Some("fvecs" | "BVECS") => "fvecs",
            _ => "fbin",
        };
        add(parser, &name, whole, plain);
    }
    for (name, content) in [
        ("a.csv", "a,b,\"c\"\n1,2.5,-3e2\n4,5,6\n"),
        ("b.csv", "1;2;3\r\n4;5;6\r\n"),
        ("a.tsv", "1\t2\n\n3\t4\n"),
    ] {
        add("delimited", name, content.into(), parsed);
    }
    for (name, content) in [
        ("a.jsonl", "[1, 2.5, -3e2]\n[4, 5, 6]\n"),
        ("b.jsonl", "{\"id\": 1, \"v\": [1, 2]}\n{\"v\": [3, 4], \"id\": 2}\n"),
    ] {
        add("lines", name, content.into(), parsed);
    }
    // Written by the formats' own tools.
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/files");
    for (parser, names) in [
        ("safetensors", ["f4.safetensors", "f2.safetensors", "u1.safetensors"]),
        ("npz", ["f4.npz", "f2.npz", "i1.npz"]),
    ] {
        for name in names {
            add(parser, name, fs::read(files.join(name)).unwrap(), parsed);
        }
    }
    let words = |of: &[u32]| of.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    add("neighbours", "a.ibin", words(&[2, 3, 1, 2, 3, 4, 5, 6]), neighbours);
    add("neighbours", "a.bin", words(&[1, 2, 1, 2, 0, 0]), neighbours);
    add("neighbours", "a.ivecs", words(&[2, 7, 8, 2, 9, 1]), neighbours);
    all
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Damages `whole` for as long as `goes_on` says, by the number of variants so far.
fn try_all(
    Seed { name, whole, read, .. }: &Seed,
    draw: &mut Draw,
    patience: Duration,
    goes_on: impl Fn(u64) -> bool,
) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, whole).unwrap();
    assert_eq!(read(&path), Ok(()), "{name}, as it should be");
    let (mut bytes, mut tried) = (whole.clone(), 0);
    while goes_on(tried) {
        // Damage upon damage, a few times.
        if draw.below(4) == 0 || bytes.is_empty() || bytes.len() > LONGEST {
            bytes.clone_from(whole);
        }
        draw.damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| read(&path)));
        let told = ended.unwrap_or_else(|_| panic!("{name} panics: {bytes:02x?}"));
        assert!(began.elapsed() < patience, "{name} takes long: {bytes:02x?}");
        if let Err(error) = told {
            assert!(!error.trim().is_empty(), "{name} says nothing: {bytes:02x?}");
        }
        tried += 1;
    }
    tried
}

#[test]
fn some_damage_to_each_file_that_we_parse_ourselves_ends_in_rows_or_an_error() {
    let mut draw = Draw(1);
    let seeds = seeds();
    assert!(seeds.iter().all(|seed| PARSERS.contains(&seed.parser)));
    for seed in &seeds {
        try_all(seed, &mut draw, BESIDE_OTHERS, |tried| tried < 200);
    }
}

#[test]
#[ignore = "as long as VQ_FUZZ_S says, for each parser"]
fn damaged_bytes_end_in_rows_or_an_error_for_as_long_as_is_asked() {
    let seconds = variable("VQ_FUZZ_S").unwrap_or(5);
    let only = std::env::var("VQ_FUZZ_ONLY").ok();
    let mut draw = Draw(variable("VQ_FUZZ_SEED").unwrap_or(2));
    let seeds = seeds();
    let chosen = |parser: &&str| only.as_deref().is_none_or(|only| only == *parser);
    assert!(PARSERS.iter().any(chosen), "VQ_FUZZ_ONLY is one of {PARSERS:?}");
    // As long for each parser, however many kinds of files it has.
    for parser in PARSERS.iter().filter(|of| chosen(of)) {
        let of: Vec<&Seed> = seeds.iter().filter(|seed| seed.parser == *parser).collect();
        for seed in &of {
            let until = Instant::now() + Duration::from_secs(seconds) / of.len() as u32;
            let tried = try_all(seed, &mut draw, PATIENCE, |_| Instant::now() < until);
            println!("{parser}: {}: {tried} variants", seed.name);
        }
    }
}
