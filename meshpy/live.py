"""Live[T]: the one mutable cell through which configuration is replaced whole."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Live"]

T = TypeVar("T")


class Live(Generic[T]):
    """Holds the current value. Readers take `.value` once per request and keep what they took."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value
