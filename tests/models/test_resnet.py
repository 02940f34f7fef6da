"""ResNets against WeSpeaker's implementation and its published sizes."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sparsify import SparsifyError, build_model
from sparsify.models.resnet import Projection

GOLDEN = {
    "wespeaker_resnet34_m8": ("resnet34", {"channels": 8}),
    "wespeaker_resnet50_m4": (
        "resnet50",
        {"channels": 4, "feature_dim": 24, "embedding_dim": 16},
    ),
}


def state_dict(tensors):
    prefix = "state_dict."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize("name", GOLDEN)
def test_embeddings_equal_wespeaker(name, request, own_golden):
    file = own_golden / f"{name}.safetensors"
    if not file.is_file():
        file = request.getfixturevalue("golden") / file.name
    tensors = load_file(file)
    architecture, options = GOLDEN[name]
    model = build_model(architecture, **options).eval()
    model.load_state_dict(state_dict(tensors))
    with torch.no_grad():
        embeddings = model(tensors["input.feats"])
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 4.11),
        ("resnet34", 6.63),
        ("resnet50", 11.13),
        ("resnet101", 15.89),
        ("resnet152", 19.81),
        ("resnet221", 23.79),
        ("resnet293", 28.62),
    ],
)
def test_sizes_are_wespeakers(name, millions):
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_model(name).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)
    if name == "resnet34":
        assert parameters == 6_634_336


@pytest.mark.parametrize("bins", [24, 40, 61, 80])
@pytest.mark.parametrize("pooling", ["statistics", "attentive"])
def test_any_number_of_bins_and_frames(bins, pooling):
    model = build_model("resnet18", channels=4, feature_dim=bins, embedding_dim=7, pooling=pooling)
    model.eval()
    for frames in (1, 2, 9, 50):
        embeddings = model(torch.randn(3, frames, bins))
        assert embeddings.shape == (3, 7)
        assert embeddings.isfinite().all()


def test_utterances_of_a_batch_do_not_mix():
    model = build_model("resnet18", channels=4).eval()
    feats = torch.randn(3, 40, 80)
    alone = torch.cat([model(utterance[None]) for utterance in feats])
    torch.testing.assert_close(model(feats), alone, rtol=0, atol=1e-5)


def test_a_level_far_above_the_deviation_does_not_cancel():
    """Against float64: squares of a mean of 1000 would leave nothing of a deviation of 0.01."""
    pool = build_model("resnet18", channels=4).pool
    x = 1000 + 0.01 * torch.randn(2, 5, 400, dtype=torch.float64)
    _, deviations = pool(x.float()).double().chunk(2, dim=1)
    rounded = x.float().double()
    torch.testing.assert_close(deviations, rounded.std(dim=2), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    "options", [{"channels": 0}, {"feature_dim": 0}, {"pooling": "max"}, {"blocks": (1, 2)}]
)
def test_refuses_what_makes_no_network(options):
    with pytest.raises(SparsifyError, match="resnet34"):
        build_model("resnet34", **options)


def test_projections_train_as_they_infer():
    """What the stride skips may be left out before: the same output and gradients."""
    torch.manual_seed(0)
    projection = Projection(4, 8, 1, 2, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 7, 10).to(memory_format=torch.channels_last).requires_grad_()
    y = projection(x)
    y.square().sum().backward()
    expected = x.detach().double().requires_grad_()
    weight = projection.weight.detach().double().requires_grad_()
    out = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], expected[:, :, ::2, ::2])
    out.square().sum().backward()
    torch.testing.assert_close(y.double(), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(projection.eval()(x.detach()).double(), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), expected.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(projection.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-4)


def test_few_channels_that_lie_last_train_without_a_crash():
    """In a process of its own, which memory that is overrun ends (glibc then looks closely)."""
    code = """if True:
        import torch
        from sparsify.models.resnet import Projection
        projection = Projection(4, 8, 1, 2, bias=False).to(memory_format=torch.channels_last)
        for _ in range(3):
            x = torch.randn(2, 4, 80, 150).to(memory_format=torch.channels_last).requires_grad_()
            projection(x).square().sum().backward()
    """
    environment = os.environ | {"MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
