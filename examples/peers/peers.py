"""Our methods beside independent implementations: quality at equal bytes, speed by turns, and a large size."""

import argparse
import os
import pathlib
import re
import sys
import tempfile
import time

# Before anything loads a BLAS: what happens to be set in this shell is nobody's choice. The processes that time import
# this file too, with an environment that was chosen.
if __name__ == "__main__":
    for variable in [name for name in os.environ if name.startswith(("OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "RAYON_"))]:
        del os.environ[variable]

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "compare"))

import codes
import large
import machine
import matches
import page
import quality
import rivals
import rows
import speed


STARTED = time.monotonic()
PARTS = ("codes", "apart", "quality", "speed")


class Options(argparse.Namespace):
    """What was asked; it travels to the processes that time."""

    def takes(self, text):
        return re.search(self.only, text) is not None

    def wanted(self, match):
        return self.takes(f"{match.rival.name} beside {match.method}")

    def is_over(self):
        """Whether no new cell of codes is to begin."""
        return self.minutes is not None and time.monotonic() - STARTED > 60 * self.minutes

    def of_quality(self):
        found = [match for match in matches.quality() if self.wanted(match)]
        return found if "quality" in self.parts else [match for match in found if not match.rival.codes_apart]


def options():
    parser = argparse.ArgumentParser(prog="examples/peers/run.sh", description=__doc__)
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="NAME_base, NAME_learn and NAME_query in big-ann files; default: the repository's words",
    )
    parser.add_argument("--sets", metavar="A,B", help="only these sets")
    parser.add_argument("--limit", type=int, metavar="ROWS", help="only so many first rows of each base")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="rows whose 'RIVAL beside METHOD' matches, of --size METHOD alone"
    )
    parser.add_argument("--learn", type=int, metavar="ROWS", help="only so many first rows to learn from")
    parser.add_argument("--queries", type=int, metavar="ROWS", help="only so many first queries")
    parser.add_argument(
        "--parts",
        default="quality,speed",
        metavar="A,B",
        help="codes, apart, quality, speed (the last two by default); apart: the rows of quality whose rivals hand out "
        "no codes",
    )
    parser.add_argument(
        "--timeout", type=int, default=60, metavar="SECONDS", help="most time of a cell of codes (default 60)"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="begin no new cell of codes after so many; the page names what it lacks"
    )
    parser.add_argument(
        "--store",
        default=str(HERE.parents[1] / "results" / "peers.db"),
        metavar="FILE",
        help="records of codes, from which a stopped run goes on (default results/peers.db)",
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="rotations per row of quality (default 10)")
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="timed repetitions per side; medians count (default 3)"
    )
    parser.add_argument(
        "--threads",
        default="1,2",
        metavar="1,2",
        help="thread counts of speed, the last one for all else (default 1,2)",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells of quality at once (default 1)")
    parser.add_argument(
        "--size", metavar="NxD", help="instead: fit, encode and memory of ours at this size, such as 1344643x768"
    )
    parser.add_argument("--markdown", metavar="FILE", help="write the page there")
    parser.add_argument(
        "--folder", metavar="DIR", help="where rows and results lie meanwhile; default: the system's temporary folder"
    )
    parser.add_argument("--host", default=os.environ.get("VQ_HOST"), metavar="FILE", help="vq-host (VQ_HOST)")
    parser.add_argument("--plugins", metavar="DIR", help="folder of libvq_*.so; default: that of vq-host")
    parser.add_argument("--program", metavar="FILE", help="vq-compare; default: beside vq-host")
    found = parser.parse_args(namespace=Options())
    found.threads = [int(count) for count in found.threads.split(",")]
    found.parts = found.parts.split(",")
    if unknown := set(found.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}")
    if found.host is None:
        parser.error("--host or VQ_HOST says where vq-host is")
    beside = pathlib.Path(found.host).resolve().parent
    found.plugins = str(pathlib.Path(found.plugins or beside).resolve())
    found.program = found.program or str(beside / "vq-compare")
    return found


def main():
    asked, notes = options(), []

    def note(text):
        if text not in notes:
            notes.append(text)
            print(f"  {text}", flush=True)

    # Libraries that keep their own number of threads read it when they are loaded.
    os.environ |= {name: str(asked.threads[-1]) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS")}
    about = machine.describe()
    about["libraries"] = ", ".join(f"{name} {rivals.version(name) or 'absent'}" for name in rivals.PACKAGES)
    print("\n".join(page.wrapped(f"{name}: {text}") for name, text in about.items()), flush=True)
    written = [page.head(asked, sys.argv[1:]), page.about(about)]
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        folder = pathlib.Path(folder)
        if asked.size is not None:
            found = large.measure(asked.size, asked, folder, note)
            print(page.large_lines(found))
            written.append(page.large_table(found, asked))
        else:
            give_faiss_its_kernels(note)
            found = {
                name: files
                for name, files in rows.sets(asked.data).items()
                if asked.sets is None or name in asked.sets.split(",")
            }
            for name, files in found.items():
                most = {"learn": asked.learn, "query": asked.queries}
                data = rows.load(name, files, asked.limit, folder, most)
                title = (
                    f"{name}: {len(data.base)} x {data.dim}, {len(data.query)} queries, {len(data.learn)} training rows"
                )
                print(f"\n{title}", flush=True)
                written.append(f"## {title}")
                if "codes" in asked.parts:
                    of, missed = codes.measure(data, rows.metric(files), asked, folder)
                    written.append(page.codes_table(of, missed, rows.metric(files), asked))
                if {"apart", "quality"} & set(asked.parts):
                    of = quality.measure(data, asked.of_quality(), asked, folder, note)
                    print(page.quality_lines(of), flush=True)
                    written.append(page.quality_table(of, asked))
                if "speed" in asked.parts:
                    for threads in asked.threads:
                        of, missed = speed.measure(asked, name, files, threads)
                        for text in missed:
                            note(text)
                        print(page.speed_lines(of, threads), flush=True)
                        written.append(page.speed_table(of, threads))
    if notes:
        written.append("Not compared:\n" + "\n".join(f"- {text}" for text in notes))
    if asked.markdown is not None:
        pathlib.Path(asked.markdown).write_text("\n\n".join(written) + "\n")


def give_faiss_its_kernels(note):
    """Its wheel's BLAS knows no newer CPU: as in examples/compare it gets the best kernels there are."""
    try:
        machine.FaissEnvironment("auto", compare=False)
    except RuntimeError as error:
        note(f"faiss: {error}")


if __name__ == "__main__":
    main()
