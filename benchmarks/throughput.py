"""How fast large networks are trained on a device, and where the time goes.

Two parts of the device check: networks as they are, with what the data loader makes of them, and
compiled networks, of which each takes up to a minute to compile.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch

from sparsify.benchmarks.device_part import NETWORKS, Row, Setting, attempt, goal, skipped
from sparsify.benchmarks.timing import milliseconds, paired_ratio, synchronize, waits
from sparsify.benchmarks.training_step import LONG, Stepper
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.recipe.recipe import Recipe, parse_recipe
from sparsify.training.batches import Batch, crop_samples, default_workers, training_batches

PRECISIONS = ("fp32", "bf16")
MOST_OVERHEAD = 0.05


def device_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check on networks that are not compiled."""
    for name, precision in product(NETWORKS, PRECISIONS):
        head = _head(name, precision, compiled=False)
        yield attempt(head, partial(_beside_dense, setting, name, precision))
        _forget(setting)
    speech = synthetic_corpus(*((4, 2) if setting.toy else (60, 4)), seed=0)
    for name in NETWORKS:
        head = _head(name, "bf16", compiled=False) | {"measured": "with the data loader"}
        yield attempt(head, partial(_with_loader, setting, name, *speech))
        _forget(setting)


def compiled_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check on compiled networks."""
    reason = "at toy size compiling takes longer than all else" if setting.toy else None
    reason = reason or _missing_for_compiling(setting)
    for precision, name in product(reversed(PRECISIONS), NETWORKS):
        head = _head(name, precision, compiled=True)
        if reason:
            yield head | skipped(reason)
            continue
        yield attempt(head, partial(_compiled, setting, name, precision))
        torch.compiler.reset()
        _forget(setting)


def _head(network: str, precision: str, compiled: bool) -> Row:
    return {"network": network, "precision": precision, "compiled": compiled}


def _missing_for_compiling(setting: Setting) -> str | None:
    if not setting.cuda:
        compiler = os.environ.get("CXX", "g++")
        return None if shutil.which(compiler) else f"there is no C++ compiler '{compiler}'"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["cc", "gcc", "clang"]
    return None if any(map(shutil.which, compilers)) else "Triton finds no C compiler"


def _beside_dense(setting: Setting, name: str, precision: str) -> Row:
    """AdaBreg, and in turns with it the same training without sparsity, with torch's AdamW."""
    recipes = [_recipe(setting, name, method, precision) for method in ("adabreg", "dense")]
    batch = _noise(setting, recipes[0])
    (ours, row), (dense, other) = (_warm(setting, recipe, batch) for recipe in recipes)
    turns = (_turn(setting, ours, batch), _turn(setting, dense, batch))
    own, theirs = zip(*[[turn() for turn in turns] for _ in range(_rounds(setting))], strict=True)
    totals = [[sum(turn.values()) for turn in each] for each in (own, theirs)]
    row |= {"dense_peak_mb": other["peak_mb"]} | _speed(totals[0], batch)
    row |= paired_ratio(*totals).fields("ratio_to_dense") | _shares(own)
    if setting.cuda:
        row["waits_at"] = dict(Counter(waits(partial(ours, batch))))
    if not setting.toy:
        row["goals"] = [goal("share of the loop itself", row["share_loop"], MOST_OVERHEAD)]
    return row


def _compiled(setting: Setting, name: str, precision: str) -> Row:
    recipe = _recipe(setting, name, "adabreg", precision, compiled=True)
    batch = _noise(setting, recipe)
    stepper, row = _warm(setting, recipe, batch)
    turn = _turn(setting, stepper, batch)
    times = [turn() for _ in range(_rounds(setting))]
    return row | _speed([sum(each.values()) for each in times], batch) | _shares(times)


def _with_loader(setting: Setting, name: str, corpus: Corpus, cache: AudioCache) -> Row:
    """The same with the batches of a corpus, which processes of the data loader make."""
    recipe = _recipe(setting, name, "adabreg", "bf16")
    stepper = Stepper(recipe, setting.device, len(corpus.speakers))
    batches = training_batches(corpus, cache, recipe, device=setting.device)
    for _ in range(_warm_up(setting)):
        stepper(next(batches))
    synchronize(setting.device)
    steps, waiting, start = 1 if setting.toy else 30, 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        stepper(batch)
    synchronize(setting.device)
    seconds = time.perf_counter() - start
    return {
        "utterances_per_s": round(steps * len(batch[1]) / seconds, 1),
        "share_waiting_for_data": round(waiting / seconds, 4),
        "workers": default_workers() if recipe.training.workers is None else 0,
    }


def _recipe(
    setting: Setting, name: str, method: str, precision: str, *, compiled: bool = False
) -> Recipe:
    training: Row = {"steps": LONG, "batch_size": 128, "precision": precision, "compile": compiled}
    if setting.toy:
        training |= {"batch_size": 4, "workers": 0}
    content = {
        "method": method,
        "model": setting.network(name).model_dump(),
        "data": {"crop_seconds": 0.3 if setting.toy else 2.0},
        "training": training,
    }
    return parse_recipe(content, "throughput")


def _noise(setting: Setting, recipe: Recipe) -> Batch:
    """A batch of the right shape in the host's memory, as the data loader hands it over."""
    size = recipe.training.batch_size
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.1 * torch.randn(size, crop_samples(recipe, 0), generator=generator)
    labels = torch.randint(_speakers(setting), (size,), generator=generator)
    if setting.cuda:
        return waveforms.pin_memory(), labels.pin_memory()
    return waveforms, labels


def _speakers(setting: Setting) -> int:
    return 10 if setting.toy else 5994  # of VoxCeleb2


def _rounds(setting: Setting) -> int:
    return 1 if setting.toy else 5


def _warm_up(setting: Setting) -> int:
    return 0 if setting.toy else 4


def _warm(setting: Setting, recipe: Recipe, batch: Batch) -> tuple[Stepper, Row]:
    """A stepper after a few steps; how long the first took, compiling included, and its memory."""
    before = 0
    if setting.cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    stepper = Stepper(recipe, setting.device, _speakers(setting))
    first = milliseconds(partial(stepper, batch), setting.device)
    for _ in range(_warm_up(setting)):
        stepper(batch)
    stepper.marks.milliseconds()
    peak = round((torch.cuda.max_memory_allocated() - before) / 1e6) if setting.cuda else None
    return stepper, {"first_step_s": round(first / 1000, 2), "peak_mb": peak}


def _turn(setting: Setting, stepper: Stepper, batch: Batch) -> Callable[[], dict[str, float]]:
    """Some steps; returns milliseconds per step by part."""
    steps = 1 if setting.toy else 8

    def turn() -> dict[str, float]:
        for _ in range(steps):
            stepper(batch)
        return {part: ms / steps for part, ms in stepper.marks.milliseconds().items()}

    return turn


def _speed(times: Sequence[float], batch: Batch) -> Row:
    """From milliseconds per step in every round."""
    median = float(np.median(times))
    return {
        "batch": list(batch[0].shape),
        "step_ms": round(median, 2),
        "utterances_per_s": round(1000 * len(batch[1]) / median, 1),
    }


def _shares(turns: Sequence[Mapping[str, float]]) -> Row:
    """Which share of the loop each part takes, on average; `loop` is all that is no other."""
    parts: dict[str, float] = {}
    for turn in turns:
        for part, ms in turn.items():
            parts[part] = parts.get(part, 0.0) + ms
    total = sum(parts.values())
    named = {part: parts[part] / total for part in ("features", "network", "optimizer")}
    shares = named | {"loop": 1 - sum(named.values())}
    return {
        **{f"share_{part}": round(share, 4) for part, share in shares.items()},
        "parts_ms": {part: round(ms / len(turns), 3) for part, ms in parts.items()},
    }


def _forget(setting: Setting) -> None:
    """Frees what a measurement has left on a GPU."""
    if setting.cuda:
        gc.collect()
        torch.cuda.empty_cache()
