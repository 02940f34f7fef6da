"""Stands in for the `sparsify` command in tests of the runner: leaves the same files, at once."""

import json
import os
import shutil
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # be it ignored, as in the background
book = Path(os.environ["IMITATION"])  # a folder: what was called, and how to misbehave
command, *arguments = sys.argv[1:]
options = dict(pairwise(arguments))
run = Path(options["--output"] if command == "train" else arguments[0])
how = [command, run.name, "--resume" if "--resume" in arguments else "new"]
with (book / "calls").open("a") as calls:
    calls.write(json.dumps([*how, os.getpid(), os.environ["OMP_NUM_THREADS"]]) + "\n")
with (book / "arguments").open("a") as said:
    said.write(" ".join(arguments) + "\n")
if command == "train":
    run.mkdir(parents=True, exist_ok=True)
    if "--recipe" in options:
        shutil.copy(options["--recipe"], run / "recipe.yaml")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    if (book / "slow").exists():
        time.sleep(60)
    if (book / "broken").exists() and (book / "broken").read_text() == run.name:
        sys.exit("Warning: odd\nError: it broke")
    (run / "summary.json").write_text("{}")
if command == "benchmark" and (book / "unequal").exists():
    sys.exit("Failed: the exported network differs")
if (book / "printed").exists():
    sys.exit(print((book / "printed").read_text()))
print(json.dumps({"machine": {}, "rows": [], "eer_percent": 5.0, "min_dcf": 0.5}))
