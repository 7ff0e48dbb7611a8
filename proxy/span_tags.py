"""Tags that a Telemetry document adds to spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshpy.model.telemetry import SpanTag, TagOrigin

__all__ = ["NO_TAGS", "SpanTags"]

_MAX_TEXT = 256


class SpanTags:
    """What never changes is read once, headers per request."""

    __slots__ = ("_fixed", "_headers")

    def __init__(self, fixed: Mapping[str, object], headers: Sequence[tuple[str, bytes, str]]) -> None:
        self._fixed = fixed
        self._headers = headers

    @classmethod
    def of(cls, tags: Sequence[SpanTag], environment: Mapping[str, str]) -> SpanTags:
        """Args:
        environment: the sidecar's own.
        """
        fixed = {tag.name: tag.value for tag in tags if tag.origin is TagOrigin.LITERAL}
        for tag in tags:
            if tag.origin is TagOrigin.ENVIRONMENT and (text := environment.get(tag.value, tag.default)):
                fixed[tag.name] = text[:_MAX_TEXT]
        named = [
            (tag.name, tag.value.encode("latin-1"), tag.default)
            for tag in tags
            if tag.origin is TagOrigin.HEADER
        ]
        return cls(fixed, named)

    def of_request(self, fields: Mapping[bytes, bytes]) -> dict[str, object]:
        """The attributes of a request's spans."""
        found = dict(self._fixed)
        for name, header, default in self._headers:
            value = fields.get(header)
            text = default if value is None else value.decode("latin-1")[:_MAX_TEXT]
            if text:
                found[name] = text
        return found


NO_TAGS = SpanTags({}, ())
