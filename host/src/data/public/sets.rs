//! The sets themselves. Rows and dimensions are those that their publishers state.

use super::{PublicFile, PublicSet};
use crate::data::Metric;

/// A line of the catalogue.
#[derive(Debug)]
pub(super) struct Listed {
    /// As its publishers call it.
    pub(super) name: &'static str,
    of: &'static str,
    rows: u64,
    dim: u64,
    metric: Metric,
    licence: Option<&'static str>,
    place: Place,
}

/// Whose layout and addresses.
#[derive(Debug)]
enum Place {
    /// ann-benchmarks: one HDF5 file.
    Ann,
    /// VIBE: one HDF5 file.
    Vibe,
    /// big-ann-benchmarks: the beginning of a larger base, queries, and neighbours in that beginning.
    Big { base: &'static str, queries: &'static str, neighbours: &'static str, element: Number },
}

#[derive(Debug, Clone, Copy)]
enum Number {
    F32,
    U8,
}

impl Listed {
    /// What it stands for.
    pub(super) fn set(&self) -> PublicSet {
        let Self { name, of, rows, dim, metric, licence, place } = self;
        let hdf5 = |address: String| {
            vec![PublicFile { key: "base", address, name: "data.hdf5", first: None }]
        };
        let (page, value, files) = match place {
            Place::Ann => (
                "https://github.com/erikbern/ann-benchmarks",
                4,
                hdf5(format!("http://ann-benchmarks.com/{name}.hdf5")),
            ),
            Place::Vibe => (
                "https://huggingface.co/datasets/vector-index-bench/vibe",
                4,
                hdf5(format!(
                    "https://huggingface.co/datasets/vector-index-bench/vibe/resolve/main/{name}.hdf5"
                )),
            ),
            Place::Big { base, queries, neighbours, element } => {
                let (value, names) = match element {
                    Number::F32 => (4, ["base.fbin", "queries.fbin"]),
                    Number::U8 => (1, ["base.u8bin", "queries.u8bin"]),
                };
                let file = |key, address: &str, name, first| PublicFile {
                    key,
                    address: address.to_owned(),
                    name,
                    first,
                };
                // None of these has more than 2³² rows.
                let first = Some((*rows as u32, dim * value));
                let files = vec![
                    file("base", base, names[0], first),
                    file("queries", queries, names[1], None),
                    file("neighbours", neighbours, "neighbours.ibin", None),
                ];
                ("https://big-ann-benchmarks.com", value, files)
            }
        };
        PublicSet {
            name,
            of,
            rows: *rows,
            dim: *dim,
            bytes: rows * dim * value,
            metric: *metric,
            licence: *licence,
            page,
            files,
        }
    }
}

const PDDL: Option<&str> = Some("PDDL 1.0");

const fn ann(
    name: &'static str,
    of: &'static str,
    rows: u64,
    dim: u64,
    metric: Metric,
    licence: Option<&'static str>,
) -> Listed {
    Listed { name, of, rows, dim, metric, licence, place: Place::Ann }
}

const fn vibe(name: &'static str, of: &'static str, rows: u64, dim: u64, metric: Metric) -> Listed {
    Listed { name, of, rows, dim, metric, licence: None, place: Place::Vibe }
}

/// The catalogue. Where VIBE's vectors are of unit length, every metric has the same neighbours.
pub(super) const PUBLIC: &[Listed] = &[
    ann("sift-128-euclidean", "image patches, SIFT", 1_000_000, 128, Metric::L2, None),
    ann("gist-960-euclidean", "images, GIST", 1_000_000, 960, Metric::L2, None),
    ann("glove-25-angular", "words, GloVe", 1_183_514, 25, Metric::Cosine, PDDL),
    ann("glove-50-angular", "words, GloVe", 1_183_514, 50, Metric::Cosine, PDDL),
    ann("glove-100-angular", "words, GloVe", 1_183_514, 100, Metric::Cosine, PDDL),
    ann("glove-200-angular", "words, GloVe", 1_183_514, 200, Metric::Cosine, PDDL),
    ann("deep-image-96-angular", "images, GoogLeNet", 9_990_000, 96, Metric::Cosine, None),
    ann("nytimes-256-angular", "news, bags of words", 290_000, 256, Metric::Cosine, None),
    ann("fashion-mnist-784-euclidean", "pixels", 60_000, 784, Metric::L2, Some("MIT")),
    ann("mnist-784-euclidean", "pixels", 60_000, 784, Metric::L2, None),
    ann("lastfm-64-dot", "music, factors", 292_385, 65, Metric::Cosine, None),
    vibe("agnews-mxbai-1024-euclidean", "news, mxbai", 769_382, 1024, Metric::L2),
    vibe("arxiv-nomic-768-normalized", "abstracts, nomic", 1_344_643, 768, Metric::Cosine),
    vibe("glove-200-cosine", "words, GloVe", 1_192_514, 200, Metric::Cosine),
    vibe("gooaq-distilroberta-768-normalized", "questions", 1_475_024, 768, Metric::Cosine),
    vibe("imagenet-clip-512-normalized", "images, CLIP", 1_281_167, 512, Metric::Cosine),
    vibe("landmark-dino-768-cosine", "images, DINO", 760_757, 768, Metric::Cosine),
    vibe("landmark-nomic-768-normalized", "images, nomic", 760_757, 768, Metric::Cosine),
    vibe("yahoo-minilm-384-normalized", "questions, MiniLM", 677_305, 384, Metric::Cosine),
    vibe("simplewiki-openai-3072-normalized", "articles, OpenAI", 260_372, 3072, Metric::Cosine),
    vibe("codesearchnet-jina-768-cosine", "code, jina", 1_374_067, 768, Metric::Cosine),
    vibe("imagenet-align-640-normalized", "images by texts, ALIGN", 1_281_167, 640, Metric::Cosine),
    vibe("laion-clip-512-normalized", "images by texts, CLIP", 1_000_448, 512, Metric::Cosine),
    vibe("yandex-200-cosine", "images by texts", 1_000_000, 200, Metric::Cosine),
    vibe("yi-128-ip", "keys by queries of attention", 187_843, 128, Metric::Ip),
    vibe("llama-128-ip", "keys by queries of attention", 256_921, 128, Metric::Ip),
    Listed {
        name: "bigann-10m",
        of: "image patches, SIFT",
        rows: 10_000_000,
        dim: 128,
        metric: Metric::L2,
        licence: None,
        place: Place::Big {
            base: "https://dl.fbaipublicfiles.com/billion-scale-ann-benchmarks/bigann/base.1B.u8bin",
            queries: "https://dl.fbaipublicfiles.com/billion-scale-ann-benchmarks/bigann/query.public.10K.u8bin",
            neighbours: "https://dl.fbaipublicfiles.com/billion-scale-ann-benchmarks/GT_10M/bigann-10M",
            element: Number::U8,
        },
    },
    Listed {
        name: "deep-10m",
        of: "images, GoogLeNet",
        rows: 10_000_000,
        dim: 96,
        metric: Metric::L2,
        licence: None,
        place: Place::Big {
            base: "https://storage.yandexcloud.net/yandex-research/ann-datasets/DEEP/base.1B.fbin",
            queries: "https://storage.yandexcloud.net/yandex-research/ann-datasets/DEEP/query.public.10K.fbin",
            neighbours: "https://dl.fbaipublicfiles.com/billion-scale-ann-benchmarks/GT_10M/deep-10M",
            element: Number::F32,
        },
    },
    Listed {
        name: "text2image-10m",
        of: "images by texts",
        rows: 10_000_000,
        dim: 200,
        metric: Metric::Ip,
        licence: None,
        place: Place::Big {
            base: "https://storage.yandexcloud.net/yandex-research/ann-datasets/T2I/base.1B.fbin",
            queries: "https://storage.yandexcloud.net/yandex-research/ann-datasets/T2I/query.public.100K.fbin",
            neighbours: "https://dl.fbaipublicfiles.com/billion-scale-ann-benchmarks/GT_10M/text2image-10M",
            element: Number::F32,
        },
    },
    Listed {
        name: "msturing-10m",
        of: "search queries, Turing",
        rows: 10_000_000,
        dim: 100,
        metric: Metric::L2,
        licence: None,
        place: Place::Big {
            base: "https://comp21storage.z5.web.core.windows.net/comp21/MSFT-TURING-ANNS/base1b.fbin",
            queries: "https://comp21storage.z5.web.core.windows.net/comp21/MSFT-TURING-ANNS/query100K.fbin",
            neighbours: "https://comp21storage.z5.web.core.windows.net/comp21/MSFT-TURING-ANNS/msturing-gt-10M",
            element: Number::F32,
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_set_has_a_base_and_a_name_of_its_own_that_can_be_a_folder() {
        let names: HashSet<&str> = PUBLIC.iter().map(|of| of.name).collect();
        assert_eq!(names.len(), PUBLIC.len());
        for set in PUBLIC.iter().map(Listed::set) {
            assert_eq!(set.files[0].key, "base", "{}", set.name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(set.name.chars().all(plain), "{}", set.name);
            for file in &set.files {
                assert!(file.address.starts_with("http"), "{}", file.address);
            }
            assert!(set.bytes >= set.rows * set.dim);
        }
    }
}
