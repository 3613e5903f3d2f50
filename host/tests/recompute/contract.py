"""A plugin by ctypes, from `vq_plugin.h` alone: structures, the host's side of a call, a quantizer."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_double, c_int32, c_int64, c_size_t
from ctypes import c_uint8, c_uint32, c_uint64, c_void_p

import numpy

SHORT_BUFFER = 4
BOOL, INT, FLOAT, STRING = 1, 2, 3, 4
METRICS = {"l2": 0, "ip": 1, "cosine": 2}
UNKNOWN_BYTES = 2**64 - 1


class Str(Structure):
    _fields_ = [("ptr", c_void_p), ("len", c_size_t)]

    def text(self):
        return ctypes.string_at(self.ptr, self.len).decode() if self.len else ""


class Buf(Structure):
    _fields_ = [("ptr", c_void_p), ("cap", c_size_t), ("len", c_size_t)]


class Value(Structure):
    pass


Value._fields_ = [
    ("kind", c_uint32), ("reserved", c_uint32), ("i", c_int64), ("f", c_double), ("s", Str),
    ("items", POINTER(Value)), ("n_items", c_size_t),
]


class Entry(Structure):
    _fields_ = [("name", Str), ("value", Value)]


class Param(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("kind", c_uint32), ("item_kind", c_uint32), ("reserved", c_uint32),
        ("name", Str), ("help", Str),
        *((name, Value) for name in ("default", "min", "max", "choices", "grid")),
    ]


class Config(Structure):
    _fields_ = [("entries", POINTER(Entry)), ("n_entries", c_size_t)]


class Space(Structure):
    _fields_ = [("dim", c_size_t), ("metric", c_uint32), ("reserved", c_uint32)]


class Matrix(Structure):
    """vq_mat, vq_mat_mut, vq_codes and vq_codes_mut: they differ in the type behind `data`."""

    _fields_ = [("data", c_void_p), ("rows", c_size_t), ("width", c_size_t), ("row_stride", c_size_t)]

    @classmethod
    def of(cls, array):
        assert array.flags.c_contiguous
        return cls(array.ctypes.data, array.shape[0], array.shape[1], array.shape[1])


LOG = CFUNCTYPE(None, c_void_p, c_uint32, Str)
PROGRESS = CFUNCTYPE(c_int32, c_void_p, ctypes.c_float, Str)
TASK = CFUNCTYPE(None, c_void_p, c_size_t)
PARALLEL_FOR = CFUNCTYPE(None, c_void_p, c_size_t, c_void_p, c_void_p)
HOST_EXTENSION = CFUNCTYPE(c_void_p, c_void_p, Str)


class Ctx(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("threads", c_uint32), ("seed", c_uint64), ("host", c_void_p),
        ("log", LOG), ("progress", PROGRESS), ("parallel_for", PARALLEL_FOR),
        ("get_host_extension", HOST_EXTENSION),
    ]


def one_after_the_other(_host, n, task, task_ctx):
    run = TASK(task)
    for i in range(n):
        run(task_ctx, i)


# Kept here: the plugin calls them as long as the process lives.
CALLBACKS = (
    LOG(lambda _host, _level, _text: None),
    PROGRESS(lambda _host, _fraction, _stage: 0),
    PARALLEL_FOR(one_after_the_other),
    HOST_EXTENSION(lambda _host, _id: None),
)


def context(seed):
    return Ctx(ctypes.sizeof(Ctx), 1, seed, None, *CALLBACKS)


ERR, SELF, CTX = POINTER(Buf), c_void_p, POINTER(Ctx)


class Method(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("flags", c_uint32),
        *((name, Str) for name in ("id", "name", "version", "description", "paper", "authors", "license",
                                   "homepage", "tags")),
        ("params", POINTER(Param)), ("n_params", c_size_t), ("expand_grid", c_void_p),
        ("create", CFUNCTYPE(c_int32, POINTER(Config), POINTER(Space), POINTER(c_void_p), ERR)),
        ("destroy", CFUNCTYPE(None, SELF)),
        ("fit", CFUNCTYPE(c_int32, SELF, CTX, Matrix, ERR)),
        ("code_bytes", CFUNCTYPE(c_size_t, SELF)),
        ("model_bytes", CFUNCTYPE(c_uint64, SELF)),
        ("ratio", CFUNCTYPE(c_double, SELF)),
        ("compress", CFUNCTYPE(c_int32, SELF, CTX, Matrix, Matrix, ERR)),
        ("decompress", CFUNCTYPE(c_int32, SELF, CTX, Matrix, Matrix, ERR)),
        ("save", CFUNCTYPE(c_int32, SELF, POINTER(Buf), ERR)),
        ("load", CFUNCTYPE(c_int32, SELF, Str, ERR)),
        ("get_extension", CFUNCTYPE(c_void_p, Str)),
    ]


class Scorer(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("flags", c_uint32),
        ("packed_bytes", CFUNCTYPE(c_size_t, SELF, c_size_t)),
        ("pack", CFUNCTYPE(c_int32, SELF, CTX, Matrix, c_void_p, c_size_t, ERR)),
        ("score", CFUNCTYPE(c_int32, SELF, CTX, Matrix, c_void_p, c_size_t, c_size_t, Matrix, Matrix, ERR)),
    ]


class Search(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("flags", c_uint32),
        ("packed_bytes", CFUNCTYPE(c_size_t, SELF, c_size_t)),
        ("pack", CFUNCTYPE(c_int32, SELF, CTX, Matrix, c_void_p, c_size_t, ERR)),
        ("search", CFUNCTYPE(c_int32, SELF, CTX, Matrix, c_void_p, c_size_t, c_size_t, c_size_t, c_void_p, c_void_p, ERR)),
        ("reserved", c_uint64),
    ]


class Plugin(Structure):
    _fields_ = [
        ("magic", c_uint8 * 8), ("abi_major", c_uint32), ("abi_minor", c_uint32),
        ("struct_size", c_uint32), ("reserved", c_uint32), ("sdk", Str),
        ("methods", POINTER(POINTER(Method))), ("n_methods", c_size_t),
    ]


for structure, size in [(Value, 56), (Entry, 72), (Param, 328), (Ctx, 56), (Method, 264), (Plugin, 56), (Scorer, 32),
                        (Search, 40)]:
    assert ctypes.sizeof(structure) == size, structure.__name__


def methods(library):
    """The methods of a library, by their ids."""
    entry = ctypes.CDLL(library).vq_plugin_entry_v1
    entry.argtypes, entry.restype = [c_uint32, c_uint32], POINTER(Plugin)
    plugin = entry(1, 0).contents
    assert bytes(plugin.magic) == b"VQPLUG\0\1" and plugin.abi_major == 1
    listed = (plugin.methods[i].contents for i in range(plugin.n_methods))
    return {method.id.text(): method for method in listed}


class Refused(Exception):
    """What a function of the plugin said instead of doing it."""


def call(function, *args):
    text = ctypes.create_string_buffer(4096)
    err = Buf(ctypes.addressof(text), len(text), 0)
    code = function(*args, byref(err))
    if code:
        raise Refused(code, text.raw[:err.len].decode(errors="replace"))


class Quantizer:
    """An instance of `method` for rows of `dim` dimensions."""

    def __init__(self, method, params, dim, metric):
        self.kept, self.method, self.dim = [], method, dim
        kinds = {p.name.text(): p.kind for p in method.params[:method.n_params]}
        entries = (Entry * len(params))(
            *(Entry(self.str(name), self.value(kinds[name], v)) for name, v in params.items()))
        config, space, self.self = Config(entries, len(params)), Space(dim, METRICS[metric], 0), c_void_p()
        call(method.create, byref(config), byref(space), byref(self.self))
        self.scorer, self.search_of = self.extension("vq.scorer/1", Scorer), self.extension("vq.search/1", Search)

    def extension(self, name, table):
        found = self.method.get_extension and self.method.get_extension(self.str(name))
        return table.from_address(found) if found else None

    def str(self, text):
        held = ctypes.create_string_buffer(text.encode())
        self.kept.append(held)
        return Str(ctypes.addressof(held), len(text.encode()))

    def value(self, kind, v):
        if kind in (BOOL, INT):
            return Value(kind=kind, i=int(v))
        if kind == FLOAT:
            return Value(kind=kind, f=float(v))
        assert kind == STRING, "no shipped method has a parameter that is a list"
        return Value(kind=kind, s=self.str(v))

    def fit(self, rows, seed):
        call(self.method.fit, self.self, byref(context(seed)), Matrix.of(rows))

    def code_bytes(self):
        return self.method.code_bytes(self.self)

    def model_bytes(self):
        """As the method states it, if it does."""
        stated = self.method.model_bytes(self.self) if self.method.model_bytes else UNKNOWN_BYTES
        return None if stated == UNKNOWN_BYTES else stated

    def ratio(self):
        return self.method.ratio(self.self) if self.method.ratio else None

    def compress(self, rows):
        codes = numpy.zeros((len(rows), self.code_bytes()), numpy.uint8)
        call(self.method.compress, self.self, byref(context(0)), Matrix.of(rows), Matrix.of(codes))
        return codes

    def decompress(self, codes):
        rows = numpy.full((len(codes), self.dim), numpy.nan, numpy.float32)
        call(self.method.decompress, self.self, byref(context(0)), Matrix.of(codes), Matrix.of(rows))
        assert numpy.isfinite(rows).all()
        return rows

    def save(self):
        """The model; None where the method does not save."""
        if not self.method.save:
            return None
        room = 1 << 16
        while True:
            held = ctypes.create_string_buffer(room)
            model = Buf(ctypes.addressof(held), room, 0)
            try:
                call(self.method.save, self.self, byref(model))
                return held.raw[:model.len]
            except Refused as refused:
                if refused.args[0] != SHORT_BUFFER or model.len <= room:
                    raise
                room = model.len

    def load(self, model):
        held = ctypes.create_string_buffer(model, len(model))
        call(self.method.load, self.self, Str(ctypes.addressof(held), len(model)))

    def score(self, queries, codes):
        """Estimates and bounds (queries, codes); no bounds where the scorer claims none."""
        ctx, n, packed = context(0), len(codes), self.packed(self.scorer, codes)
        estimates = numpy.full((len(queries), n), numpy.nan, numpy.float32)
        bounds = estimates.copy() if self.scorer.flags & 1 else None
        none = Matrix(None, 0, 0, 0)
        call(self.scorer.score, self.self, byref(ctx), Matrix.of(queries), packed.ctypes.data, packed.size, n,
             Matrix.of(estimates), none if bounds is None else Matrix.of(bounds))
        assert numpy.isfinite(estimates).all()
        return estimates, bounds

    def packed(self, extension, codes):
        """As that extension reads them."""
        if not extension.packed_bytes:
            return codes
        packed = numpy.zeros(extension.packed_bytes(self.self, len(codes)), numpy.uint8)
        call(extension.pack, self.self, byref(context(0)), Matrix.of(codes), packed.ctypes.data, packed.size)
        return packed

    def search(self, queries, codes, k):
        """The rows found (queries, k), all codes in one block."""
        packed = self.packed(self.search_of, codes)
        ids = numpy.zeros((len(queries), k), numpy.uint64)
        estimates = numpy.full((len(queries), k), numpy.nan, numpy.float32)
        call(self.search_of.search, self.self, byref(context(0)), Matrix.of(queries), packed.ctypes.data, packed.size,
             len(codes), k, ids.ctypes.data, estimates.ctypes.data)
        assert numpy.isfinite(estimates).all() and (ids < len(codes)).all()
        return ids.astype(numpy.int64)
