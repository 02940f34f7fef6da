"""What `sparsify inspect` reads a model for: to count it, compare it, prune it on trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.artifact.loading import load_artifact
from sparsify.cli.display import track
from sparsify.cli.inspect_compare import Comparison, compare_weights, show_comparison
from sparsify.exporters.accounts import Account
from sparsify.exporters.counting import account_of

if TYPE_CHECKING:
    from sparsify.verification.sensitivity import Sensitivity


@dataclass(frozen=True)
class Examined:
    """What was found in a model.

    Attributes:
        account: What any model is told of.
        sensitivity: What pruning each layer does, if that was asked for.
        comparison: How it differs from another, if that was asked for.
    """

    account: Account
    sensitivity: Sensitivity | None = None
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """What was asked for besides the account."""
        return ({"sensitivity": asdict(self.sensitivity)} if self.sensitivity else {}) | (
            {"compare": self.comparison.to_json()} if self.comparison else {}
        )

    def show(self, sort: str | None, order: Callable[[Any], Any] | None) -> bool:
        """Prints what was asked for in place of the account; whether there is such a thing.

        Args:
            sort: What the layers are sorted by.
            order: The key of that, except of the sensitivity.
        """
        if self.comparison:
            show_comparison(self.comparison)
        elif self.sensitivity:
            from sparsify.cli.sensitivity_display import (  # noqa: PLC0415
                by_sensitivity,
                show_sensitivity,
            )

            show_sensitivity(self.sensitivity, by_sensitivity if sort == "sensitivity" else order)
        return self.comparison is not None or self.sensitivity is not None


def examine(
    path: Path,
    other: Path | None,
    show_all: bool,
    trials: Mapping[str, Any] | None,
    report: Path | None,
    trust: bool,
) -> Examined:
    """Reads and counts a model, and whatever else is asked for.

    Args:
        path: The model.
        other: A model to compare it with.
        show_all: Whether parameters are compared that are not prunable.
        trials: What `model_sensitivity` is told, if every layer is to be pruned on trial.
        report: A page to write of that.
        trust: Whether the model may name code as its network.

    Raises:
        SparsifyError: A file cannot be read, or they cannot be compared.
    """
    artifact = load_artifact(path, trust=trust)
    account = account_of(artifact)
    sensitivity = comparison = None
    if trials is not None:
        # Networks run, for which PyTorch is imported.
        from sparsify.verification.sensitivity import model_sensitivity  # noqa: PLC0415

        sensitivity = model_sensitivity(artifact, **trials, track=track)
        if report:
            from sparsify.report.sensitivity_page import write_sensitivity_report  # noqa: PLC0415

            write_sensitivity_report(sensitivity, path.resolve().stem, report)
    if other:
        comparison = compare_weights(
            artifact, load_artifact(other, trust=trust), prunable=not show_all
        )
    return Examined(account, sensitivity, comparison)
