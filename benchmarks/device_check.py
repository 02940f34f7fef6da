"""Everything that needs a GPU to be known, measured in eight minutes.

Run it as `python -m sparsify.benchmarks.device_check --output FILE`. Its parts run one after the
other, the most important first, each in a process of its own with a time limit, so that one that
hangs or crashes takes no other with it. FILE is complete after every part. On a CPU the same parts
run at toy size, which shows no more than that they work.

The exit code is 0 if all parts went well, 1 if one did not, 2 for wrong usage. A goal that is
missed is a result.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import killpg
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from sparsify.documents import to_json
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.texts import signal_name
from sparsify.training.devices import Device

MODULE = "sparsify.benchmarks.device_check"
_CHILD = "sparsify.benchmarks.device_part"
_MACHINE_SECONDS = 60.0
_RESERVE = 5.0  # seconds that stopping parts and writing may take
_KILL_SECONDS = 10.0
_LOG_LINES = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class CheckPart:
    """A part of the check.

    Attributes:
        name: As in the results.
        target: `module:function`; the function takes a `Setting` and yields rows.
        weight: Its share of the time. What a part leaves, the later ones share.
    """

    name: str
    target: str
    weight: float


PARTS = (
    CheckPart("optimizer step", "sparsify.benchmarks.optimizer_step:device_rows", 75),
    CheckPart("exactness", "sparsify.benchmarks.exactness:device_rows", 50),
    CheckPart("throughput", "sparsify.benchmarks.throughput:device_rows", 120),
    CheckPart("compiled throughput", "sparsify.benchmarks.throughput:compiled_rows", 100),
    CheckPart("training to 90%", "sparsify.benchmarks.device_training:device_rows", 70),
    CheckPart("fp16", "sparsify.benchmarks.device_training:fp16_rows", 60),
)


def check_device(
    output: Path,
    device: Device,
    *,
    toy: bool,
    minutes: float,
    parts: Sequence[CheckPart] = PARTS,
    command: str = "",
) -> bool:
    """Runs the parts; whether all went well.

    Args:
        output: Where the results are written as JSON, anew after every part.
        device: `auto` takes a GPU if there is one.
        toy: Whether everything is as small as possible, as it always is on a CPU.
        minutes: Time for everything.
        parts: In the order of their importance.
        command: What was called, for the results.

    Raises:
        SparsifyError: Torch does not start, there is no GPU where one is asked for, or the results
            cannot be written.
    """
    deadline = time.monotonic() + 60 * minutes - _RESERVE
    content: Row = {"command": command, "minutes": minutes, "complete": False}
    seconds = min(_MACHINE_SECONDS, deadline - time.monotonic())
    found = run_part(CheckPart("machine", f"{_CHILD}:machine", 0), seconds, [])
    if not found["rows"]:
        raise SparsifyError(f"torch does not start on this machine: {found['reason']}")
    machine = found["rows"][0]
    if device == "cuda" and not machine["has_gpu"]:
        raise SparsifyError("no CUDA device was found: use --device cpu or auto")
    if device == "auto":
        device = "cuda" if machine["has_gpu"] else "cpu"
    toy = toy or device == "cpu"
    content |= {"machine": machine, "device": device, "toy": toy, "parts": []}
    arguments = ["--device", device, *(["--toy"] if toy else [])]
    _write(output, content)
    for index, part in enumerate(parts):
        left = max(deadline - time.monotonic(), 0.0)
        limit = left * part.weight / sum(each.weight for each in parts[index:])
        content["parts"].append(run_part(part, limit, arguments))
        content["complete"] = index == len(parts) - 1
        _write(output, content)
        _show(content["parts"][-1])
    return all(part["status"] in ("ok", "skipped") for part in content["parts"])


def run_part(part: CheckPart, limit: float, arguments: Sequence[str]) -> Row:
    """Runs a part in a process of its own.

    Returns:
        `name`, `status` (`ok`, `failed`, `timed out` or `skipped`), `reason`, `seconds`,
        `limit_seconds`, `rows` and, of a part that ended badly, the end of its `log`.
    """
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        rows_file, log_file = Path(folder, "rows.jsonl"), Path(folder, "log.txt")
        rows_file.touch()
        command = [sys.executable, "-m", _CHILD, part.target, str(rows_file), *arguments]
        with log_file.open("wb") as log, _group(command, log) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(limit)
            code = process.poll()
        # A process that is killed while it writes leaves part of a line.
        lines = rows_file.read_text("utf-8").split("\n")[:-1]
        tail = log_file.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    rows = [json.loads(line) for line in lines]
    status, reason = _outcome(code, limit, rows, tail)
    return {
        "name": part.name,
        "status": status,
        "reason": reason,
        "seconds": round(time.monotonic() - start, 1),
        "limit_seconds": round(limit, 1),
        "rows": rows,
        "log": [] if code == 0 else tail,
    }


@contextmanager
def _group(command: Sequence[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed in the end with all that it has started."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a driver can hold a process for ever
            process.wait(_KILL_SECONDS)


def _outcome(
    code: int | None, limit: float, rows: Sequence[Row], log: Sequence[str]
) -> tuple[str, str | None]:
    """The status of a part, and the reason if it is not `ok`."""
    if code is None:
        return "timed out", f"stopped after {limit:.0f} s, with {len(rows)} rows"
    if code < 0:
        return "failed", f"ended by {signal_name(-code)}"
    if code > 0:
        return "failed", next((line for line in reversed(log) if line.strip()), f"exit code {code}")
    bad = [row for row in rows if row["status"] == "failed"]
    if bad:
        return "failed", f"{len(bad)} of {len(rows)} rows, the first: {bad[0].get('reason')}"
    if rows and all(row["status"] == "skipped" for row in rows):
        return "skipped", rows[0].get("reason")
    return "ok", None


def _write(output: Path, content: Row) -> None:
    with replacing(output) as temporary:
        temporary.write_text(to_json(content, indent=1) + "\n", "utf-8")


def _show(part: Row) -> None:
    reason = f": {part['reason']}" if part["reason"] else ""
    counts = Counter(row["status"] for row in part["rows"])
    rows = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{part['name']}: {part['status']}{reason} ({part['seconds']} s; rows: {rows or 'none'})")
    for row in part["rows"]:
        subject = ", ".join(
            str(row[key]) for key in ("network", "optimizer", "precision") if key in row
        )
        for goal in row.get("goals", ()):
            verdict = "met" if goal["passed"] else "missed"
            print(
                f"  {verdict:<6} {goal['name']}: {goal['value']:g}, goal {goal['threshold']:g}"
                f" ({subject})"
            )
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the check; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}", description="What only a GPU can tell, in eight minutes."
    )
    parser.add_argument("--output", type=Path, required=True, help="write the results here as JSON")
    parser.add_argument("--device", choices=get_args(Device), default="auto")
    parser.add_argument("--toy", action="store_true", help="as small as possible, as on a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default: 8)")
    parser.add_argument("--part", choices=[part.name for part in PARTS], help="this one alone")
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes must be positive: {options.minutes}")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        went_well = check_device(
            options.output,
            options.device,
            toy=options.toy,
            minutes=options.minutes,
            parts=[part for part in PARTS if options.part in (None, part.name)],
            command=shlex.join(["python", "-m", MODULE, *words]),
        )
    except SparsifyError as error:
        parser.error(str(error))
    return 0 if went_well else 1


if __name__ == "__main__":
    # Ended from outside, it takes the running part with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
