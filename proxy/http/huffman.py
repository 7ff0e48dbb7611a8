"""The Huffman code of HPACK (RFC 7541 §5.2, appendix B), for reading: what is written here is never packed.

The code is canonical, so the lengths of its 257 codes say everything. Reading goes by half octets through a
table of states, one per inner node of the code's tree; texts come again on a connection, so short ones are
remembered.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HuffmanError", "unpack"]

_LENGTHS: Final = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCC"
    "CCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRT"
    "QRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"
)
"""Of every octet and of the end symbol: A is a code of 5 bits, Z one of 30."""

_EOS: Final = 256
_SEEN_LIMIT: Final = 1024
_SEEN_BYTES: Final = 64
_seen: dict[bytes, bytes] = {}


class HuffmanError(ValueError):
    """Not a text of this code: the end symbol within it, or padding that is no prefix of the end symbol."""


_Step = tuple[int, int]
"""From a state by a half octet: the next state, and the octet that became complete (-1 for none)."""


def _codes() -> dict[tuple[int, int], int]:
    """(bits, length) → symbol."""
    lengths = [ord(letter) - ord("A") + 5 for letter in _LENGTHS]
    code = before = 0
    codes: dict[tuple[int, int], int] = {}
    for symbol in sorted(range(257), key=lambda each: (lengths[each], each)):
        code <<= lengths[symbol] - before
        before = lengths[symbol]
        codes[code, before] = symbol
        code += 1
    return codes


def _table() -> tuple[list[list[_Step | None]], frozenset[int]]:
    """The steps of every state, and the states in which a text may end."""
    codes = _codes()
    nodes: dict[tuple[int, int], int] = {(0, 0): 0}
    for bits, length in codes:
        for cut in range(1, length):
            nodes.setdefault((bits >> (length - cut), cut), len(nodes))
    steps = [[_walk(node, half, nodes, codes) for half in range(16)] for node in nodes]
    # Padding is up to seven bits, all ones: the most significant bits of the end symbol.
    ends = frozenset(nodes[(1 << length) - 1, length] for length in range(8))
    return steps, ends


def _walk(
    node: tuple[int, int], half: int, nodes: dict[tuple[int, int], int], codes: dict[tuple[int, int], int]
) -> _Step | None:
    bits, length = node
    symbol = -1
    for shift in (3, 2, 1, 0):
        bits, length = bits << 1 | half >> shift & 1, length + 1
        if (bits, length) in codes:
            symbol = codes[bits, length]
            if symbol == _EOS:
                return None
            bits = length = 0
    return nodes[bits, length], symbol


_STEPS, _ENDS = _table()


def unpack(packed: bytes) -> bytes:
    """Read a text.

    Raises:
        HuffmanError: it is none.
    """
    known = _seen.get(packed)
    if known is not None:
        return known
    out = bytearray()
    steps = _STEPS
    state = 0
    for octet in packed:
        step = steps[state][octet >> 4]
        if step is None:
            raise HuffmanError("the end symbol within a text")
        state, symbol = step
        if symbol >= 0:
            out.append(symbol)
        step = steps[state][octet & 15]
        if step is None:
            raise HuffmanError("the end symbol within a text")
        state, symbol = step
        if symbol >= 0:
            out.append(symbol)
    if state not in _ENDS:
        raise HuffmanError("padding longer than seven bits or not all ones")
    text = bytes(out)
    if len(packed) <= _SEEN_BYTES:
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        _seen[packed] = text
    return text
