"""Runs a notebook in the working directory and stores it with its outputs."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
NotebookClient(notebook, timeout=300).execute()
# Times of execution tell nothing, and a stored bar is only what it was at first.
notebook.metadata.pop("widgets", None)
for cell in notebook.cells:
    cell.metadata.pop("execution", None)
    if "outputs" in cell:
        bar = "application/vnd.jupyter.widget-view+json"
        cell.outputs = [output for output in cell.outputs if bar not in output.get("data", {})]
nbformat.write(notebook, path)
print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
