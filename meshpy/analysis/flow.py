"""A flow: one caller and one place that it can address, in one revision or in two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshpy.analysis.space import Space
from meshpy.engine.explain import Explanation
from meshpy.engine.request import Request
from meshpy.model.names import OUTSIDE, ServiceName

__all__ = ["Caller", "Flow"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Args:
        service: None for callers from outside.
        is_stranger: an identity of the mesh that is none of the services known here.
        address: an address of its class; empty where no policy asks for it.
        nets: the class of the address in words.
    """

    service: ServiceName | None = None
    is_stranger: bool = False
    address: str = ""
    nets: str = ""

    @property
    def label(self) -> str:
        if self.service is None:
            return OUTSIDE
        return f"{self.service} (any such other identity)" if self.is_stranger else str(self.service)


@dataclass(frozen=True, slots=True)
class Flow:
    """One caller, one place, in both revisions.

    Args:
        host: what is called: `catalog.shop`, or `shop/api` where a sidecar is addressed itself.
        services: everyone who may judge a request of it.
        old: asks the earlier revision; it reads nothing of the request that the space does not have.
        space: made when it is asked for, cut by further tests where these are given.
        alike: equal for two flows whose answers are those of each other, whoever calls.
    """

    caller: Caller
    host: str
    port: int
    services: frozenset[ServiceName]
    old: Callable[[Request], Explanation]
    new: Callable[[Request], Explanation]
    space: Callable[..., Space]
    is_opaque: bool = False
    alike: tuple[object, ...] | None = None
