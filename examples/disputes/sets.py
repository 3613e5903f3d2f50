"""A committed sweep with the data sets of a folder in place of its own."""

import json
import sys


def datasets_of(folder, limit):
    """The [[dataset]] tables of a folder's sets, of at most `limit` rows."""
    tables = []
    for base in sorted(folder.glob("*_base.*")):
        name = base.name.split("_base.")[0]
        sibling = lambda part: next(iter(sorted(folder.glob(f"{name}_{part}.*"))), None)
        queries, learn = sibling("query"), sibling("learn")
        lines = [
            "[[dataset]]",
            f"name = {json.dumps(name)}",
            f"base = {json.dumps(str(base))}",
            f"queries = {json.dumps(str(queries))}" if queries else "queries = { hold_out = 500 }",
        ]
        if learn:
            lines.append(f"train = {json.dumps(str(learn))}")
        if limit:
            lines.append(f"limit = {limit}")
        tables.append("\n".join(lines))
    if not tables:
        sys.exit(f"{folder} has no file named NAME_base.EXT")
    return "\n\n".join(tables) + "\n\n"


def on_other_rows(sweep, folder, limit, copy):
    """Writes `copy`, the sweep with the sets of `folder`, of at most `limit` rows each."""
    text = sweep.read_text(encoding="utf-8")
    first, after = text.index("[[dataset]]"), text.index("[evaluate]")
    copy.write_text(text[:first] + datasets_of(folder.resolve(), limit) + text[after:], encoding="utf-8")
    return copy
