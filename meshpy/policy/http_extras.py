"""What a rule of VirtualService `http[]` does beside forwarding: mirrors and the CORS policy."""

from __future__ import annotations

from meshpy.model.match import Exact, StringMatch
from meshpy.model.route import Cors
from meshpy.policy.http_actions import percentage
from meshpy.policy.kinds import DestinationDoc, HostRef, MirrorDoc
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.route_targets import destination
from meshpy.policy.strings import header_name, string_match

__all__ = ["cors", "mirrors"]

_CORS = (
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "exposeHeaders",
    "maxAge",
    "allowCredentials",
    "unmatchedPreflights",
)
_OLD_ORIGINS = ("is Istio's old form", "write allowOrigins: [{exact: https://example.com}]")


def mirrors(fields: Fields) -> tuple[MirrorDoc, ...]:
    """`mirror` with `mirrorPercentage`, or `mirrors`; without a percentage every request is mirrored."""
    fields.only_one("mirror", "mirrors")
    one, share = fields.get("mirror"), fields.get("mirrorPercentage")
    if share is not None and one is None:
        share.problem("`mirrorPercentage` belongs to `mirror`", "write mirror:, or percentage: in `mirrors`")
    if one is not None:
        return (MirrorDoc(destination(one), percentage(share) if share is not None else 100.0),)
    return tuple(_mirror(item) for item in fields.items("mirrors"))


def _mirror(cursor: Cursor) -> MirrorDoc:
    fields = cursor.fields(("destination", "percentage"))
    target = fields.required("destination", "destination: {host: my-service}")
    share = fields.get("percentage")
    found = destination(target) if target is not None else DestinationDoc(HostRef("", cursor.place))
    return MirrorDoc(found, percentage(share) if share is not None else 100.0)


def cors(cursor: Cursor) -> Cors:
    """`corsPolicy`."""
    fields = cursor.fields(_CORS, {"allowOrigin": _OLD_ORIGINS})
    origins = fields.required("allowOrigins", "allowOrigins: [{exact: https://example.com}]")
    unmatched = fields.get("unmatchedPreflights")
    word = unmatched.choice(("FORWARD", "IGNORE", "UNSPECIFIED")) if unmatched is not None else "FORWARD"
    age_s = fields.duration("maxAge")
    return Cors(
        allow_origins=tuple(_origin(item) for item in origins.items()) if origins is not None else (),
        allow_methods=tuple(_token(item) for item in fields.items("allowMethods")),
        allow_headers=tuple(_token(item) for item in fields.items("allowHeaders")),
        expose_headers=tuple(_token(item) for item in fields.items("exposeHeaders")),
        max_age_s=int(age_s) if age_s is not None else None,
        allow_credentials=fields.boolean("allowCredentials"),
        forward_unmatched=word != "IGNORE",
    )


def _token(cursor: Cursor) -> str:
    return header_name(cursor, cursor.text())


def _origin(cursor: Cursor) -> StringMatch:
    found = string_match(cursor)
    if found is None:
        cursor.problem("the origin says nothing", "write exact:, prefix: or regex:")
        return Exact("")
    return found
