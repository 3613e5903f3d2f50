"""The outcome of a run as lines and as a page."""

import shlex
import statistics

import machine
from works import flops, moved

# Recall@10 of 1,000 queries may be lower by this much and still be equal: codebooks of equal error
# differ so much by their seeds. Exact neighbours have no slack.
RECALL_SLACK = 0.015
# Every encode has to gain at least this much from a second thread.
SCALING_GOAL = 1.8
# FAISS's slow sub-dimensions: each encode has its goal, and their median has this one.
MEDIAN_GOAL = 12


def short(value, digits=3):
    """Three digits and a letter."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            value, unit = value / size, letter
            break
    else:
        unit = ""
    decimals = max(0, digits - len(str(int(value))))
    return f"{value:.{decimals}f}{unit}"


def times(ratio):
    return f"{ratio:.1f}×" if ratio >= 9.95 else f"{ratio:.2f}×"


def lines_joined(text):
    """A paragraph as one line."""
    return " ".join(text.split())


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


class Run:
    """Everything one run found."""

    def __init__(self, options, environment, about):
        self.options, self.environment, self.about = options, environment, about
        self.sgemm, self.copy, self.read = {}, {}, {}
        self.outcomes = []
        self.load, self.took_s = None, 0.0

    def add(self, outcome, data):
        outcome.flops = flops(outcome.work, data, outcome.n)
        outcome.moved = moved(outcome.work, data, outcome.n)
        self.outcomes.append(outcome)

    def measure_limits(self, ours, size):
        """What the machine can do at most, on each thread count; the higher of several measurements counts."""
        for threads in self.options.threads:
            measured = (
                (self.sgemm, machine.sgemm(threads)),
                (self.copy, ours.bandwidth("copy", threads, size)),
                (self.read, ours.bandwidth("read", threads, size)),
            )
            for limits, rate in measured:
                limits[threads] = max(rate, limits.get(threads, 0))

    def most(self):
        return [o for o in self.outcomes if o.threads == self.options.threads[-1]]

    def limits_line(self):
        return ", ".join(
            f"{t} thread{'s' * (t > 1)}: sgemm {self.sgemm[t] / 1e9:.0f} Gflop/s, "
            f"copy {self.copy[t] / 1e9:.1f} GB/s, read {self.read[t] / 1e9:.1f} GB/s"
            for t in self.options.threads
        )

    # One work.

    def speed(self, outcome, side, fastest=False):
        """A rate, or seconds."""
        seconds = (outcome.fastest if fastest else outcome.seconds).get(side)
        if seconds is None:
            return "–"
        if outcome.work.seconds:
            return f"{seconds:.3g} s"
        unit = "codes/s" if outcome.work.kind == "scan" else "/s"
        return f"{short(outcome.per_call / seconds)} {unit}".replace(" /s", "/s")

    def ratio(self, outcome, side):
        """How many times faster ours is."""
        if "ours" not in outcome.seconds or side not in outcome.seconds:
            return None
        return outcome.seconds[side] / outcome.seconds["ours"]

    def ratio_text(self, outcome, side):
        ratio = self.ratio(outcome, side)
        return "–" if ratio is None else times(ratio)

    def quality(self, outcome):
        of = outcome.quality
        texts = [f"{of[side]:.4g}" for side in ("ours", "faiss") if side in of]
        # Named only where tuning FAISS changes what comes out.
        if "tuned" in of and f"{of['tuned']:.3g}" != f"{of['faiss']:.3g}":
            texts[-1] += f" ({of['tuned']:.4g} tuned)"
        return " / ".join(texts)

    def equal_quality(self, outcome):
        ours, faiss = outcome.quality.get("ours"), outcome.quality.get("faiss")
        if ours is None or faiss is None:
            return True
        if outcome.work.kind == "neighbours":
            return ours >= faiss
        if outcome.work.kind == "scan":
            return ours >= faiss - RECALL_SLACK
        return ours <= faiss * (1 + outcome.work.worse)

    def goal(self, outcome):
        texts = []
        for side, goal in (("faiss", outcome.work.goal), ("tuned", outcome.work.tuned_goal)):
            ratio = self.ratio(outcome, side)
            if goal is None:
                continue
            if ratio is None:
                texts.append(f"{goal:g}× not measured")
                continue
            met = ratio >= goal and self.equal_quality(outcome)
            why = "" if ratio < goal or met else ", worse quality"
            suffix = " tuned" if side == "tuned" else ""
            texts.append(f"{goal:g}×{suffix} {'met' if met else '**missed**'}{why}")
        return "; ".join(texts) or "–"

    def cells(self, outcome):
        work = outcome.work
        name = f"{work.name}, n={outcome.shown_n:,}"
        return [
            name,
            self.speed(outcome, "ours") if not outcome.refused else "failed",
            self.speed(outcome, "faiss"),
            self.ratio_text(outcome, "faiss"),
            self.speed(outcome, "tuned"),
            self.ratio_text(outcome, "tuned"),
            self.quality(outcome),
            self.goal(outcome),
        ]

    def line(self, outcome):
        cells = self.cells(outcome)
        name, ours, faiss, ratio, tuned, tuned_ratio, quality, goal = cells
        text = f"{outcome.threads}T {name:44} ours {ours:>14}  FAISS {faiss:>14} {ratio:>7}"
        text += f"  tuned {tuned:>14} {tuned_ratio:>7}  {quality}"
        limit = self.limit_text(outcome, "ours")
        widest = max(outcome.spread.values(), default=0)
        if widest > 0.25:
            text += f"  (noisy: spread {100 * widest:.0f} %)"
        if limit:
            text += f"  [{limit}]"
        if outcome.work.goal or outcome.work.tuned_goal:
            text += f"  goal {goal}"
        return text + (f"  FAILED: {outcome.refused}" if outcome.refused else "")

    def limit_text(self, outcome, side):
        seconds = outcome.seconds.get(side)
        if seconds is None:
            return ""
        if outcome.flops:
            rate = outcome.flops / seconds
            return f"{100 * rate / self.sgemm[outcome.threads]:.0f} % of sgemm"
        if outcome.moved:
            rate = outcome.moved / seconds
            return f"{100 * rate / self.copy[outcome.threads]:.0f} % of copy"
        return ""

    # The page.

    def markdown(self):
        options = self.options
        most = options.threads[-1]
        command = "examples/compare/run.sh " + shlex.join(self.shown_arguments())
        about = self.about | {
            "load average before / after": " / ".join(" ".join(f"{x:.2f}" for x in load) for load in self.load),
            "took": f"{self.took_s / 60:.0f} min",
        }
        parts = [
            "# Performance: our kernels and FAISS in one run",
            "Generated completely by `examples/compare`; do not edit.",
            f"```\n{command}\n```",
            table(("", "what it was measured on"), [(name, text) for name, text in about.items()]),
            f"## Works, {most} threads" if most > 1 else "## Works, 1 thread",
            self.works_intro(),
            self.works_table(),
            "## From one thread to more",
            self.scaling(),
            "## How far from the machine's limits",
            self.limits(),
            "## What was done to be fair",
            self.fairness(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def works_table(self):
        head = ("work", "ours", "FAISS as it comes", "ratio", "FAISS tuned", "ratio", "quality ours / FAISS", "goal")
        rows = [self.cells(o) for o in self.most()]
        return f"{self.drawn()}{table(head, rows)}\n\n{self.summary()}"

    def drawn(self):
        """Said wherever speeds of drawn data are shown."""
        if self.options.data:
            return ""
        return "**Drawn data**, not the real sets: the shapes are the same, speeds are close, qualities are not.\n\n"

    def shown_arguments(self):
        """The command's arguments, without this machine's folders."""
        o = self.options
        shown = ["--data", "DIR"] if o.data else []
        shown += ["--only", o.only] if o.only else []
        shown += ["--repeats", str(o.repeats), "--threads", ",".join(map(str, o.threads))]
        shown += ["--blas", o.blas] if o.blas != "auto" else []
        return shown + ["--markdown", "docs/performance.md"]

    def works_intro(self):
        return lines_joined(f"""
            Medians of {self.options.repeats} repetitions of at least 0.3 s, the sides in turn. Rates are vectors per
            second, or codes per second where every query scans all codes; ratios are times faster. Quality: relative error
            Σ‖x−x̂‖²/Σ‖x−mean‖² of each side's own trained codec, mean squared distance for k-means, recall@10 for
            scans, recall@100 for exact neighbours. A goal is met where the ratio is reached and the quality is not worse:
            error by at most 0.2 % after a training, 0.5 % after an encode or decode, 0.1 % for k-means; recall of scans
            by at most {RECALL_SLACK}, since codebooks of equal error differ so much by their seeds.""")

    def summary(self):
        wide = [
            self.ratio(o, "faiss")
            for o in self.most()
            if o.work.kind == "encode" and o.work.data in ("glove100", "minilm384")
        ]
        wide = [ratio for ratio in wide if ratio is not None]
        goals = [text for o in self.most() for text in self.goal(o).split("; ") if text != "–"]
        lines = []
        if wide:
            median = statistics.median(wide)
            met = "met" if median >= MEDIAN_GOAL else "**missed**"
            goals.append(met)
            lines.append(
                f"Median ratio of the PQ encodes on glove100 and minilm384: {times(median)}, goal {MEDIAN_GOAL}× {met}."
            )
        lines.append(f"Goals met: {sum('met' in text.split() for text in goals)} of {len(goals)}.")
        failed = [f"- {o.work.name}: {o.refused}" for o in self.most() if o.refused]
        if failed:
            lines.append("Failed on our side:\n" + "\n".join(failed))
        return "\n\n".join(lines)

    def scaling(self):
        few, most = self.options.threads[0], self.options.threads[-1]
        if few == most:
            return "One thread count was measured."
        alone = {o.work.name: o for o in self.outcomes if o.threads == few}
        rows = []
        for o in self.most():
            one = alone.get(o.work.name)
            if one is None or "ours" not in o.seconds or "ours" not in one.seconds:
                continue
            gain, faiss = (one.fastest[side] / o.fastest[side] for side in ("ours", "faiss"))
            goal = "–"
            if o.work.kind == "encode":
                goal = f"{SCALING_GOAL}× {'met' if gain >= SCALING_GOAL else '**missed**'}"
            rows.append(
                (
                    o.work.name,
                    self.speed(one, "ours", fastest=True),
                    self.speed(o, "ours", fastest=True),
                    times(gain),
                    self.speed(one, "faiss", fastest=True),
                    self.speed(o, "faiss", fastest=True),
                    times(faiss),
                    times(one.spin_s / o.spin_s),
                    goal,
                )
            )
        head = ("work", f"ours, {few}", f"ours, {most}", "gain", f"FAISS, {few}", f"FAISS, {most}", "gain", "machine")
        note = lines_joined("""
            The fastest repetition of each, the thread counts in turn: what else runs on the host takes from one count or from
            the other. "machine" is the gain of products in registers, which share nothing, measured beside each repetition:
            no work can gain more than that for long.""")
        return note + "\n\n" + table((*head, "goal"), rows)

    def limits(self):
        head = ("threads", "sgemm 2048³, Gflop/s", "copy, GB/s", "read, GB/s")
        rows = [
            (str(t), f"{self.sgemm[t] / 1e9:.0f}", f"{self.copy[t] / 1e9:.1f}", f"{self.read[t] / 1e9:.1f}")
            for t in self.options.threads
        ]
        works = []
        for o in self.most():
            if o.flops or o.moved:
                rates = [(self.rate(o, side), self.limit_text(o, side)) for side in ("ours", "faiss", "tuned")]
                works.append((o.work.name, *(text or "–" for pair in rates for text in pair)))
        text = lines_joined("""
            sgemm is numpy's BLAS; copy counts the bytes read and the bytes written, of arrays of 256 MiB each; the higher of a
            measurement before and one after the works. Operations
            are counted by the plain definition, 2·d·2^bits per vector for a PQ encode, times the layers for RQ (one inner
            product per centroid, whatever the beam), times the iterations for a PQ training; 2·k·d per row and iteration for
            k-means; 2·d per query and row for exact neighbours. Ways that skip work or use cheaper arithmetic can
            pass 100 %. SQ and f16 are compared with the copy: bytes read plus bytes written.""")
        head_works = ("work", "ours", "of the limit", "FAISS", "of the limit", "tuned", "of the limit")
        return "\n\n".join((table(head, rows), text, table(head_works, works) if works else ""))

    def rate(self, outcome, side):
        """Operations or bytes per second."""
        seconds = outcome.seconds.get(side)
        if seconds is None:
            return ""
        if outcome.flops:
            return f"{outcome.flops / seconds / 1e9:.0f} Gflop/s"
        return f"{outcome.moved / seconds / 1e9:.1f} GB/s"

    def fairness(self):
        idle = max((o.intruded for o in self.outcomes), default=0)
        points = [
            """Same rows, row-major f32 in memory on both sides, from a line of the cache on, same number of threads; outputs allocated and written before;
            the whole set in one call (estimates: blocks of 65,536 codes × 32 queries on our side, as the host does it).""",
            """Ours is called through the plugin's C table as the host calls it. The clock starts when the output has been
            filled and ends when the call returns. FAISS is called through its Python bindings, whose cost per call is
            microseconds; its outputs are filled likewise.""",
            f"""While one side is timed the other sleeps: at most {100 * idle:.1f} % of a timed span was CPU time of the
            idle side.""",
            """PQ as it comes is `ProductQuantizer.train` and `compute_codes` (what the factory's `PQ8x8np` does: no polysemous
            training). Tuned: `distance_compute_blas_threshold = 20`, and codes by searching one `IndexFlatL2` per sub-space
            in blocks of 4,096 rows, a block per thread, the copies into sub-spaces and packing included.""",
            """PQ and k-means: 25 rounds and at most 256 rows per centroid on both sides, which is all rows but for the
            4-bit PQ; each side starts from its own random rows.""",
            """RQ as it comes is `ResidualQuantizer` with its defaults: k-means in growing dimensions, 10 steps of 10 rounds.
            Ours grows too, by a schedule of its own, then takes at most 15 rounds in all dimensions, enough for that
            error, and none of its joint rounds. Tuned: `use_beam_LUT = 1` and plain k-means of 18 rounds, about the fewest
            that reach it. Both learn from the first 20,000 rows of learn; what counts is the error reached.""",
            """OPQ is `OPQMatrix` with its defaults before PQ; both learn from 20,000 rows. PRQ
            and LSQ are `ProductResidualQuantizer` (tuned: `use_beam_LUT = 1`) and `LocalSearchQuantizer` with their
            defaults, without a byte for the norm. LSQ is trained once on each side.""",
            """Exact neighbours: `IndexFlatL2.search`, tuned with the BLAS threshold, over rows in memory; ours is the host's
            search, which reads the rows from a file in the page cache and proves its answer in f64, both in the time.
            Scans: `IndexPQ.search` and `IndexPQFastScan.search`. "top 10": both sides return the 10 nearest of all codes
            to all queries in one call, ours by the plugin's own search (`vq.search/1`), which keeps exactly what all f32
            estimates would keep. "estimates": ours writes every estimate through the plugin to memory and keeps none; FAISS keeps the nearest one (k = 1), its least.""",
            self.blas(),
            self.waiting(),
            self.spreads(),
        ]
        text = "\n".join(f"- {lines_joined(point)}" for point in points if point)
        return f"{text}\n\n{self.environments()}"

    def blas(self):
        e = self.environment
        if e.found is None:
            return ""
        if e.core is None:
            return f"The OpenBLAS in the FAISS wheel uses its `{e.found}` kernels here, as installed."
        return f"""The OpenBLAS in the FAISS wheel takes its `{e.found}` kernels on this CPU, which it does not know. Both
            columns of FAISS have `OPENBLAS_CORETYPE={e.core}` instead, the best this CPU runs: "as it comes" is FAISS as it
            comes on a CPU that its BLAS knows. `--blas as-installed` measures the other."""

    def waiting(self):
        cost = self.environment.cost_of_passive()
        text = f"""FAISS's OpenMP threads wait with `OMP_WAIT_POLICY=passive`, so that they do not spin while ours is timed;
            FAISS takes {cost:.2f} times as long so (geometric mean of the table below)."""
        if cost > 1.05:
            text += """ That is slower. It was taken nevertheless, because spinning threads would take a core from our side:
            allow for it in the ratios."""
        return text

    def spreads(self):
        wide = sorted((o for o in self.outcomes if o.spread), key=lambda o: -max(o.spread.values()))[:3]
        named = (f"{o.work.name} {o.threads}T {100 * max(o.spread.values()):.0f} %" for o in wide)
        return f"Widest spreads of repetitions, (max − min)/median: {', '.join(named)}."

    def environments(self):
        names = [
            f"{core or self.environment.found}, {wait or 'default'} waiting" for core, wait in self.environment.seconds
        ]
        of = list(self.environment.seconds.values())
        rows = [(work, *(f"{seconds[work]:.4f}" for seconds in of)) for work in of[0]]
        return table(("FAISS alone, seconds", *names), rows)
