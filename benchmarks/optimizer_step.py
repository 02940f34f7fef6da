"""Time and memory of an optimizer step, beside torch's, and the floor that memory sets.

Run it as `python -m sparsify.benchmarks.optimizer_step [--output FILE]`, on a machine that does
nothing else. The optimizers take turns within one run, on the parameters of ECAPA-TDNN-1024 and
ResNet34. A Bregman step includes the measurement of the sparsity and the update of λ, every tenth
step as is the default of the rules. The device check measures the steps as they are by default,
with every rule and after landing, and what they launch and wait for on a GPU.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    FixedLambda,
    LinBreg,
    QuantileLambda,
    build_model,
)
from sparsify.benchmarks.device_part import NETWORKS, Row, Setting, attempt, goal, skipped
from sparsify.benchmarks.timing import (
    activity,
    bandwidth,
    in_turns,
    is_cuda,
    paired_ratio,
    peak_extra_bytes,
    waits,
)
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.recipe.sections import ModelSection

EVERY = 10
ROUNDS = 21

SPARSITY = 0.9
GOALS = {"AdaBreg": 1.1, "LinBreg": 1.2}  # times a step of torch's fused optimizer

Parameters = list[nn.Parameter]
Rule = Literal["adaptive", "quantile", "fixed", "landed"]

_ADAM: dict[str, Any] = {"lr": 1e-5}
_SGD: dict[str, Any] = {"lr": 1e-5, "momentum": 0.9}


@dataclass(frozen=True)
class Variant:
    """An optimizer and the traffic of its step.

    Attributes:
        name: As in the results.
        make: Builds it on parameters.
        baseline: The variant that its time is compared with.
        reads: Tensors that a step must read, if it touches memory once.
        writes: Tensors that it must write.
    """

    name: str
    make: Callable[[Parameters], Optimizer]
    baseline: str
    reads: int
    writes: int


def all_ways(device: str) -> list[Variant]:
    """Every way to compute a step, with the rules that steer λ."""
    found = _baselines("loop", {"foreach": False})
    found += _baselines("foreach", {"foreach": True})
    found += _baselines("fused", {"fused": True})
    # On a GPU there is no code of ours in one pass yet.
    for way in ("foreach",) if is_cuda(device) else ("foreach", "fused"):
        for rule in ("adaptive", "quantile"):
            found += _pair(f"{way}, {rule} λ", rule, {"fused": way == "fused"})
    return found


def every_rule() -> list[Variant]:
    """The steps as they are by default, with every rule and after landing."""
    found = _baselines("fused", {"fused": True})
    for rule in get_args(Rule):
        found += _pair(rule if rule == "landed" else f"{rule} λ", rule, {})
    return found


def _baselines(way: str, options: dict[str, Any]) -> list[Variant]:
    adam, sgd = (partial(kind, **own, **options) for kind, own in ((AdamW, _ADAM), (SGD, _SGD)))
    return [
        Variant(f"AdamW {way}", adam, "AdamW fused", 4, 3),
        Variant(f"SGD {way}", sgd, "SGD fused", 3, 2),
    ]


def _pair(name: str, rule: Rule, options: dict[str, Any]) -> list[Variant]:
    ada, lin = (
        partial(_ours, kind, own | options, rule)
        for kind, own in ((AdaBreg, _ADAM), (LinBreg, _SGD))
    )
    landed = rule == "landed"  # the weights are their own duals then, beside a mask of bytes
    return [
        Variant(f"AdaBreg {name}", ada, "AdamW fused", 4, 3 if landed else 4),
        Variant(f"LinBreg {name}", lin, "SGD fused", 3, 2 if landed else 3),
    ]


def _ours(
    kind: type[AdaBreg] | type[LinBreg],
    options: dict[str, Any],
    rule: Rule,
    parameters: Parameters,
) -> Optimizer:
    """An optimizer that makes nine tenths of all matrices and kernels zero."""
    rules: dict[str, LambdaRule] = {
        "adaptive": AdaptiveLambda(SPARSITY, every=EVERY),
        "quantile": QuantileLambda(SPARSITY, every=EVERY),
        "fixed": FixedLambda(0.08, every=EVERY),
        "landed": FixedLambda(0.0, every=EVERY),
    }
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "regularizer": L1()},
        {"params": [p for p in parameters if p.dim() == 1], "regularizer": None},
    ]
    optimizer = kind(groups, lambda_rule=rules[rule], **options)
    if rule == "landed":
        optimizer.land(SPARSITY)
    return optimizer


def shapes_of(network: ModelSection) -> list[torch.Size]:
    """The parameters of a network."""
    return [p.shape for p in build_model(network.name, **network.options).parameters()]


def measure(
    shapes: Iterable[torch.Size], device: str, variants: Sequence[Variant], rounds: int = ROUNDS
) -> dict[str, Any]:
    """Milliseconds of a step, its ratio to torch's fused one, its floor and its memory.

    The step is the mean over one period of the λ rule.
    """
    shapes = list(shapes)
    size = sum(shape.numel() for shape in shapes)
    optimizers = _warm(shapes, device, variants)
    measured = in_turns([each.step for each in optimizers], rounds, device, repeat=EVERY)
    times = {variant.name: each for variant, each in zip(variants, measured, strict=True)}
    speed = bandwidth(size, device)
    rows = []
    for variant, optimizer in zip(variants, optimizers, strict=True):
        own, baseline = times[variant.name], times[variant.baseline]
        floor = 4 * size * (variant.reads + variant.writes) / speed / 1e6
        rows.append(
            {
                "optimizer": variant.name,
                "step_ms": round(float(np.median(own)), 4),
                **paired_ratio(own, baseline).fields(),
                "to": variant.baseline,
                "streams": f"{variant.reads} read, {variant.writes} written",
                "floor_ms": round(floor, 4),
                "state_tensors": round(_state_bytes(optimizer) / (4 * size), 3),
                "peak_extra_mb": round(peak_extra_bytes(_period(optimizer), device) / 1e6, 1),
            }
        )
    return {
        "parameters": size,
        "tensors": len(shapes),
        "gb_per_s": round(speed, 1),
        "rows": rows,
    }


def device_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check: times of all networks, then launches and waits."""
    variants = every_rule()
    networks = {name: shapes_of(setting.network(name)) for name in NETWORKS[1:]}
    for name, shapes in networks.items():
        result = measure(shapes, setting.device, variants, 1 if setting.toy else ROUNDS)
        rows = result.pop("rows")
        for row in rows:
            threshold = GOALS.get(row["optimizer"].split()[0])
            if threshold and not setting.toy:
                row["goals"] = [goal(f"time of a step / {row['to']}", row["ratio"], threshold)]
            yield {"network": name, **row, **result}
    for name, shapes in networks.items():
        if setting.cuda:
            yield from _on_the_device(name, shapes, setting.device, variants)
        else:
            reason = "only a GPU's host launches kernels and waits for them"
            yield {"network": name, "measured": "launches and waits", **skipped(reason)}


def _on_the_device(
    network: str, shapes: Sequence[torch.Size], device: str, variants: Sequence[Variant]
) -> Iterator[Row]:
    """Waits of every optimizer, then what the profiler says, which may not be there."""
    optimizers = _warm(shapes, device, variants)
    for variant, optimizer in zip(variants, optimizers, strict=True):
        head = {"network": network, "optimizer": variant.name, "measured": "waits"}
        yield attempt(head, partial(_waits, optimizer))
    times: dict[str, float] = {}
    for variant, optimizer in zip(variants, optimizers, strict=True):
        head = {"network": network, "optimizer": variant.name, "measured": "launches"}
        row = attempt(head, partial(_launches, optimizer, device))
        times[variant.name] = row.get("kernel_ms_per_step", float("nan"))
        yield row | {"kernel_ms_ratio": times[variant.name] / times[variant.baseline]}


def _waits(optimizer: Optimizer) -> Row:
    """How often the host waits for the device in a step, and where."""
    places = Counter(waits(_period(optimizer)))
    per_step = sum(places.values()) / EVERY
    goals = [goal("waits for the device in a step", per_step, 0.0)]
    return {"waits_per_step": per_step, "waits_at": dict(places), "goals": goals}


def _launches(optimizer: Optimizer, device: str) -> Row:
    """Kernels and copies of a step, and the time of the kernels alone."""
    found = activity(_period(optimizer), device)
    return {f"{name}_per_step": round(n / EVERY, 4) for name, n in found.items()}


def _period(optimizer: Optimizer) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(EVERY):
            optimizer.step()

    return steps


def _warm(
    shapes: Sequence[torch.Size], device: str, variants: Sequence[Variant]
) -> list[Optimizer]:
    """Optimizers of random weights with random gradients, past the calibration of λ."""
    generator = torch.Generator(device).manual_seed(0)
    optimizers = []
    for variant in variants:
        optimizer = variant.make([_parameter(shape, generator, device) for shape in shapes])
        for _ in range(EVERY + 2):
            optimizer.step()
        optimizers.append(optimizer)
    return optimizers


def _parameter(shape: torch.Size, generator: torch.Generator, device: str) -> nn.Parameter:
    parameter = nn.Parameter(0.05 * torch.randn(shape, generator=generator, device=device))
    parameter.grad = 1e-3 * torch.randn(shape, generator=generator, device=device)
    return parameter


def _state_bytes(optimizer: Optimizer) -> int:
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))


def main() -> None:
    """Measures, prints a table and writes JSON."""
    module = "sparsify.benchmarks.optimizer_step"
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    # It also imports what only measurements of inference need.
    from sparsify.benchmarks.machine import describe_machine  # noqa: PLC0415

    device, variants = options.device, all_ways(options.device)
    networks = {name: shapes_of(Setting(device).network(name)) for name in NETWORKS[1:]}
    content: dict[str, Any] = {
        "command": f"python -m {module} --device {options.device}",
        "machine": asdict(describe_machine()),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "steps_per_measurement": EVERY,
        "networks": {n: measure(shapes, device, variants) for n, shapes in networks.items()},
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    for name, result in content["networks"].items():
        print(f"\n{name}: {result['parameters']:,} parameters, {result['gb_per_s']} GB/s\n")
        print("| optimizer | ms | ratio | floor ms | state | peak MB |\n|---|--:|--:|--:|--:|--:|")
        for row in result["rows"]:
            figures = (row[key] for key in ("step_ms", "ratio", "floor_ms", "state_tensors"))
            cells = " | ".join(f"{figure:.2f}" for figure in figures)
            print(f"| {row['optimizer']} | {cells} | {row['peak_extra_mb']:.0f} |")


if __name__ == "__main__":
    main()
