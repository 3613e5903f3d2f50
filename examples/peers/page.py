"""What was found, as lines for a terminal of 80 columns and as Markdown."""

import shlex
import statistics
import textwrap

from codes import BESIDE, TOP, mean, scan
from quality import ratio, verdict
from report import short, table


def wrapped(text):
    return textwrap.fill(text, 79, subsequent_indent="  ")


# What choosing a machine's own paths is; a page names none.
OWN_PATHS = {"--host", "--plugins", "--program", "--folder", "--store", "--markdown", "--minutes"}
ABOUT_CODES = """First, for each set, wheels that hand out codes: `faiss-…`, `nanopq-…` and `scann-lut…` are these wheels, all
other names are ours. The referee gives all the same rows, counts the bytes, and decodes where only the codes and the saved
model are. Rows of one rate have its bytes, or up to 5 % fewer. `recall@10`: of an exact scan by the method's estimates, else
by decoded rows. `relative error`: of decoded rows, to the base's variance. `rmse / σ`: of estimates, to the deviation of what
is estimated. `scan`: estimates per second, or codes that the method's own search gets through; where it has neither, decoded
rows were compared."""
ABOUT_RIVALS = """Then, under *Quality*, rivals in one process, asked by search; ours beside each with the same bits, and with its
bytes."""


def head(options, arguments):
    """What the page is, and the command that makes it again on another machine."""
    command = ["examples/peers/run.sh"]
    for name, value in zip(arguments[::2], arguments[1::2]):
        if name not in OWN_PATHS:
            command += [name, "DIR" if name == "--data" else shlex.quote(value)]
    text = ["# Peers: the field's wheels beside ours", "Generated completely by `examples/peers`; do not edit."]
    text.append(f"```sh\n{' '.join(command)} --markdown docs/peers.md\n```")
    text += [ABOUT_CODES] if "codes" in options.parts else []
    text += [ABOUT_RIVALS] if {"apart", "quality"} & set(options.parts) else []
    return "\n\n".join(text)


def about(described):
    return "\n".join(f"- {name}: {text}" for name, text in described.items())


def number(value):
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def ours_named(row):
    """Method and what decides its bytes."""
    settings = row.settings
    if "rate" in settings:
        return f"{row.match.method} as many bytes"
    bits = str(settings["bits"]) if "bits" in settings else ""
    if settings.get("residual"):
        bits += f"x{settings['residual']}"
    return f"{row.match.method} {bits}".strip()


def compared(ours, rival, less_is_better):
    """Ratio, half its interval or None, verdict."""
    of, half = ratio(ours, rival)
    return of, half, verdict(of, half, less_is_better)


def measured(values, digits):
    of, half = mean(values)
    return f"{of:.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def codes_table(lines, missed, metric, options):
    """By rate, the best recall first; then those with more bytes, each beside ours of the same."""
    head = ["bits", "bytes", "method", "configuration", f"recall@{TOP}", "relative error", "rmse / σ"]
    head += ["fit s", "encode rows/s", "scan codes/s", "seeds"]
    found, loads = [], [record["timing"]["load_average"] for of in lines for record in of.records]
    for of in sorted(lines, key=lambda of: (of.rate, apart(of), -mean(of.values(f"recall@{TOP}"))[0])):
        sigma = of.values("estimator_scale")[0]
        found.append(
            [
                f"{of.rate:g}{'+' if apart(of) else ''}",
                str(of.bytes()),
                f"`{of.method}`",
                of.configuration(),
                measured(of.values(f"recall@{TOP}"), 4),
                measured(of.values("relative_error"), 5),
                measured([value / sigma for value in of.values("rmse")], 4),
                f"{of.one('fit_s'):.2f}",
                short(of.one("compress_vectors_per_s")),
                rate(scan(of)),
                str(len(of.records)),
            ]
        )
    said = (
        f"Metric {metric}, threads: {options.threads[-1]}, a cell has {options.timeout} s. Mean ± half of the 95 % "
        "interval over seeds, none where nothing is random; medians of times, while the machine's load average was "
        f"{min(loads):.1f} to {max(loads):.1f}. `+`: more bytes than the rate, and ours with the same."
    )
    apart_from = [
        f"- `{use}` at {', '.join(f'{rate:g}' for rate in rates)} bits: {reason}" for use, reason, rates in missed
    ]
    lines = [f"### Codes that the referee stores\n{said}", table(head, found)]
    return "\n\n".join(lines + (["No row:\n" + "\n".join(apart_from)] if apart_from else []))


def apart(of):
    """Whether its bytes are another's, and not the rate's."""
    return of.beside or (of.method if of.method in BESIDE else "")


def quality_lines(rows):
    lines = [f"{'rival':21} {'ours':18} {'bytes':>9}  {'error':>5} {'':6} {'recall@10':9}"]
    for row in rows:
        error, judged = "–", ""
        if row.rival.error is not None:
            of, _, judged = compared(row.ours.error, row.rival.error, True)
            error = f"{of:.3f}"
        recall = [statistics.fmean(side.recall) for side in (row.ours, row.rival)]
        own = compared(row.ours.recall, row.rival.recall, False)[2]
        own = {"equal": "=", "better": "+", "worse": "-"}[own]
        sizes = f"{number(row.ours.bytes)}/{number(row.rival.bytes)}"
        name = row.match.rival.name.replace("TurboQuant", "TQ").replace("calibrated", "cal.")
        lines.append(
            f"{name:21} {ours_named(row).replace('as many bytes', '= bytes'):18} {sizes:>9}  "
            f"{error:>5} {judged:6} {recall[0]:.3f}/{recall[1]:.3f} {own}"
        )
    return "\n".join(lines)


def with_interval(values):
    of, half, judged = values
    return f"{of:.3f}" + (f" ± {half:.3f}" if half is not None else "") + f" {judged}"


def rate(value):
    return "–" if value is None else short(value)


def quality_table(rows, options):
    head = [
        "rival",
        "its rotation",
        "its centre",
        "ours",
        "bytes ours / rival",
        "error ours / rival",
        "ratio",
        "recall@10",
        "ratio",
        "encode rows/s",
        "scan codes/s",
    ]
    lines = []
    for row in rows:
        rival, error = row.match.rival, ["–", "–"]
        if row.rival.error is not None:
            means = [statistics.fmean(side.error) for side in (row.ours, row.rival)]
            error = [f"{means[0]:.5f} / {means[1]:.5f}", with_interval(compared(row.ours.error, row.rival.error, True))]
        recall = [statistics.fmean(side.recall) for side in (row.ours, row.rival)]
        settings = {name: value for name, value in row.settings.items() if name != "rate"}
        settings = " ".join(f"{name}={value}" for name, value in settings.items())
        if "rate" in row.settings:
            settings = f"rate={row.settings['rate']:.3f} {settings}"
        lines.append(
            [
                f"{rival.name}, {rival.metric}",
                rival.rotation + ("" if rival.seeded else ", one run"),
                "mean" if rival.centred else "none",
                f"`{row.match.method}` {settings}",
                f"{number(row.ours.bytes)} / {number(row.rival.bytes)}",
                *error,
                f"{recall[0]:.4f} / {recall[1]:.4f}",
                with_interval(compared(row.ours.recall, row.rival.recall, False)),
                f"{rate(row.ours.encode)} / {rate(row.rival.encode)}",
                f"{rate(row.ours.scan)} / {rate(row.rival.scan)}",
            ]
        )
    said = (
        f"Over {options.seeds} seeds: the error of estimates over the standard deviation of what is estimated, and "
        "recall@10 of a scan of all codes. Ratio: ours over the rival's with its 95 % interval; better or worse where "
        "all of it lies beyond 1 %. Rivals are `unproven`, as the referee calls it: nothing decodes their codes apart "
        "from what made them. Where ours encodes, a rival without such a call builds an index. Speeds are ours / the "
        "rival's, one after the other; --parts speed times them by turns."
    )
    return f"### Quality\n{said}\n\n{table(head, lines)}"


def speed_lines(rows, threads):
    lines = [f"{threads} thread{'s' * (threads > 1)}: ours as a multiple of the rival's", ""]
    lines[1] = f"{'rival':24} {'ours':15} {'bytes':>9}  {'encode':>6} {'goal':>5}  {'search':>6} {'goal':>5}"
    for row in rows:
        sizes = f"{number_of_ours(row)}/{number(row.rival_bytes)}"
        name = f"{row.match.rival.name}{' dense' * (row.match.rival.rotation == 'dense')}".replace("TurboQuant", "TQ")
        encode, search = (
            [f"{p.ratio():.2f}", f"{p.goal:g}" if p.goal else ""] if p else ["–", ""] for p in (row.encode, row.search)
        )
        lines.append(
            f"{name:24} {ours_named(row):15} {sizes:>9}  {encode[0]:>6} {encode[1]:>5}  {search[0]:>6} {search[1]:>5}"
        )
    return "\n".join(lines)


def number_of_ours(row):
    return "?" if row.ours_bytes is None else number(row.ours_bytes)


def speed_table(rows, threads):
    head = [
        "rival",
        "ours",
        "bytes ours / rival",
        "encode, vectors/s",
        "ratio",
        "goal",
        "search, queries/s",
        "ratio",
        "goal",
    ]
    lines = []
    for row in rows:
        cells = []
        for pair in (row.encode, row.search):
            if pair is None:
                cells += ["–", "–", "–"]
                continue
            met = "" if pair.goal is None else f"{pair.goal:g}× " + ("met" if pair.ratio() >= pair.goal else "missed")
            cells += [f"{short(pair.ours)} / {short(pair.rival)}", f"{pair.ratio():.2f}×", met or "–"]
        settings = " ".join(f"{name}={value}" for name, value in row.settings.items())
        rival = row.match.rival
        lines.append(
            [
                f"{rival.name}, {rival.rotation}",
                f"`{row.match.method}` {settings}",
                f"{number_of_ours(row)} / {number(row.rival_bytes)}",
                *cells,
            ]
        )
    return f"### Speed, {threads} thread{'s' * (threads > 1)}\n{table(head, lines)}"


def large_lines(rows):
    lines = [f"{'ours':32} {'fit s':>7} {'encode s':>8} {'peak MB':>7} {'over MB':>7}  {'VQ-bench s':>10}"]
    for row in rows:
        settings = " ".join(f"{name}={value}" for name, value in row.settings.items())
        theirs = "–" if row.theirs_s is None else f"{row.theirs_s}"
        lines.append(
            f"{f'{row.method} {settings}':32} {row.fit_s:7.2f} {row.encode_s:8.2f} {row.peak_bytes / 1e6:7.0f} "
            f"{row.over() / 1e6:7.0f}  {theirs:>10}"
        )
    return "\n".join(lines)


def large_table(rows, options):
    head = [
        "ours",
        "fit s",
        "encode s",
        "peak MB",
        "block + codes MB",
        "beyond them MB",
        "VQ-bench",
        "its s",
        "its peak GB",
        "its s / ours",
    ]
    lines = []
    for row in rows:
        settings = " ".join(f"{name}={value}" for name, value in row.settings.items())
        peak, over = row.peak_bytes / 1e6, row.over() / 1e6
        theirs = ["–"] * 4
        if row.theirs is not None:
            gain = row.theirs_s / (row.fit_s + row.encode_s)
            theirs = [row.theirs, f"{row.theirs_s}", f"{row.theirs_gb or '–'}", f"{gain:.0f}×"]
        lines.append(
            [
                f"`{row.method}` {settings}",
                f"{row.fit_s:.2f}",
                f"{row.encode_s:.2f}",
                f"{peak:.0f}",
                f"{peak - over:.0f}",
                f"{over:.0f}",
                *theirs,
            ]
        )
    said = (
        f"{options.size} synthetic rows (clustered), {options.threads[-1]} threads. VQ-bench's figures are those that "
        "it publishes for 1,344,643 × 768 text embeddings, on another machine and other data: an order of magnitude, "
        "no measured ratio."
    )
    return f"## Large size\n{said}\n\n{table(head, lines)}"
