"""What `test_distributed.py` runs in several processes, which this one forks: imports take long.

Each check compares with one process that sees all data, which every rank computes for itself. A
check that every rank has passed leaves a file of its name in the folder that is given; the first
that fails ends the checks for its number of processes.
"""

import copy
import itertools
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    FixedLambda,
    GroupL1L2,
    LinBreg,
    ProxSGD,
    QuantileLambda,
    parameter_groups,
    sparsity_table,
)
from sparsify.optim.lambda_rules import LambdaRule

REGULARIZERS = [L1(), GroupL1L2("kernel"), GroupL1L2("output"), GroupL1L2("input")]
OPTIMIZERS = [(LinBreg, {"lr": 0.3, "momentum": 0.9}), (AdaBreg, {"lr": 0.02})]
RULES: list[Callable[[], LambdaRule]] = [
    lambda: QuantileLambda(0.6, every=2, smoothing=0.3, ramp=4),
    lambda: AdaptiveLambda(0.6, alpha=2.0, every=2, warmup=3, damping=0.9),
]
STEPS = 6  # until either rule has moved λ several times
PAIRS = list(itertools.product(OPTIMIZERS, RULES))
FEW_PAIRS = PAIRS[1:3]  # each optimizer and each rule once
CASES = list(zip(PAIRS, REGULARIZERS, strict=True))
BATCH = 4  # of each rank


def network(seed=0):
    """With zeros, first dimensions that two does not divide, and one that leaves a rank nothing."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(3, 5, 3),
        nn.Tanh(),
        nn.Conv1d(5, 1, 1),
        nn.Flatten(),
        nn.Linear(8, 7),
        nn.Tanh(),
        nn.Linear(7, 6),
    ).double()
    model[4].weight.data[:, ::2] = 0.0  # from which a ramp starts
    return model


def sharded(model, mesh=None):
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(model, optimizer, steps, seed=0, part=None):
    """Yields after every step; on the batches of all ranks, or on those of one `part`."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(dist.get_world_size() * BATCH, 3, 10, generator=generator).double()
        if part is not None:
            x = x[part * BATCH : (part + 1) * BATCH]
        optimizer.zero_grad()
        (model(x) - x[:, 0, :6]).square().mean().backward()
        if getattr(optimizer, "landed", False):
            optimizer.mask_gradients()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        yield


def train_together(model, optimizer, alone, expected, steps=STEPS, seed=0):
    """Each rank on its part of the data, and one process on all."""
    parted = train(model, optimizer, steps, seed, part=dist.get_rank())
    for _ in zip(parted, train(alone, expected, steps, seed), strict=True):
        assert_same_numbers(optimizer, expected)
    assert_same(optimizer, expected)


def run(*args, **kwargs):
    for _ in train(*args, **kwargs):
        pass


def full(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def tensors(optimizer) -> list[Tensor]:
    """Weights, duals and moments, in the order of the parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = [optimizer.state[p] for p in parameters]
    names = ("dual", "mask", "momentum_buffer", "exp_avg", "exp_avg_sq")
    kept = [state[name] for state in states for name in names if name in state]
    return [full(tensor) for tensor in parameters + kept]


def assert_same(optimizer, expected, tolerance=1e-10):
    """Equal weights, state, λ and sparsity."""
    assert_same_numbers(optimizer, expected, tolerance)
    for ours, theirs in zip(tensors(optimizer), tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def assert_same_numbers(optimizer, expected, tolerance=1e-10):
    """Equal λ and sparsity, the same on all ranks to the bit."""
    numbers = torch.stack([optimizer._lam, optimizer._sparsity])
    wanted = torch.stack([expected._lam, expected._sparsity])
    torch.testing.assert_close(numbers, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    everywhere = [torch.empty_like(numbers) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, numbers)
    assert all(torch.equal(numbers.nan_to_num(), other.nan_to_num()) for other in everywhere)


def assert_same_training(model, optimizer, alone, expected):
    """Step by step, also after landing, with the sparsity of the whole network."""
    for seed in (0, 1):  # the second after landing
        train_together(model, optimizer, alone, expected, seed=seed)
        weights = [full(p) for p in optimizer.param_groups[0]["params"]]
        size = sum(w.numel() for w in weights)
        zeros = sum(int((w == 0).sum()) for w in weights)
        assert float(optimizer.measure_sparsity()) == 1 - (size - zeros) / size
        assert 0 < zeros < size
        optimizer.land(0.7)
        expected.land(0.7)
        assert_same(optimizer, expected)


def check_ddp():
    for ((kind, options), rule), regularizer in CASES:
        model, alone = network(), network()
        model = DistributedDataParallel(model)
        optimizer, expected = (
            kind(parameter_groups(m, regularizer), lambda_rule=rule(), **options)
            for m in (model, alone)
        )
        assert_same_training(model, optimizer, alone, expected)


def check_fsdp(cases=CASES, mesh=None):
    for ((kind, options), rule), regularizer in cases:
        model, alone = sharded(network(), mesh), network()
        optimizer, expected = (
            kind(parameter_groups(m, regularizer), lambda_rule=rule(), **options)
            for m in (model, alone)
        )
        assert_same_training(model, optimizer, alone, expected)


def check_fsdp_other_ways():
    """Without compiled code, without duals, and with float32 duals of bfloat16 weights."""
    for change in ("keep_weights", "keep_dual"):
        model, alone = sharded(network()), network()
        optimizer, expected = (
            AdaBreg(parameter_groups(m), lambda_rule=RULES[1](), lambda_change=change, fused=False)
            for m in (model, alone)
        )
        assert_same_training(model, optimizer, alone, expected)
    for regularizer in REGULARIZERS:
        model, alone = sharded(network()), network()
        optimizer, expected = (
            ProxSGD(parameter_groups(m, regularizer), lr=0.1, lambda_rule=FixedLambda(1.0))
            for m in (model, alone)
        )
        train_together(model, optimizer, alone, expected, steps=10)
        assert optimizer.sparsity > 0
    for regularizer in REGULARIZERS:
        optimizers = [
            optimizer_with_gradients(w, regularizer, torch.bfloat16) for w in (True, False)
        ]
        for _ in range(4):
            for optimizer in optimizers:
                optimizer.step()
        assert_same(*optimizers, tolerance=1e-2)  # one rounding of bfloat16
        for sparsity in (0.2, 0.5, 0.8):
            torch.testing.assert_close(*(o.lambda_for(sparsity) for o in optimizers))


def optimizer_with_gradients(shards, regularizer, dtype=torch.float64, size=None):
    """Of parameters without a network, that have random gradients, or gradients of equal size."""
    generator = torch.Generator().manual_seed(0)
    weights, gradients = [], []
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    # Parts of equal size, that have the same roots, keep norms over them equal to the bit.
    reaches = isinstance(regularizer, GroupL1L2) and regularizer.group == "input"
    uneven = [] if reaches else [(5, 4, 3)]
    for shape in [*uneven, (4, 5, 2), (1, 6), (2, 3)]:
        values = torch.randn(2, *shape, generator=generator)
        if size is not None:
            values = torch.stack([torch.zeros(shape), values[0].sign() * size])
        weight, gradient = values.to(dtype)
        if shards and shape != (2, 3):  # which stays whole
            weight, gradient = (distribute_tensor(t, mesh, [Shard(0)]) for t in (weight, gradient))
        weights.append(nn.Parameter(weight))
        gradients.append(gradient)
    group = {"params": weights, "regularizer": regularizer}
    optimizer = AdaBreg([group], lr=0.1, lambda_rule=FixedLambda(1.0))
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    return optimizer


def check_ties():
    """All duals of one size: landing takes as many as wanted, and the same as one process."""
    for regularizer, sparsity in itertools.product(REGULARIZERS, [0.0, 0.3, 1.0]):
        optimizer, expected = (
            optimizer_with_gradients(shards, regularizer, size=1.0) for shards in (True, False)
        )
        optimizer.step()
        expected.step()
        optimizer.land(sparsity)
        expected.land(sparsity)
        assert_same(optimizer, expected)
        weights = [full(p) for p in optimizer.param_groups[0]["params"]]
        if isinstance(regularizer, L1):
            size = sum(w.numel() for w in weights)
            assert sum(int((w == 0).sum()) for w in weights) == round(sparsity * size)


def check_communication():
    """Counts and group norms are summed; no part of a weight travels."""
    for regularizer in REGULARIZERS:
        optimizer = optimizer_with_gradients(True, regularizer)
        with CommDebugMode() as communication:
            optimizer.step()
            lam = optimizer.lambda_for(0.5)
            optimizer.measure_sparsity()
            optimizer.land(0.5)
            full(optimizer.param_groups[0]["params"][0])
        counts = {str(op): n for op, n in communication.get_comm_counts().items() if n}
        gathers = sum(n for op, n in counts.items() if "reduce" not in op)
        assert gathers == 1, f"only `full` gathers: {counts}"
        assert lam > 0


FULL = StateDictOptions(full_state_dict=True)
FROM_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True)
TO_ALL = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def resumed(model, optimizer, how, folder, fresh):
    """A copy of network and optimizer that has gone through a state dict."""
    again, other = fresh(seed=1)
    if how == "files":
        state = [get_model_state_dict(model), get_optimizer_state_dict(model, optimizer)]
        dcp.save({"model": state[0], "optimizer": state[1]}, checkpoint_id=folder)
        if optimizer.landed:  # what is read from the files is what the optimizer has by now
            other.land(0.0)
        template = [get_model_state_dict(again), get_optimizer_state_dict(again, other)]
        dcp.load({"model": template[0], "optimizer": template[1]}, checkpoint_id=folder)
        set_model_state_dict(again, template[0])
        set_optimizer_state_dict(again, other, template[1])
        return again, other
    save, load = {"sharded": (None, None), "full": (FULL, FULL), "rank 0": (FROM_RANK_0, TO_ALL)}[
        how
    ]
    if how == "rank 0" and optimizer.landed:
        other.land(0.0)
    weights = get_model_state_dict(model, options=save)
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=save))
    set_model_state_dict(again, copy.deepcopy(weights), options=load)
    set_optimizer_state_dict(again, other, state, options=load)
    return again, other


def check_state(how, folder=None, make=sharded):
    """Mid-schedule, and after landing."""
    for ((kind, options), rule), landed in zip(FEW_PAIRS, [False, True], strict=True):

        def fresh(seed=0, kind=kind, options=options, rule=rule):
            model = make(network(seed))
            return model, kind(parameter_groups(model), lambda_rule=rule(), **options)

        rank = dist.get_rank()
        model, optimizer = fresh()
        run(model, optimizer, STEPS, part=rank)
        if landed:
            optimizer.land(0.8)
        name = f"{kind.__name__}-{type(optimizer.lambda_rule).__name__}-{landed}"
        again, other = resumed(model, optimizer, how, folder and folder / name, fresh)
        assert other._steps == optimizer._steps == STEPS
        assert_same(other, optimizer, tolerance=0.0)
        run(model, optimizer, STEPS, seed=1, part=rank)
        run(again, other, STEPS, seed=1, part=rank)
        assert_same(other, optimizer, tolerance=0.0)


def check_state_of_a_fresh_optimizer():
    """A state taken before training leaves weights, λ and counters as they are."""
    for (kind, options), rule in itertools.product([*OPTIMIZERS, (ProxSGD, {"lr": 0.1})], RULES):
        chosen = FixedLambda(0.05) if kind is ProxSGD else rule()
        model, alone = sharded(network()), network()
        optimizer, expected = (
            kind(parameter_groups(m), lambda_rule=copy.deepcopy(chosen), **options)
            for m in (model, alone)
        )
        before = [full(p).clone() for p in model.parameters()]
        state = get_optimizer_state_dict(model, optimizer)
        assert state["param_groups"][0]["control"]["steps"] == 0
        assert all(torch.equal(full(p), b) for p, b in zip(model.parameters(), before, strict=True))
        train_together(model, optimizer, alone, expected)


def check_state_in_one_process():
    """A full state goes on without any sharding, and a plain one under FSDP2."""
    for kind, options in OPTIMIZERS:
        model, alone = sharded(network()), network(seed=1)
        optimizer, expected = (
            kind(parameter_groups(m), lambda_rule=RULES[1](), **options) for m in (model, alone)
        )
        run(model, optimizer, STEPS, part=dist.get_rank())
        set_model_state_dict(alone, get_model_state_dict(model, options=FULL))
        state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=FULL))
        set_optimizer_state_dict(alone, expected, state)
        train_together(model, optimizer, alone, expected, seed=1)


def check_errors():
    model = FullyShardedDataParallel(network(), use_orig_params=True, device_id=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"LinBreg does not support .* use .*fully_shard"):
        LinBreg(parameter_groups(model))
    meshes = [DeviceMesh("cpu", ranks) for ranks in ([0, 1], [[0, 1]])]
    places = [[Shard(0)], [Replicate(), Shard(0)]]
    weights = [
        nn.Parameter(distribute_tensor(torch.ones(4, 2), *where))
        for where in zip(meshes, places, strict=True)
    ]
    optimizer = LinBreg([{"params": weights, "regularizer": L1()}])
    with pytest.raises(ValueError, match="over the same device mesh"):
        optimizer.measure_sparsity()
    landed, fresh = network(), network()
    first, second = (LinBreg(parameter_groups(m)) for m in (landed, fresh))
    first.land(0.5)
    state = first.state_dict()
    for entries in state["state"].values():
        entries.pop("mask", None)
    with pytest.raises(ValueError, match=r"call land\(0\) before loading"):
        second.load_state_dict(state)


def check_table():
    """Parameters that processes share are counted whole, wherever that is asked."""
    own, expected = (sparsity_table(each).layers for each in (sharded(network()), network()))
    assert [replace(layer, type="") for layer in own] == [
        replace(layer, type="") for layer in expected
    ]


def check_hsdp():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
    check_fsdp(CASES[:1] + CASES[-1:], mesh)


def check_two_dimensions():
    """Placements as tensor parallelism gives them, alone and together with FSDP2."""
    mesh = init_device_mesh("cpu", (2, 2))
    placements = [
        [Shard(0), Shard(1)],
        [Replicate(), Shard(0)],
        [Shard(1), Replicate()],
        [Shard(0), Shard(0)],
    ]
    for regularizer in REGULARIZERS:
        generator = torch.Generator().manual_seed(0)
        whole = [torch.randn(5, 6, 2, generator=generator).double() for _ in placements]
        grads = [torch.randn(5, 6, 2, generator=generator).double() for _ in placements]
        optimizers = []
        for shards in (True, False):
            weights = []
            for value, grad, places in zip(whole, grads, placements, strict=True):
                given = [value.clone(), grad.clone()]
                if shards:
                    given = [distribute_tensor(t, mesh, places) for t in given]
                weights.append(nn.Parameter(given[0]))
                weights[-1].grad = given[1]
            group = {"params": weights, "regularizer": regularizer}
            optimizers.append(AdaBreg([group], lr=0.1, lambda_rule=QuantileLambda(0.5, every=1)))
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.step()
            assert_same(*optimizers)
        for optimizer in optimizers:
            optimizer.land(0.7)
            optimizer.step()
        assert_same(*optimizers)


def checks(folder: Path) -> dict[int, dict[str, Callable[[], None]]]:
    """By the number of processes."""
    return {
        2: {
            "ddp": check_ddp,
            "fsdp": check_fsdp,
            "fsdp_other_ways": check_fsdp_other_ways,
            "ties": check_ties,
            "communication": check_communication,
            "state_ddp": lambda: check_state("sharded", make=DistributedDataParallel),
            "state_sharded": lambda: check_state("sharded"),
            "state_full": lambda: check_state("full"),
            "state_from_rank_0": lambda: check_state("rank 0"),
            "state_in_files": lambda: check_state("files", folder),
            "state_of_a_fresh_optimizer": check_state_of_a_fresh_optimizer,
            "state_in_one_process": check_state_in_one_process,
            "errors": check_errors,
            "table": check_table,
        },
        4: {"hsdp": check_hsdp, "two_dimensions": check_two_dimensions},
    }


def run_checks(rank: int, processes: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store-{processes}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=30),
    )
    for name, check in checks(folder)[processes].items():
        check()
        dist.barrier()
        (folder / name).touch()
    dist.destroy_process_group()


def main() -> None:
    torch.set_num_threads(1)
    folder, fork = Path(sys.argv[1]), multiprocessing.get_context("fork")
    for processes in checks(folder):
        ranks = [
            fork.Process(target=run_checks, args=(rank, processes, folder))
            for rank in range(processes)
        ]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()


if __name__ == "__main__":
    main()
