"""The Python side of a method that is a Python class: obeys the worker that started it.

It is confined before its first line runs. Frames come and go on one socket: lengths of a JSON text and
of bytes behind it (u32 each, little-endian), then both. Rows and codes lie in files that are mapped,
two of the worker's and in a cell two of the referee's: what is lent can only be read.
"""
import sys

sys.path[:] = [place for place in sys.path if place]

import json
import math
import os
import random
import struct
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location

SOCKET, AREAS_FROM = 3, 4
AREA, DESCRIPTORS = int(sys.argv[1]), int(sys.argv[2])
PACKAGE = "vq_method"
# What fits one frame, with what stands before it.
MOST_SAVED = 1000 << 20
# Rows whose codes say something of all codes.
TELLING = 64


class Refused(Exception):
    """A sentence for the record, of a kind that the worker knows."""

    def __init__(self, text, kind="failed"):
        super().__init__(text)
        self.kind = kind


# ---- frames -------------------------------------------------------------------------------------


def receive_exactly(count):
    parts = []
    while count:
        part = os.read(SOCKET, min(count, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive():
    text, blob = struct.unpack("<II", receive_exactly(8))
    return json.loads(receive_exactly(text)), receive_exactly(blob)


def send(answer, blob=b""):
    text = json.dumps(answer, allow_nan=False).encode()
    for part in (struct.pack("<II", len(text), len(blob)) + text, blob):
        part = memoryview(part)
        while len(part):
            part = part[os.write(SOCKET, part):]


def log(text, level="info"):
    send({"log": [level, text]})


# ---- what a method may not do, in words of its own ----------------------------------------------

STARTS = {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


def audit(event, _):
    if event in STARTS:
        raise PermissionError("a method may not start processes: use threads, or let a library do so")


sys.addaudithook(audit)


# ---- the user's files ---------------------------------------------------------------------------


class Finder:
    """Finds the method's own files and no others: those that its digest covers."""

    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        file = self.modules.get(name)
        if file is None:
            return None
        if file == "":
            return ModuleSpec(name, None, is_package=True)
        package = [] if file.endswith("/__init__.py") else None
        return spec_from_file_location(name, file, submodule_search_locations=package)


def blame(error, files):
    """What a traceback ends with, and the line of the user's file that led to it."""
    import traceback

    text = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # Messages have several lines, and begin with what is wrong; those about syntax end with it.
    text = text[-1 if isinstance(error, SyntaxError) else 0].strip()
    place = None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename in files:
            place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    if isinstance(error, SyntaxError) and error.filename in files:
        place = f"{os.path.basename(error.filename)}:{error.lineno}"
    if isinstance(error, ValueError) and "read-only" in text:
        text += ": what a method is lent cannot be written, work on a copy"
    return f"{text} ({place})" if place else text


# ---- classes and their parameters ---------------------------------------------------------------

FILLED_IN = {"dim", "d", "metric", "seed", "random_state", "rng"}
KINDS = {bool: "bool", int: "int", float: "float", str: "string", list: "list", tuple: "list"}


def is_stub(function):
    code = getattr(function, "__code__", None)
    return code is not None and code.co_names == ("NotImplementedError",)


def is_method(cls, module):
    import inspect

    if not isinstance(cls, type) or cls.__module__ != module.__name__ or cls.__name__.startswith("_"):
        return False
    functions = [getattr(cls, name, None) for name in ("compress", "decompress")]
    return not inspect.isabstract(cls) and all(callable(f) and not is_stub(f) for f in functions)


def kind_of(hint):
    """(kind, kind of items, choices) of a hint; kind None where it says nothing."""
    import types
    import typing

    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return kind_of(inner[0])
    if origin is typing.Union or origin is getattr(types, "UnionType", None):
        for one in inner:
            found = kind_of(one)
            if found[0]:
                return found
        return None, None, []
    if origin is typing.Literal:
        choices = [choice for choice in inner if choice is not None]
        return (KINDS.get(type(choices[0])) if choices else None), None, choices
    base = origin or hint
    if isinstance(base, type):
        for known, kind in KINDS.items():
            if base is known:
                items = kind_of(inner[0])[0] if kind == "list" and inner else None
                return kind, items, []
        import numbers

        if issubclass(base, numbers.Integral):
            return "int", None, []
        if issubclass(base, numbers.Real):
            return "float", None, []
    return None, None, []


def plain(value):
    """A value as TOML could say it; None for what it cannot."""
    if isinstance(value, float) and value - value != 0:
        return None  # Infinite, or no number.
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return None if None in items else items
    item = getattr(value, "item", None)
    return plain(item()) if callable(item) and getattr(value, "ndim", None) == 0 else None


class Class:
    """One class of the user's file, as the host is told of it."""

    def __init__(self, cls, module, method_id):
        import inspect
        import typing

        self.cls, self.id = cls, method_id
        self.grid = getattr(cls, "GRID", getattr(module, "GRID", None))
        if isinstance(self.grid, staticmethod):
            self.grid = self.grid.__func__
        self.params, self.names, self.given = [], {}, {}
        try:
            hints = typing.get_type_hints(cls.__init__)
        except Exception:
            hints = {}
        signature = inspect.signature(cls.__init__).parameters if cls.__init__ is not object.__init__ else {}
        grid = self.grid if isinstance(self.grid, dict) else {}
        unknown = [name for name in grid if name not in signature]
        if unknown and hasattr(cls, "GRID"):
            raise Refused(f"GRID of {cls.__name__} names {unknown[0]}, which __init__ does not take")
        for name, param in list(signature.items())[1:] if signature else []:
            if param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD):
                continue
            hint = hints.get(name)
            if name in FILLED_IN:
                self.given[name] = getattr(hint, "__name__", "")
                continue
            self.add(name, hint, param.default, param.default is param.empty, grid.get(name))

    def add(self, name, hint, default, required, grid):
        shown = name.lower().lstrip("_")
        if shown in self.names or not shown:
            return
        kind, items, choices = kind_of(hint)
        value = None if required else plain(default)
        if not required and value is None and default is not None and not isinstance(default, float):
            return  # An object: only code can say it.
        # What is no list is one value.
        listed = hasattr(grid, "__iter__") and not isinstance(grid, (str, bytes))
        grid = list(grid) if listed else [] if grid is None else [grid]
        values = [plain(v) for v in grid]
        if None in values:
            raise Refused(f"GRID gives {name} a value that TOML cannot say: {grid[values.index(None)]!r}")
        samples = [v for v in values + [value] if v is not None]
        if kind is None:
            kinds = {KINDS[type(v)] for v in samples}
            kind = "float" if kinds == {"int", "float"} or not kinds else kinds.pop()
        if kind == "float":
            values, value = [to_float(v) for v in values], to_float(value)
        if kind == "list" and items is None:
            inner = {KINDS[type(v)] for sample in samples if isinstance(sample, list) for v in sample}
            items = "float" if inner == {"int", "float"} else inner.pop() if len(inner) == 1 else None
        must = ("Of __init__." if value is not None else "Has to be named." if required else
                "Left to the class unless it is named.")
        self.names[shown] = (name, required)
        self.params.append(
            {"name": shown, "kind": kind, "item_kind": items, "default": value, "choices": choices,
             "grid": values, "help": must}
        )

    def describe(self):
        text = (self.cls.__doc__ or "").strip().splitlines()
        offers = [name for name in ("score", "get_compression_ratio") if callable(getattr(self.cls, name, None))]
        # What a dataclass writes of itself is its signature.
        said = text[0] if text and not text[0].startswith(f"{self.cls.__name__}(") else ""
        return {"id": self.id, "name": self.cls.__name__, "description": said,
                "version": str(getattr(self.cls, "__version__", "0")), "params": self.params, "offers": offers,
                "grid": None if self.grid is None or isinstance(self.grid, dict) else
                        "bits" if callable(self.grid) and "bits" in parameters(self.grid) else "own"}

    def make(self, params, dim, metric, seed):
        arguments = {}
        for shown, (name, required) in self.names.items():
            if shown not in params:
                if required:
                    raise Refused(f"{shown}: has no default: name it in the sweep", "config")
                continue
            value = params[shown]
            kind = next(p["kind"] for p in self.params if p["name"] == shown)
            if kind == "float" and self.untyped(name) and float(value).is_integer():
                value = int(value)
            arguments[name] = value
        for name, hint in self.given.items():
            arguments[name] = fill(name, hint, dim, metric, seed)
        return self.cls(**arguments)

    def untyped(self, name):
        hints = getattr(self.cls.__init__, "__annotations__", {})
        return name not in hints

    def configurations(self, dim, metric, bits):
        grid = self.grid
        if callable(grid):
            told = {"dim": dim, "d": dim, "metric": metric, "bits": bits}
            grid = grid(**{name: told[name] for name in parameters(grid) if name in told})
        shown = {of[0]: low for low, of in self.names.items()}
        for one in grid or []:
            one = dict(one)
            label = str(one.pop("name", ""))
            unknown = [name for name in one if name not in shown]
            if unknown:
                raise Refused(f"GRID names {unknown[0]}, which __init__ does not take")
            values = {}
            for name, value in one.items():
                if value is None and any(p["default"] is None for p in self.params if p["name"] == shown[name]):
                    continue
                if plain(value) is None:
                    raise Refused(f"GRID gives {name} a value that TOML cannot say: {value!r}")
                kind = next(p["kind"] for p in self.params if p["name"] == shown[name])
                values[shown[name]] = to_float(plain(value)) if kind == "float" else plain(value)
            yield {"label": label, "params": values}


def parameters(function):
    import inspect

    return list(inspect.signature(function).parameters)


def to_float(value):
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def fill(name, hint, dim, metric, seed):
    if name in ("dim", "d"):
        return dim
    if name == "metric":
        return metric
    if hint in ("Generator", "RandomState"):
        import numpy

        return numpy.random.default_rng(seed) if hint == "Generator" else numpy.random.RandomState(seed)
    return seed


# ---- one instance -------------------------------------------------------------------------------


def seeded(seed):
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)


class Threads:
    """The cell's budget, told to the libraries that keep their own number."""

    now = None

    @classmethod
    def keep(cls, threads):
        if threads == cls.now:
            return
        cls.now = threads
        for module, function in (("faiss", "omp_set_num_threads"), ("torch", "set_num_threads")):
            tell = getattr(sys.modules.get(module), function, None)
            if tell is not None:
                tell(threads)
        if "numpy" in sys.modules:
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:
                return
            threadpool_limits(threads)


class Instance:
    """An object of the user's, the rows it was fitted on, and what its codes look like."""

    def __init__(self, of, params, dim, metric):
        self.of, self.params, self.dim, self.metric = of, params, dim, metric
        self.seed, self.train, self.parts, self.form, self.width = 0, None, None, None, 0
        self.ratio = None
        self.saved, self.unsaved, self.fitted = None, None, False
        self.counted, self.ranges = 0, None
        seeded(0)
        self.object = of.make(params, dim, metric, 0)

    def code_bytes(self):
        try:
            stated = getattr(self.object, "code_bytes", None)
            stated = stated() if callable(stated) else stated
        except Exception:
            return 0
        return int(stated) if isinstance(stated, int) and stated > 0 else 0

    def take(self, first, rows, of, place):
        import numpy

        if self.train is None:
            self.train = numpy.empty((of, self.dim), numpy.float32)
        self.train[first:first + rows] = AREAS.rows(place, rows, self.dim)

    def fit(self, seed):
        if seed != self.seed and any(name in self.of.given for name in ("seed", "random_state", "rng")):
            self.object = self.of.make(self.params, self.dim, self.metric, seed)
        self.seed = seed
        import numpy

        train, self.train = self.train, None
        if train is None:
            train = numpy.empty((0, self.dim), numpy.float32)
        train.setflags(write=False)
        stated = self.code_bytes()
        if hasattr(self.object, "fit"):
            seeded(seed)
            self.object.fit(train)
        self.keep()
        # Two rows tell what every code looks like from now on.
        two = numpy.array(train[:2] if len(train) else numpy.zeros((1, self.dim), numpy.float32))
        if len(two) == 1:
            two = numpy.repeat(two, 2, axis=0)
        two.setflags(write=False)
        seeded(seed)
        self.learn_form(self.object.compress(two), stated)

        if callable(getattr(self.object, "get_compression_ratio", None)):
            self.ratio = float(self.object.get_compression_ratio(two))
            if not math.isfinite(self.ratio):
                raise Refused(f"get_compression_ratio gave {self.ratio}")
        return {"code_bytes": self.width, "ratio": self.ratio, "seed": self.seed}

    def keep(self):
        """The object as bytes, before any call could change it."""
        self.fitted = True
        if self.saves_itself():
            self.saved = self.as_bytes()
            return
        try:
            self.saved = self.as_bytes()
        except Exception as error:
            self.unsaved = f"{type(error).__name__}: {error}"
            log(f"it cannot be pickled, and has no save() and load(): {self.unsaved}", "warn")

    def saves_itself(self):
        return callable(getattr(self.object, "save", None)) and callable(getattr(self.object, "load", None))

    def as_bytes(self):
        import pickle

        if not self.saves_itself():
            return pickle.dumps(self.object, protocol=5)
        saved = self.object.save()
        if not isinstance(saved, (bytes, bytearray)):
            raise Refused(f"save gave {type(saved).__name__}: give bytes")
        return bytes(saved)

    def changed(self):
        """How it was saved after fit, if it would be saved as something else by now."""
        if self.saved is None or not self.fitted:
            return None
        try:
            if self.as_bytes() == self.saved:
                return None
        except MemoryError:
            return None
        except Exception:
            pass  # What cannot be saved any more has changed, too.
        return "itself" if self.saves_itself() else "pickled"

    def save(self):
        if self.saved is None:
            raise Refused("save is not offered", "unsupported")
        if len(self.saved) > MOST_SAVED:
            raise Refused(f"a model of {len(self.saved)} bytes was saved: at most {MOST_SAVED} are taken")
        head = {"seed": self.seed, "form": self.form, "width": self.width, "ratio": self.ratio,
                "parts": [[name, kind, list(shape)] for name, kind, shape in self.parts]}
        head = json.dumps(head).encode()
        return struct.pack("<I", len(head)) + head + self.saved

    def load(self, blob):
        import pickle

        (length,) = struct.unpack_from("<I", blob)
        head = json.loads(blob[4:4 + length])
        self.seed, self.form, self.width = head["seed"], head["form"], head["width"]
        self.ratio = head["ratio"]
        self.parts = [(name, kind, tuple(shape)) for name, kind, shape in head["parts"]]
        self.saved = bytes(blob[4 + length:])
        seeded(self.seed)
        if self.saves_itself():
            self.object = self.of.make(self.params, self.dim, self.metric, self.seed)
            made = self.object.load(self.saved)
            if isinstance(made, self.of.cls):
                self.object = made
        else:
            self.object = pickle.loads(self.saved)
        return {"code_bytes": self.width, "ratio": self.ratio, "seed": self.seed}

    # What codes look like: parts of n rows each, of one type and one shape per row.

    def split(self, codes, rows):
        import numpy

        def array(of, name):
            if isinstance(of, (bytes, str)) or of is None:
                raise Refused(
                    f"compress gave {type(of).__name__}: give an array of one row per vector, "
                    "or a tuple or dict of such arrays", "invalid")
            of = numpy.asarray(of)
            where = "" if name is None else f" in {name!r}"
            if of.dtype.names:
                raise Refused(f"compress gave a structured array{where}: give a dict of its fields", "invalid")
            if of.dtype.hasobject:
                raise Refused(f"compress gave Python objects{where}: give an array of numbers", "invalid")
            if of.ndim == 0 or of.shape[0] != rows:
                raise Refused(
                    f"compress gave an array of shape {of.shape}{where} for {rows} rows: "
                    "give one row per vector", "invalid")
            return of

        if isinstance(codes, dict):
            return "dict", [(name, array(part, name)) for name, part in codes.items()]
        if isinstance(codes, tuple):
            return "tuple", [(i, array(part, i)) for i, part in enumerate(codes)]
        return "array", [(None, array(codes, None))]

    def learn_form(self, codes, stated):
        self.form, parts = self.split(codes, 2)
        self.parts = [(name, part.dtype.str, part.shape[1:]) for name, part in parts]
        self.width = sum(part.nbytes // 2 for _, part in parts)
        if self.width == 0:
            raise Refused("compress gave codes of no bytes", "invalid")
        if stated and stated != self.width:
            raise Refused(f"code_bytes says {stated}, a code takes {self.width} bytes", "invalid")

    def checked(self, codes, rows):
        form, parts = self.split(codes, rows)
        found = [(name, part.dtype.str, part.shape[1:]) for name, part in parts]
        if form != self.form or found != self.parts:
            raise Refused(
                f"compress gave {told(form, found)}; after fit it gave {told(self.form, self.parts)}", "invalid")
        return parts

    def compress(self, rows, lent, filled, seed, timed):
        import numpy

        x = AREAS.rows(lent, rows, self.dim)
        seeded(seed)
        parts = self.checked(self.object.compress(x), rows)
        out = AREAS.out(filled, rows * self.width).reshape(rows, self.width)
        at = 0
        for _, part in parts:
            # Bytes of a row, contiguous: a copy where the array is not.
            flat = numpy.ascontiguousarray(part).reshape(rows, -1).view(numpy.uint8)
            out[:, at:at + flat.shape[1]] = flat
            at += flat.shape[1]
        # What is timed was encoded before.
        if not timed and rows:
            self.count(parts, rows)

    # Whether codes have room that no value needs.

    def count(self, parts, rows):
        """Widens the ranges of values in the parts that may turn out to be wide."""
        if self.ranges is None:
            self.ranges = {i: None for i, (_, part) in enumerate(parts)
                           if part.dtype.kind in "iub" and part.size}
        self.counted += rows
        for i, known in list(self.ranges.items()):
            part = parts[i][1]
            least, most = int(part.min()), int(part.max())
            if known is not None:
                least, most = min(least, known[0]), max(most, known[1])
            self.ranges[i] = least, most, part.dtype.kind, 8 * part.dtype.itemsize
            if not self.is_wide(i):
                del self.ranges[i]

    def is_wide(self, i):
        least, most, _, bits = self.ranges[i]
        return 4 * bits_for(least, most) <= 3 * bits

    def wide(self):
        """The parts that packing would make smaller by a quarter or more."""
        told = []
        for i, (least, most, kind, bits) in (self.ranges or {}).items() if self.counted >= TELLING else ():
            values, needed = math.prod(self.parts[i][2]), bits_for(least, most)
            told.append({"part": None if self.form == "array" else i, "kind": kind, "bits": bits,
                         "needed": needed, "bytes": values * bits // 8, "packed": (values * needed + 7) // 8})
        return told

    def codes(self, rows, place):
        """The lent codes as compress gave them."""
        import numpy

        raw = AREAS.lent(place, rows * self.width).reshape(rows, self.width)
        if self.form == "array":
            _, kind, shape = self.parts[0]
            return raw.reshape(-1).view(kind).reshape((rows, *shape))
        parts, begin = [], 0
        for name, kind, shape in self.parts:
            bytes_each = numpy.dtype(kind).itemsize * int(numpy.prod(shape, dtype=int))
            part = numpy.ascontiguousarray(raw[:, begin:begin + bytes_each]).reshape(-1).view(kind)
            part = part.reshape((rows, *shape))
            part.setflags(write=False)
            parts.append((name, part))
            begin += bytes_each
        return dict(parts) if self.form == "dict" else tuple(part for _, part in parts)

    def decompress(self, rows, lent, filled, seed):
        import numpy

        codes = self.codes(rows, lent)
        seeded(seed)
        x = numpy.asarray(self.object.decompress(codes))
        if x.shape != (rows, self.dim):
            raise Refused(f"decompress gave shape {x.shape} for {rows} codes, expected {(rows, self.dim)}", "invalid")
        numbers("decompress", x)
        AREAS.out(filled, rows * self.dim * 4).view(numpy.float32).reshape(rows, self.dim)[:] = x

    def score(self, queries, rows, lent, codes, filled, seed):
        import numpy

        asked = AREAS.rows(lent, queries, self.dim)
        codes = self.codes(rows, codes)
        seeded(seed)
        estimates = numpy.asarray(self.object.score(asked, codes))
        if estimates.shape != (queries, rows):
            raise Refused(f"score gave shape {estimates.shape}, expected {(queries, rows)}", "invalid")
        numbers("score", estimates)
        AREAS.out(filled, queries * rows * 4).view(numpy.float32).reshape(queries, rows)[:] = estimates


def bits_for(least, most):
    """Bits that integers between these need."""
    if least < 0:
        return max(most, -least - 1).bit_length() + 1
    return max(most.bit_length(), 1)


def numbers(what, of):
    if of.dtype.kind not in "fiub":
        raise Refused(f"{what} gave {of.dtype}: give real numbers", "invalid")


def told(form, parts):
    texts = [f"{'' if name is None else f'{name!r}: '}{kind.lstrip('<|=')} of {shape} per row"
             for name, kind, shape in parts]
    return f"{form} {', '.join(texts)}" if form != "array" else texts[0]


class Areas:
    """The shared files, in pairs: what is lent, which can only be read, and what is filled. The worker's own
    come first, the referee's second."""

    def __init__(self):
        import contextlib
        import mmap

        import numpy

        def mapped(file, access):
            pages = mmap.mmap(file, AREA, prot=access)
            # Large pages, where the system has them for shared memory.
            with contextlib.suppress(OSError):
                pages.madvise(getattr(mmap, "MADV_HUGEPAGE", mmap.MADV_NORMAL))
            return numpy.frombuffer(pages, numpy.uint8)

        # The C library gives freed pages back after each call until it has seen a large array go: to touch
        # them anew may take as long as the call.
        numpy.empty(31 << 20, numpy.uint8)
        # Files that anybody may close are mapped here for good.
        files = range(AREAS_FROM, AREAS_FROM + DESCRIPTORS, 2)
        self._lent = [mapped(file, mmap.PROT_READ) for file in files]
        self._filled = [mapped(file + 1, mmap.PROT_READ | mmap.PROT_WRITE) for file in files]
        self.float32 = numpy.float32

    def lent(self, place, count):
        return self._lent[place["exchanged"]][place["at"]:place["at"] + count]

    def rows(self, place, rows, dim):
        return self.lent(place, 4 * rows * dim).view(self.float32).reshape(rows, dim)

    def out(self, place, count):
        return self._filled[place["exchanged"]][place["at"]:place["at"] + count]


AREAS = None


# ---- requests -----------------------------------------------------------------------------------


class Method:
    """The opened file, its classes and their instances."""

    def __init__(self):
        self.files, self.classes, self.instances, self.next = set(), [], {}, 1

    def open(self, order, _):
        import importlib
        import site

        global AREAS
        sys.prefix = sys.exec_prefix = order["prefix"]
        sys.executable = order["program"]
        known = set(sys.path)
        for place in order["sites"]:
            site.addsitedir(place, known)
        modules = {f"{PACKAGE}.{name}" if name else PACKAGE: file for name, file in order["modules"].items()}
        modules.setdefault(PACKAGE, "")
        self.files = {file for file in modules.values() if file}
        sys.meta_path.insert(0, Finder(modules))
        beside = {name: file for name, file in order["modules"].items() if name}
        sys.meta_path.append(Finder(beside))
        try:
            import numpy
        except ImportError:
            raise Refused(f"{order['program']} has no numpy: install it there, or name another Python by VQ_PYTHON")
        AREAS = Areas()
        seeded(0)
        module = importlib.import_module(f"{PACKAGE}.{order['module']}")
        found = [cls for cls in vars(module).values() if is_method(cls, module)]
        found = list(dict.fromkeys(found))
        stem = order["id"]
        for cls in found:
            own = stem if len(found) == 1 else f"{stem}-{cls.__name__.lower()}"
            self.classes.append(Class(cls, module, own))
        answer = {"methods": [of.describe() for of in self.classes],
                  "version": ".".join(map(str, sys.version_info[:3])), "distributions": []}
        if order["describe"]:
            answer["distributions"] = distributions(order["sites"])
        return answer

    def grid(self, order, _):
        of = self.classes[order["class"]]
        return {"configs": list(of.configurations(order["dim"], order["metric"], order["bits"]))}

    def create(self, order, _):
        of = self.classes[order["class"]]
        try:
            made = Instance(of, order["params"], order["dim"], order["metric"])
        except ValueError as error:
            raise Refused(str(error), "config") from error
        number, self.next = self.next, self.next + 1
        self.instances[number] = made
        return {"instance": number, "code_bytes": made.code_bytes()}

    def obey(self, order, blob):
        what = order["op"]
        if what in ("open", "grid", "create"):
            return getattr(self, what)(order, blob), b""
        if what == "destroy":
            it = self.instances.pop(order["instance"], None)
            return {"wide": it.wide() if it else [], "changed": it.changed() if it else None}, b""
        it = self.instances[order["instance"]]
        if what == "train":
            it.take(order["first"], order["rows"], order["of"], order["from"])
            return {}, b""
        if what == "save":
            return {}, it.save()
        if what == "load":
            return it.load(blob), b""
        Threads.keep(order["threads"])
        seed = order["seed"] & 0xFFFFFFFF
        if what == "fit":
            return it.fit(seed), b""
        if what == "compress":
            it.compress(order["rows"], order["from"], order["to"], seed, order["timed"])
        elif what == "decompress":
            it.decompress(order["rows"], order["from"], order["to"], seed)
        elif what == "score":
            it.score(order["queries"], order["rows"], order["from"], order["codes"], order["to"], seed)
        return {}, b""


def distributions(sites):
    """The folders of metadata of what is imported by now."""
    from importlib.metadata import distributions as installed

    loaded = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if any(file.startswith(place + os.sep) for place in sites):
            loaded.add(name.partition(".")[0])
    found = []
    for one in installed(path=list(sites)):
        tops = (one.read_text("top_level.txt") or "").split()
        tops = set(tops) or {str(file).partition("/")[0].partition(".")[0] for file in one.files or []}
        if tops & loaded and getattr(one, "_path", None) is not None:
            found.append(str(one._path))
    return sorted(set(found))


def main():
    method = Method()
    while True:
        order, blob = receive()
        try:
            answer, back = method.obey(order, blob)
            send({"ok": answer}, back)
        except Refused as error:
            cause = error.__cause__
            place = blame(cause, method.files).rpartition(" (") if cause is not None else ("", "", "")
            where = f" ({place[2]}" if place[1] and error.kind != "config" else ""
            send({"error": f"{error}{where}", "kind": error.kind})
        except MemoryError as error:
            send({"error": f"ran out of memory: {blame(error, method.files)}", "kind": "memory"})
        except Exception as error:
            send({"error": blame(error, method.files), "kind": "failed"})
            if order["op"] not in ("open", "grid"):
                import traceback

                traceback.print_exc(limit=-8)
        except BaseException as error:
            send({"error": blame(error, method.files), "kind": "failed"})


main()
