"""Time and memory of an optimizer step, beside torch's, and the floor that memory sets.

Run it as `python -m sparsify.benchmarks.optimizer_step [--output FILE]`, on a machine that does
nothing else. The optimizers take turns within one run, on the parameters of ECAPA-TDNN-1024 and
ResNet34. A Bregman step includes the measurement of the sparsity and the update of λ, every tenth
step as is the default of the rules.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sparsify import L1, AdaBreg, AdaptiveLambda, LinBreg, QuantileLambda, build_model
from sparsify.benchmarks.inference import describe_machine

EVERY = 10
ROUNDS = 21

Parameters = list[nn.Parameter]


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


def _variants(device: str) -> list[Variant]:
    ways: dict[str, dict[str, Any]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}}
    adam, sgd = {"lr": 1e-5}, {"lr": 1e-5, "momentum": 0.9}
    found = []
    for way, options in (ways | {"fused": {"fused": True}}).items():
        found += [
            Variant(f"AdamW {way}", _torch(AdamW, adam | options), "AdamW fused", 4, 3),
            Variant(f"SGD {way}", _torch(SGD, sgd | options), "SGD fused", 3, 2),
        ]
    # On a GPU there is no code of ours in one pass yet.
    for way, options in (ways | ({"fused": {"fused": True}} if device == "cpu" else {})).items():
        for rule in ("adaptive", "quantile"):
            name = f"{way}, {rule} λ"
            found += [
                Variant(
                    f"AdaBreg {name}", _ours(AdaBreg, adam | options, rule), "AdamW fused", 4, 4
                ),
                Variant(f"LinBreg {name}", _ours(LinBreg, sgd | options, rule), "SGD fused", 3, 3),
            ]
    return found


def _torch(kind: Callable[..., Optimizer], options: dict[str, Any]) -> Callable[..., Optimizer]:
    return lambda parameters: kind(parameters, **options)


def _ours(kind: Callable[..., Optimizer], options: dict[str, Any], rule: str) -> Any:
    """An optimizer that makes nine tenths of all matrices and kernels zero."""
    rules: dict[str, Any] = {"adaptive": AdaptiveLambda, "quantile": QuantileLambda}

    def make(parameters: Parameters) -> Optimizer:
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "regularizer": L1()},
            {"params": [p for p in parameters if p.dim() == 1], "regularizer": None},
        ]
        chosen = rules[rule](0.9, every=EVERY)
        return kind(groups, lambda_rule=chosen, **{"fused": False} | options)

    return make


def ecapa_shapes() -> list[torch.Size]:
    """The parameters of ECAPA-TDNN with 1024 channels."""
    return [p.shape for p in build_model("ecapa-tdnn-1024").parameters()]


def resnet34_shapes() -> list[torch.Size]:
    """The parameters of ResNet34."""
    return [p.shape for p in build_model("resnet34").parameters()]


def measure(shapes: Iterable[torch.Size], device: str) -> dict[str, Any]:
    """Milliseconds of a step, its ratio to torch's fused one, its floor and its memory."""
    shapes = list(shapes)
    size = sum(shape.numel() for shape in shapes)
    generator = torch.Generator(device).manual_seed(0)
    variants = _variants(device)
    optimizers = []
    for variant in variants:
        parameters = [_parameter(shape, generator, device) for shape in shapes]
        optimizers.append(variant.make(parameters))
    for optimizer in optimizers:
        for _ in range(EVERY + 2):  # past the calibration of λ
            optimizer.step()
    times: list[list[float]] = [[] for _ in optimizers]
    for _ in range(ROUNDS):
        for optimizer, measured in zip(optimizers, times, strict=True):
            measured.append(_milliseconds(optimizer, device))
    medians = {v.name: float(np.median(t)) for v, t in zip(variants, times, strict=True)}
    bandwidth = _bandwidth(size, device)
    rows = []
    for variant, optimizer in zip(variants, optimizers, strict=True):
        floor = 4 * size * (variant.reads + variant.writes) / bandwidth / 1e6
        rows.append(
            {
                "optimizer": variant.name,
                "step_ms": round(medians[variant.name], 3),
                "ratio": round(medians[variant.name] / medians[variant.baseline], 3),
                "to": variant.baseline,
                "streams": f"{variant.reads} read, {variant.writes} written",
                "floor_ms": round(floor, 3),
                "state_tensors": round(_state_bytes(optimizer) / (4 * size), 3),
                "peak_extra_mb": round(_peak_extra_bytes(optimizer, device) / 1e6, 1),
            }
        )
    return {
        "parameters": size,
        "tensors": len(shapes),
        "gb_per_s": round(bandwidth, 1),
        "rows": rows,
    }


def _parameter(shape: torch.Size, generator: torch.Generator, device: str) -> nn.Parameter:
    parameter = nn.Parameter(0.05 * torch.randn(shape, generator=generator, device=device))
    parameter.grad = 1e-3 * torch.randn(shape, generator=generator, device=device)
    return parameter


def _milliseconds(optimizer: Optimizer, device: str) -> float:
    """Of a step, on average over one period of the λ rule."""
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(EVERY):
        optimizer.step()
    _synchronize(device)
    return 1000 * (time.perf_counter() - start) / EVERY


def _bandwidth(size: int, device: str) -> float:
    """Best GB/s of adding tensors of the same size in all, two reads and one write for each."""
    a, b, out = (torch.ones(size, device=device) for _ in range(3))
    times = []
    for _ in range(ROUNDS):
        _synchronize(device)
        start = time.perf_counter()
        torch.add(a, b, out=out)
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return 3 * 4 * size / min(times) / 1e9


def _state_bytes(optimizer: Optimizer) -> int:
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))


def _peak_extra_bytes(optimizer: Optimizer, device: str) -> float:
    """The most memory that a step holds beyond what is there before it; NaN where unknown."""
    if device == "cuda":
        _synchronize(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(EVERY):
            optimizer.step()
        return torch.cuda.max_memory_allocated() - before
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        return float("nan")
    peak.write_text("5")  # makes the kernel count the peak anew
    before = _status_kib("VmRSS")
    for _ in range(EVERY):
        optimizer.step()
    return 1024 * (_status_kib("VmHWM") - before)


def _status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measures, prints a table and writes JSON."""
    module = "sparsify.benchmarks.optimizer_step"
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    networks = {"ECAPA-TDNN-1024": ecapa_shapes(), "ResNet34": resnet34_shapes()}
    content: dict[str, Any] = {
        "command": f"python -m {module} --device {options.device}",
        "machine": asdict(describe_machine()),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "steps_per_measurement": EVERY,
        "networks": {n: measure(shapes, options.device) for n, shapes in networks.items()},
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
