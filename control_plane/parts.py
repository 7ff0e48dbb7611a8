"""Everything that handlers work with, put together once by `app`."""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.anomalies.kept import BaselineFile
from control_plane.anomalies.watch import Watch
from control_plane.anomalies.webhook import Webhook
from control_plane.attest import Attestor
from control_plane.audit import Audit
from control_plane.ca_state import SharedCa
from control_plane.captures import Captures
from control_plane.denylist import DenyList
from control_plane.discovery.view import Discovery
from control_plane.distribution import Distribution
from control_plane.export import Export
from control_plane.followers import Followers
from control_plane.jwks.issuer_keys import IssuerKeys
from control_plane.looks import Looks
from control_plane.operator_tokens import OperatorTokens
from control_plane.rate import RateLimit
from control_plane.registry import Registry
from control_plane.reports import Reports
from control_plane.rollouts import Rollouts
from control_plane.siblings import Siblings
from control_plane.signing import Signing
from control_plane.store.revisions import Store
from control_plane.token_ledger import TokenLedger
from control_plane.tokens import JoinTokens

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    registry: Registry
    distribution: Distribution
    reports: Reports
    export: Export
    looks: Looks
    captures: Captures
    watch: Watch
    baseline: BaselineFile
    webhook: Webhook | None
    store: Store
    discovery: Discovery
    signing: Signing
    ca: SharedCa
    followers: Followers
    tokens: JoinTokens
    ledger: TokenLedger
    attestor: Attestor
    audit: Audit
    rollouts: Rollouts
    denylist: DenyList
    operator_tokens: OperatorTokens
    issuer_keys: IssuerKeys
    siblings: Siblings
    enrolments: RateLimit = field(default_factory=RateLimit)
