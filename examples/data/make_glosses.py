"""Embeds 12,000 definitions of WordNet with all-MiniLM-L6-v2 (12,000, 384), as half values.

    python3 make_glosses.py MODEL_FOLDER data.noun glosses-12k-384d.f16bin

Needs numpy, scipy, safetensors, tokenizers. The model is run here in float32, one text length at a
time so that nothing is padded: a row does not depend on the rows beside it.
"""

import collections
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

ROWS = 12_000
LONGEST = 256  # tokens; the model card's max_seq_length


def definitions(path):
    """Every distinct definition, without its examples, in the file's order."""
    seen = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  ") or "|" not in line:
            continue  # the licence heads the file
        gloss = line.split("|", 1)[1].split('; "', 1)[0].strip()
        if gloss:
            seen.setdefault(gloss)
    return list(seen)


def layer_norm(x, weight, bias, epsilon):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * weight + bias


def gelu(x):
    return 0.5 * x * (1.0 + erf(x / np.float32(np.sqrt(2.0))))


class MiniLm:
    def __init__(self, folder):
        self.weights = load_file(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = np.float32(config["layer_norm_eps"])

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        return layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], self.epsilon)

    def embed(self, tokens):
        """(n, length) token ids of one length to (n, 384) rows of length 1."""
        n, length = tokens.shape
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][tokens]
        x = x + w["embeddings.position_embeddings.weight"][:length]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(self.layers):
            at = f"encoder.layer.{i}"
            query, key, value = (
                self.linear(x, f"{at}.attention.self.{part}").reshape(n, length, self.heads, -1).transpose(0, 2, 1, 3)
                for part in ("query", "key", "value")
            )
            scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(query.shape[-1]))
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            heard = (scores @ value).transpose(0, 2, 1, 3).reshape(n, length, -1)
            x = self.norm(x + self.linear(heard, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            inner = gelu(self.linear(x, f"{at}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        mean = x.mean(axis=1)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def main(folder, source, target):
    folder = pathlib.Path(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    every = definitions(pathlib.Path(source))
    # Evenly through the file, which is sorted by meaning.
    texts = [every[i * len(every) // ROWS] for i in range(ROWS)]
    by_length = collections.defaultdict(list)
    encoded = [e.ids for e in tokenizer.encode_batch(texts)]
    for row, ids in enumerate(encoded):
        by_length[len(ids)].append(row)
    model = MiniLm(folder)
    rows = np.empty((ROWS, 384), dtype=np.float32)
    for length, members in sorted(by_length.items()):
        for start in range(0, len(members), 256):
            part = members[start : start + 256]
            rows[part] = model.embed(np.array([encoded[row] for row in part]))
    half = rows.astype("<f2")
    with open(target, "wb") as out:
        np.array([ROWS, 384], dtype="<u4").tofile(out)
        half.tofile(out)
    print(f"{len(every)} definitions, {ROWS} taken, {len(np.unique(half, axis=0))} distinct rows")


main(*sys.argv[1:])
