"""Bregman training with one λ until the landing, which corrects what the λ has missed."""

from __future__ import annotations

import logging
from typing import Annotated, Generic, TypeVar

from pydantic import Field

from sparsify.errors import SparsifyError
from sparsify.methods.bregman import AdaBregStep, BregmanMethod, BregmanOptions, LinBregStep
from sparsify.optim.lambda_rules import FixedLambda

logger = logging.getLogger(__name__)

Lambda = Annotated[float, Field(ge=0)]
_FAR = 0.01  # a share of weights that the landing should not have to move


class FixedLambdaOptions(BregmanOptions):
    """Which λ.

    Attributes:
        lambda_value: λ, or one for each target sparsity, such as `{0.9: 2, 0.95: 4}`.
    """

    lambda_value: Lambda | dict[float, Lambda]

    def lambda_of(self, target_sparsity: float | None) -> float:
        """λ for a target; `None` is one of multiply-adds.

        Raises:
            SparsifyError: λ is given by target, and not for this one.
        """
        if not isinstance(self.lambda_value, dict):
            return self.lambda_value
        if target_sparsity is None:
            raise SparsifyError(
                "lambda_value gives λ by target sparsity, and the target is one of multiply-adds:"
                " give a single λ"
            )
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

    Nothing controls the sparsity until the landing: to come near a target is the business of
    whoever chooses λ.
    """

    of_one_target = frozenset({"lambda_value"})

    @classmethod
    def check_target(cls, options: F, target_sparsity: float | None) -> None:
        """Refuses a target that has no λ."""
        options.lambda_of(target_sparsity)

    def sparsity_target(self, step: int) -> float:
        """The target, which nothing pursues before the landing."""
        return self.target_sparsity

    def _land(self) -> None:
        before, lam = self.priced.sparsity, self.lam
        super()._land()
        if abs(before - self.target_sparsity) > _FAR:
            logger.warning(
                "λ = %.4g had led to a sparsity of %s: it lands at %s, which λ = %.4g gives here",
                lam,
                self.task.in_words(before),
                self.task.in_words(self.target_sparsity),
                self.lam,
            )

    def _rule(self) -> FixedLambda:
        target = None if self.task.costs else self.target_sparsity
        return FixedLambda(self.options.lambda_of(target))


class LinBregFixed(FixedLambdaMethod[LinBregFixedOptions]):
    """LinBreg with a fixed λ."""

    Options = LinBregFixedOptions


class AdaBregFixed(FixedLambdaMethod[AdaBregFixedOptions]):
    """AdaBreg with a fixed λ."""

    Options = AdaBregFixedOptions
