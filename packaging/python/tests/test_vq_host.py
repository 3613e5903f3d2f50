"""The package as it is installed: these want its wheel, pandas, polars and tqdm."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import vq_host

SWEEP: dict[str, Any] = {
    "dataset": [
        {
            "name": "gauss",
            "synthetic": {"kind": "gaussian", "n": 600, "dim": 16, "seed": 1},
            "queries": {"hold_out": 50},
        }
    ],
    "evaluate": {"k": [1, 10], "pairs": 100, "repeats": 1, "metrics": []},
    "method": [{"use": "sq", "params": {"bits": [2, 8]}}],
}


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQ_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells that ended well and one that did not."""
    folder = tmp_path_factory.mktemp("store")
    path = vq_host.run(SWEEP, store=folder / "results.db", progress=False)
    with pytest.warns(vq_host.CellsFailedWarning, match=r"results\.db"):
        vq_host.run(
            {**SWEEP, "method": [{"use": "lsq", "params": {"rounds": 1000}}]},
            store=path,
            timeout="1s",
            progress=False,
        )
    return path


def test_both_frames_have_the_columns_with_their_types(store: Path) -> None:
    """Whole numbers, flags, times and metrics are such, in either frame."""
    frame = vq_host.results(store)
    assert sorted(frame["outcome"]) == ["ok", "ok", "timeout"]
    assert frame["seed"].dtype == "Int64"
    assert frame["exclusive"].dtype == "boolean"
    assert frame["started_at"].dt.tz is not None
    assert frame["error"].isna().sum() == 2
    assert list(frame.set_index("label").loc["bits=8", ["n", "bits_per_dim"]]) == [550, 8.0]
    assert [json.loads(params).get("rounds") for params in frame["params"]].count(1000) == 1
    assert not set(frame.columns[frame.dtypes == "object"])

    other = vq_host.results(store, frame="polars")
    assert other.schema["seed"] == pl.Int64
    assert other.schema["exclusive"] == pl.Boolean
    assert other.schema["started_at"] == pl.Datetime("us", "UTC")
    assert other.columns == list(frame.columns)
    for name in ("label", "error", "recall@10", "train_rows", "deterministic"):
        here = [None if pd.isna(value) else value for value in frame[name]]
        assert other[name].to_list() == here


def test_every_column_that_is_no_metric_is_known(store: Path) -> None:
    """The host tells metrics by nothing but their place: after the key."""
    names = list(vq_host.results(store).columns)
    first = names[: names.index("key") + 1]
    kinds = vq_host.results(store, frame="polars").schema
    assert [name for name in first if kinds[name] == pl.Float64] == ["threads_used", "wall_s"]
    assert all(kinds[name] == pl.Float64 for name in names[len(first) :])


def test_options_of_the_command_are_keywords(store: Path) -> None:
    """With a value, without one, repeated, and with an underscore."""
    frame = vq_host.results(store, outcome=["ok", "timeout"], columns="mse", sort="mse:desc")
    assert list(frame["label"])[:2] == ["bits=2", "bits=8"]
    assert [name for name in frame.columns if "recall" in name] == []
    assert len(vq_host.results(store, best=True)) == 2
    assert len(vq_host.results(store, best=False, outcome=None)) == 3
    picks = vq_host.recommend(store, recall=0.5, rows=30e6, max_bits=8.5)["answers"][0]["picks"]
    assert picks[0]["params"]["bits"] == 8


def test_arrays_are_rows_and_a_second_run_measures_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An array is what a file of the same rows is; other values of NumPy are numbers."""
    rows = np.random.default_rng(1).normal(size=(600, 16)).astype("float32")
    sweep = {
        **SWEEP,
        "sweep": {"name": "arrays", "seeds": range(2)},
        "dataset": [{"name": "mine", "base": rows, "queries": rows[:20] + 0.1}],
        "method": [{"use": "sq", "params": {"bits": np.array([2, 8])}}],
    }
    store = vq_host.run(sweep, progress=False)
    assert store == Path("results/arrays.db")
    assert capsys.readouterr().err == ""
    frame = vq_host.results(store)
    assert len(frame) == 4
    assert set(frame["queries"]) == {20}
    assert vq_host.run(sweep) == store
    assert "nothing to run" in capsys.readouterr().err
    np.save("mine.npy", rows)
    file = {**sweep, "dataset": [{**sweep["dataset"][0], "base": Path("mine.npy")}]}
    vq_host.run(file, progress=False)
    assert len(vq_host.results(store)) == 4
    assert list(Path().glob(".*")) == []


def test_vectors_alone_are_a_tournament() -> None:
    """What `vq-host run --data` does, of an array."""
    rows = np.random.default_rng(1).normal(size=(500, 8)).astype("float32")
    store = vq_host.run(data=rows, method="sq", param="bits=8", progress=False)
    assert store == Path("results/command-line.db")
    assert set(vq_host.results(store)["dataset"]) == {"data"}


def test_progress_is_lines_without_tqdm_and_a_bar_with_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar ends at as many cells as there are."""
    vq_host.run(SWEEP)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    vq_host.run(SWEEP, force=True)
    err = capsys.readouterr().err
    assert [line[:5] for line in err.splitlines() if line.startswith("[")] == ["[1/2]", "[2/2]"]


def test_errors_are_the_hosts_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Each says what, where and what to do, once."""
    with pytest.raises(vq_host.HostError, match=r"(?s)unknown key `usee`.*did you mean `use`") as e:
        vq_host.run({**SWEEP, "method": [{"usee": "sq"}]})
    assert e.value.code == 1
    assert "[sweep:" in str(e.value)
    assert "unknown key" not in capsys.readouterr().err
    with pytest.raises(vq_host.HostError, match="should be a table"):
        vq_host.run({**SWEEP, "sweep": 3})
    with pytest.raises(vq_host.HostError, match=r"no store at nowhere\.db"):
        vq_host.results("nowhere.db")
    with pytest.raises(vq_host.HostError, match="--best") as e:
        vq_host.results("nowhere.db", bets=True)
    assert e.value.code == 2
    with pytest.raises(TypeError, match=r"dataset\[0\]\.base is None"):
        vq_host.run({"dataset": [{"base": None}]})
    with pytest.raises(ValueError, match="a sweep or data"):
        vq_host.run()
    with pytest.raises(ValueError, match="write_sweep"):
        vq_host.run(data=np.zeros((9, 8)), write_sweep="next.toml")
    assert list(Path().glob(".*")) == []


def test_a_frame_that_cannot_be_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install pandas, or give frame='polars'"):
        vq_host.results("nowhere.db")


def test_the_default_sweep_came_with_it() -> None:
    """Its paths lead to its data, and its methods are found."""
    call = [str(vq_host.program()), "plan", str(vq_host.default_sweep()), "--format=json"]
    plan = json.loads(subprocess.check_output(call, stderr=subprocess.DEVNULL))
    assert len(plan["cells"]) > 50
    ours = Path(sys.prefix) / "lib/vq-host/plugins"
    methods = json.loads(subprocess.check_output([vq_host.program(), "methods", "--format=json"]))
    text = json.dumps(methods)
    assert str(ours / "libvq_pq.so") in text


@pytest.mark.parametrize("everyone", [True, False])
def test_an_interrupt_keeps_what_is_finished(*, everyone: bool) -> None:
    """A terminal tells both processes, a notebook may tell Python alone."""
    sweep = {**SWEEP, "sweep": {"seeds": range(2000)}}
    script = f"import vq_host\nvq_host._run._GRACE_S = 1\nvq_host.run({sweep!r}, store='cut.db')"
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.modules['tqdm.auto'] = None; {script}"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as python:
        assert python.stderr is not None
        for line in python.stderr:
            if line.startswith("[   3/"):
                break
        (os.killpg if everyone else os.kill)(python.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in python.stderr.read()
    assert len(vq_host.results("cut.db", outcome="ok")) >= 3
    assert list(Path().glob(".*")) == []
