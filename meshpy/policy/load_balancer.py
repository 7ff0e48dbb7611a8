"""DestinationRule `loadBalancer`: the simple algorithms, consistent hashing, locality, warm-up.

Source: Istio LoadBalancerSettings. `simple: PEAK_EWMA` is the one word that Istio lacks: Linkerd's balancer.
"""

from __future__ import annotations

import re

from meshpy.model.resilience import (
    ConsistentHash,
    HashBy,
    HashTable,
    LoadBalancing,
    Locality,
    LocalityShares,
    Warmup,
)
from meshpy.policy.kinds import BalancerDoc
from meshpy.policy.reader import Cursor, Fields, no_meaning, suggestion

__all__ = ["LOCALITY_LABELS", "load_balancer"]

_KNOWN = ("simple", "consistentHash", "localityLbSetting", "warmup")
_REFUSED = {
    "warmupDurationSecs": ("is Istio's old form", "write warmup: {duration: 30s}"),
    "zoneAwareLbSetting": (
        "is not offered: it needs the callers' own spread over zones",
        "write localityLbSetting: {}, which keeps to the nearest healthy endpoints",
    ),
}
_HASHES = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
_MAX_RING = 1 << 20
_MAX_TABLE = 5_000_011
"""Envoy's greatest Maglev table."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOCALITY = re.compile(r"\*|[^/*\s]+(?:/\*|/[^/*\s]+(?:/\*|/[^/*\s]+)?)?")

LOCALITY_LABELS = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/hostname",
)


def load_balancer(cursor: Cursor) -> BalancerDoc:
    """Read `loadBalancer`."""
    fields = cursor.fields(_KNOWN, _REFUSED)
    fields.only_one("simple", "consistentHash")
    simple, hashed = fields.get("simple"), fields.get("consistentHash")
    locality, warmup = fields.get("localityLbSetting"), fields.get("warmup")
    if warmup is not None and hashed is not None:
        warmup.problem("a warm-up has no effect on consistent hashing", "remove one of the two")
    return BalancerDoc(
        _simple(simple) if simple is not None else LoadBalancing.LEAST_REQUEST,
        _consistent_hash(hashed) if hashed is not None else None,
        _locality(locality) if locality is not None else None,
        _warmup(warmup) if warmup is not None else None,
    )


def _simple(cursor: Cursor) -> LoadBalancing:
    value = cursor.text()
    if value in ("LEAST_CONN", "UNSPECIFIED"):  # Istio's deprecated name, and its word for the default
        return LoadBalancing.LEAST_REQUEST
    if value == "PASSTHROUGH":
        what, instead = no_meaning(
            "the address that the app dialled is its own sidecar's, there is no other to pass on to",
            "write LEAST_REQUEST",
        )
        cursor.problem(f"PASSTHROUGH {what}", instead)
        return LoadBalancing.LEAST_REQUEST
    known = tuple(LoadBalancing)
    return LoadBalancing(value) if cursor.choice(known) in known else LoadBalancing.LEAST_REQUEST


def _consistent_hash(cursor: Cursor) -> ConsistentHash:
    refused = {"minimumRingSize": ("is Istio's old form", "write ringHash: {minimumRingSize: 1024}")}
    fields = cursor.fields((*_HASHES, "ringHash", "maglev"), refused)
    chosen = fields.only_one(*_HASHES)
    if not chosen:
        cursor.problem("it is not said what to hash", f"write one of {', '.join(_HASHES)}")
    table, size = _table(fields)
    at = fields.get(chosen) if chosen else None
    if at is None:
        return ConsistentHash(HashBy.SOURCE_IP, table=table, size=size)
    if chosen == "httpCookie":
        return _cookie(at, table, size)
    if chosen == "useSourceIp":
        if not at.boolean():
            at.problem("`useSourceIp: false` leaves nothing to hash", f"write one of {', '.join(_HASHES)}")
        return ConsistentHash(HashBy.SOURCE_IP, table=table, size=size)
    if chosen == "httpHeaderName":
        return ConsistentHash(HashBy.HEADER, _token(at, "header").lower(), table=table, size=size)
    name = at.text()
    if not name:
        at.problem("the name is empty", "write the name of a query parameter")
    return ConsistentHash(HashBy.QUERY, name, table=table, size=size)


def _token(cursor: Cursor, what: str) -> str:
    name = cursor.text()
    if not _TOKEN.fullmatch(name):
        cursor.problem(f"{name!r} is no {what} name", "write letters, digits and -")
    return name


def _table(fields: Fields) -> tuple[HashTable, int]:
    fields.only_one("ringHash", "maglev")
    ring, maglev = fields.get("ringHash"), fields.get("maglev")
    if maglev is not None:
        at = maglev.fields(("tableSize",)).get("tableSize")
        size = at.integer(2, _MAX_TABLE) if at is not None else 65537
        if at is not None and not _is_prime(size):
            at.problem(f"{size} is no prime number", "write 65537")
        return HashTable.MAGLEV, size
    at = ring.fields(("minimumRingSize",)).get("minimumRingSize") if ring is not None else None
    return HashTable.RING_HASH, at.integer(1, _MAX_RING) if at is not None else 1024


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _cookie(cursor: Cursor, table: HashTable, size: int) -> ConsistentHash:
    fields = cursor.fields(("name", "path", "ttl", "attributes"))
    at_name, at_path = fields.required("name", "name: user"), fields.get("path")
    path = at_path.text() if at_path is not None else ""
    if at_path is not None and not re.fullmatch(r"/[!-:<-~]*", path):
        at_path.problem(f"{path!r} is no path of a cookie", "write / or a path without ;")
    attributes = []
    for item in fields.items("attributes"):
        inner = item.fields(("name", "value"))
        at_key, at_value = inner.required("name", "name: SameSite"), inner.get("value")
        value = at_value.text() if at_value is not None else ""
        if at_value is not None and not re.fullmatch(r"[ !-:<-~]*", value):
            at_value.problem(f"{value!r} cannot be an attribute's value", "write visible characters, no ;")
        if at_key is not None:
            attributes.append((_token(at_key, "attribute"), value))
    return ConsistentHash(
        HashBy.COOKIE,
        _token(at_name, "cookie") if at_name is not None else "",
        path,
        fields.duration("ttl"),
        tuple(attributes),
        table,
        size,
    )


def _locality(cursor: Cursor) -> Locality | None:
    fields = cursor.fields(("enabled", "distribute", "failover", "failoverPriority"))
    chosen = fields.only_one("distribute", "failover", "failoverPriority")
    distribute = tuple(_shares(item) for item in fields.items("distribute"))
    failover = tuple(_failover(item) for item in fields.items("failover"))
    priority = tuple(_priority(item) for item in fields.items("failoverPriority"))
    if not fields.boolean("enabled", default=True):
        if chosen:
            cursor.problem(f"`{chosen}` has no effect with enabled: false", "remove one of the two")
        return None
    return Locality(distribute, failover, priority)


def _place(cursor: Cursor, text: str) -> str:
    if not _LOCALITY.fullmatch(text):
        cursor.problem(f"{text!r} is no locality", "write region/zone/subzone, region/*, or *")
    return text


def _shares(cursor: Cursor) -> LocalityShares:
    fields = cursor.fields(("from", "to"))
    at_from, at_to = fields.required("from", "from: eu/zone-a/*"), fields.required("to", "to: {eu/*: 100}")
    shares = []
    for name, value in at_to.pairs() if at_to is not None else ():
        shares.append((_place(value, name), value.integer(1, 100)))
    if at_to is not None and sum(share for _, share in shares) != 100:
        at_to.problem("the shares do not add up to 100", "write percentages that do")
    return LocalityShares(_place(at_from, at_from.text()) if at_from is not None else "", tuple(shares))


def _failover(cursor: Cursor) -> tuple[str, str]:
    fields = cursor.fields(("from", "to"))
    ends = []
    for name in ("from", "to"):
        at = fields.required(name, f"{name}: a region")
        text = at.text() if at is not None else ""
        if at is not None and (not text or "/" in text or "*" in text):
            at.problem(f"{text!r} is no region", "write a region's name without zone")
        ends.append(text)
    if ends[0] == ends[1]:
        cursor.problem("a region cannot be its own failover", "write another region in `to`")
    return ends[0], ends[1]


def _priority(cursor: Cursor) -> str:
    text = cursor.text()
    key = text.partition("=")[0]
    if key not in LOCALITY_LABELS:
        what = f"the label {key!r} does not tell endpoints of one service apart on Swarm"
        cursor.problem(what, suggestion(key, LOCALITY_LABELS))
    return text


def _warmup(cursor: Cursor) -> Warmup | None:
    fields = cursor.fields(("duration", "minimumPercent", "aggression"))
    at_duration = fields.required("duration", "duration: 30s")
    at_minimum, at_aggression = fields.get("minimumPercent"), fields.get("aggression")
    minimum = at_minimum.number(0, 100) if at_minimum is not None else 10.0
    aggression = at_aggression.number(1, 100) if at_aggression is not None else 1.0
    if at_duration is None:
        return None
    return Warmup(at_duration.duration(0.001), minimum, aggression)
