#!/usr/bin/env python3
"""The licences of all that is linked into the binary and the plugins, with their texts.

Prints what `cargo metadata` and the sources of the crates say; the standard library's own list is
copied by build.sh. From the repository's root:
    packaging/licences.py TARGET > THIRD-PARTY-LICENCES.txt
"""

import json
import pathlib
import re
import subprocess
import sys

TEXT = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Sources and tools that happen to have such a name.
NO_TEXT = {".rs", ".c", ".h", ".py", ".toml", ".json", ".html", ".sh", ".yml", ".yaml"}


def linked(metadata):
    """Crates that the workspace's members need when they run, theirs excluded."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    members = set(metadata["workspace_members"])
    seen, waiting = set(members), list(members)
    while waiting:
        for dep in nodes[waiting.pop()]["deps"]:
            normal = any(kind["kind"] is None for kind in dep["dep_kinds"])
            if normal and dep["pkg"] not in seen:
                seen.add(dep["pkg"])
                waiting.append(dep["pkg"])
    crates = [crate for crate in metadata["packages"] if crate["id"] in seen - members]
    return sorted(crates, key=lambda crate: (crate["name"], crate["version"]))


def texts(crate):
    """Its licence files, also those of C sources that it carries."""
    root = pathlib.Path(crate["manifest_path"]).parent
    files = [path for depth in ("*", "*/*") for path in root.glob(depth)]
    named = [path for path in files if TEXT.match(path.name) and path.suffix not in NO_TEXT]
    return [path.read_text(errors="replace").strip() for path in sorted(named) if path.is_file()]


def main():
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    command += ["--filter-platform", sys.argv[1]]
    crates = linked(json.loads(subprocess.check_output(command)))
    owners = {}
    print("vq-host and its plugins contain the crates below. SQLite, which rusqlite compiles in, is")
    print("in the public domain. The Rust standard library is listed in COPYRIGHT-library.html.\n")
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        print(f"{name}: {crate['license'] or 'see its text'}, {crate['repository'] or 'no repository named'}")
        for text in texts(crate):
            owners.setdefault(text, []).append(name)
    for text, names in owners.items():
        print(f"\n{'=' * 80}\n{', '.join(dict.fromkeys(names))}\n{'=' * 80}\n{text}")


main()
