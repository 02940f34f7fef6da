"""Bregman training with one λ from beginning to end, whose sparsity is what comes of it."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import Field

from sparsify.errors import SparsifyError
from sparsify.methods.bregman import AdaBregStep, BregmanMethod, BregmanOptions, LinBregStep
from sparsify.optim.lambda_rules import FixedLambda

Lambda = Annotated[float, Field(ge=0)]


class FixedLambdaOptions(BregmanOptions):
    """Which λ.

    Attributes:
        lambda_value: λ, or one for each target sparsity, such as `{0.9: 2, 0.95: 4}`.
    """

    lambda_value: Lambda | dict[float, Lambda]

    def lambda_of(self, target_sparsity: float) -> float:
        """λ for a target.

        Raises:
            SparsifyError: λ is given by target, and not for this one.
        """
        if not isinstance(self.lambda_value, dict):
            return self.lambda_value
        if target_sparsity not in self.lambda_value:
            known = ", ".join(f"{target:g}" for target in self.lambda_value)
            raise SparsifyError(
                f"lambda_value has no λ for target_sparsity {target_sparsity:g}, only for {known}:"
                " add one to the options of the method"
            )
        return self.lambda_value[target_sparsity]


class LinBregFixedOptions(LinBregStep, FixedLambdaOptions):
    """LinBreg's hyperparameters, and λ."""


class AdaBregFixedOptions(AdaBregStep, FixedLambdaOptions):
    """AdaBreg's hyperparameters, and λ."""


F = TypeVar("F", bound=FixedLambdaOptions)


class FixedLambdaMethod(BregmanMethod[F], Generic[F]):
    """The classical iteration (Bungert et al. 2022), the oracle baseline of arXiv 2605.07892.

    Nothing controls the sparsity and nothing lands: to meet a target is the business of whoever
    chooses λ, and what the run reports tells whether that went well.
    """

    @classmethod
    def check_target(cls, options: F, target_sparsity: float) -> None:
        """Refuses a target that has no λ."""
        options.lambda_of(target_sparsity)

    def sparsity_target(self, step: int) -> float:
        """The target, which nothing pursues."""
        return self.target_sparsity

    def finish(self) -> None:
        """Leaves the sparsity as it is."""

    def _rule(self) -> FixedLambda:
        return FixedLambda(self.options.lambda_of(self.target_sparsity))


class LinBregFixed(FixedLambdaMethod[LinBregFixedOptions]):
    """LinBreg with a fixed λ."""

    Options = LinBregFixedOptions


class AdaBregFixed(FixedLambdaMethod[AdaBregFixedOptions]):
    """AdaBreg with a fixed λ."""

    Options = AdaBregFixedOptions
