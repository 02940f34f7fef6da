"""The same network at another width."""

import pytest

from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture, build_model
from sparsify.models.widths import options_of_width, width_of


def test_every_width_inside_changes_in_proportion_and_the_ends_stay():
    narrow = Architecture("ecapa-tdnn", {"channels": 16, "aggregation_channels": 48})
    wide = options_of_width(narrow, 32)
    assert wide == {
        "channels": 32,
        "aggregation_channels": 96,
        "se_channels": 256,
        "attention_channels": 256,
    }
    before, after = (build_model("ecapa-tdnn", **o) for o in (narrow.options, wide))
    for name, weight in before.named_parameters():
        ratios = {a / b for a, b in zip(after.get_parameter(name).shape, weight.shape, strict=True)}
        assert ratios <= {1.0, 2.0}, name
    assert after.linear.out_features == before.linear.out_features == 192
    assert after.layer1.conv.in_channels == 80


def test_the_default_is_the_width_of_what_is_not_said():
    assert width_of(Architecture("ecapa-tdnn-1024")) == 1024
    assert options_of_width(Architecture("resnet34"), 16) == {"channels": 16}


def test_a_network_without_width_says_so():
    with pytest.raises(SparsifyError, match="no option 'channels'"):
        width_of(Architecture("torch.nn:Identity"))
