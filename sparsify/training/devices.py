"""The devices that a user may ask for; `sparsify.training.compute` chooses, and needs torch."""

from __future__ import annotations

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
"""`auto` takes a GPU if there is one."""
