"""Writes the files beside this script with each format's own tools: python write.py

Row i, dimension j of floats is ((7 i + 3 j) mod 11 − 5) / 2, of u1 (7 i + 3 j) mod 11, of i1 that
less 5: exact in every type. There are 12 rows of 5 dimensions; queries are the first 3, backwards.
"""

from pathlib import Path
import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from safetensors.numpy import save_file

OUT = Path(__file__).parent / "files"
N, D = 12, 5
raw = (7 * np.arange(N)[:, None] + 3 * np.arange(D)[None, :]) % 11
X = (raw - 5) / 2
TYPES = {"f2": np.float16, "f4": np.float32, "f8": np.float64, "u1": np.uint8, "i1": np.int8}


def values(name):
    x = {"u1": raw, "i1": raw - 5}.get(name, X)
    return np.ascontiguousarray(x.astype(TYPES[name]))


def lists(name, kind):
    flat = pa.array(values(name).reshape(-1))
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, D)
    large = kind == "large"
    offsets = pa.array(np.arange(0, N * D + 1, D), pa.int64() if large else pa.int32())
    return (pa.LargeListArray if large else pa.ListArray).from_arrays(offsets, flat)


def table(name, kind):
    text = pa.array([f"row {i}" for i in range(N)])
    return pa.table({"id": pa.array(np.arange(N)), "emb": lists(name, kind), "text": text})


def write():
    OUT.mkdir(exist_ok=True)
    at = lambda name: str(OUT / name)
    pq.write_table(table("f4", "list"), at("f4.parquet"))
    pq.write_table(table("f8", "fixed"), at("f8.parquet"), compression="zstd", row_group_size=5)
    pq.write_table(table("f2", "list"), at("f2.parquet"), compression="gzip", use_dictionary=False)
    pq.write_table(table("u1", "large"), at("u1.parquet"), compression="lz4", data_page_version="2.0")
    pq.write_table(table("i1", "list"), at("i1.parquet"), compression="none", data_page_size=16)
    pa.feather.write_feather(table("f4", "list"), at("f4.feather"), compression="lz4")
    pa.feather.write_feather(table("f2", "fixed"), at("f2.arrow"), compression="zstd", chunksize=5)
    with pa.OSFile(at("f8.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table("f8", "large").schema) as out:
        out.write_table(table("f8", "large"), max_chunksize=5)
    with pa.OSFile(at("u1.arrow"), "wb") as sink, pa.ipc.new_file(sink, table("u1", "fixed").schema) as out:
        out.write_table(table("u1", "fixed"))
    np.savez(at("f4.npz"), vectors=values("f4"), ids=np.arange(N), names=np.array(["a", "b"]))
    np.savez_compressed(at("f2.npz"), values("f2"))
    np.savez(at("f8.npz"), x=values("f8").astype(">f8"))
    np.savez_compressed(at("i1.npz"), base=values("i1"), other=values("i1")[:3])
    save_file({"emb": values("f4"), "bias": values("f4")[0]}, at("f4.safetensors"), metadata={"by": "test"})
    save_file({"x": values("f2")}, at("f2.safetensors"))
    save_file({"x": values("u1"), "y": values("u1")[:4], "vectors": values("u1")}, at("u1.safetensors"))

    def layout(name, of, distance, learn=False, **more):
        with h5py.File(at(name), "w") as f:
            f.attrs["distance"] = distance
            f.attrs["dimension"] = D
            f.attrs["type"] = "dense"
            x = values(of)
            f.create_dataset("train", data=x, **more)
            f.create_dataset("test", data=x[2::-1], **more)
            l2 = ((X[2::-1, None] - X[None]) ** 2).sum(-1)
            near = np.argsort(l2, axis=1, kind="stable")[:, :4]
            f.create_dataset("neighbors", data=near.astype("i4"))
            f.create_dataset("distances", data=np.sqrt(np.take_along_axis(l2, near, 1)).astype("f4"))
            if learn:
                f.create_dataset("learn", data=x[::-1])

    layout("f4.hdf5", "f4", "euclidean")
    layout("f2.h5", "f2", "angular", learn=True, chunks=(3, 2), compression="gzip", shuffle=True)
    layout("i1.hdf5", "i1", "euclidean", chunks=(3, 5), maxshape=(None, 5))
    with h5py.File(at("f8.h5"), "w", libver="latest") as f:
        f.create_group("of").create_dataset("emb", data=values("f8").astype(">f8"), chunks=(3, 5))
        f.create_dataset("x", data=values("f8"))

    # Four terabytes that are not there: no chunk is written.
    with h5py.File(at("huge.h5"), "w") as f:
        f.create_dataset("train", shape=(10**9, 1000), chunks=(1000, 1000), dtype="f4")
    several = {"id": pa.array(np.arange(N)), "first": lists("f4", "list"), "second": lists("f8", "list")}
    pq.write_table(pa.table(several), at("several.parquet"))
    ragged = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"emb": ragged}), at("ragged.parquet"))
    holes = pa.array([[1.0, 2.0], [3.0, None], [5.0, 6.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"emb": holes}), at("null.parquet"))
    pa.feather.write_feather(pa.table({"emb": ragged}), at("ragged.feather"))
    pa.feather.write_feather(pa.table({"emb": holes}), at("null.feather"))
    gaps = pa.array([None, [1.0, 2.0], [3.0, None], [5.0, 6.0], None, [7.0, 8.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"emb": gaps}), at("gaps.parquet"))
    pa.feather.write_feather(pa.table({"emb": gaps}), at("gaps.feather"))
    # A part of a data set whose writer had nothing to write.
    pq.write_table(pa.table({"emb": lists("f4", "list")[:0]}), at("none.parquet"))
    with h5py.File(at("group.h5"), "w") as f:
        f.create_group("a").create_group("b").create_dataset("vec", data=values("f4"))
        f.create_dataset("ids", data=np.arange(N))

    rows = [[float(v) for v in row] for row in X]
    line = lambda row, sep: sep.join(map(str, row)) + "\n"
    (OUT / "names.csv").write_text("a,b,c,d,e\n" + "".join(line(row, ",") for row in rows))
    (OUT / "plain.tsv").write_text("".join(line(row, "\t") for row in rows))
    (OUT / "arrays.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (OUT / "objects.jsonl").write_text(
        "".join(json.dumps({"id": i, "embedding": row, "tag": "t"}) + "\n" for i, row in enumerate(rows))
    )
    print("numpy", np.__version__, "h5py", h5py.__version__, "pyarrow", pa.__version__)


write()
