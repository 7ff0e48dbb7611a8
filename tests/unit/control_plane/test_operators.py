"""The operator token file: a token or hashes with roles, and nothing that looks like either by accident."""

import hashlib
import json

import pytest

from control_plane.api.operators import Role, load_operators
from control_plane.errors import StartRefused, Unauthenticated
from control_plane.settings import Listen, read_secret

TOKEN = "a-token-of-some-length"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "role"), [(TOKEN + "\n", Role.ADMIN), (json.dumps({HASH: "viewer"}), Role.VIEWER)]
)
def test_a_token_has_its_role(tmp_path, content, role):
    (tmp_path / "f").write_text(content)
    operators = load_operators(tmp_path / "f", frozenset())
    assert operators.identify(f"Bearer {TOKEN}")[1] is role
    for header in ("", "Bearer", f"Basic {TOKEN}", f"Bearer {HASH}", f"Bearer {TOKEN}x"):
        with pytest.raises(Unauthenticated):
            operators.identify(header)


@pytest.mark.parametrize(
    "content", ["", "short", "two words of length", "{}", '{"x": "admin"}', f'{{"{HASH}": "god"}}', "{"]
)
def test_a_file_without_a_usable_token_is_refused(tmp_path, content):
    (tmp_path / "f").write_text(content)
    with pytest.raises(StartRefused):
        load_operators(tmp_path / "f", frozenset())


def test_a_missing_secret_is_named_and_never_replaced(tmp_path):
    with pytest.raises(StartRefused, match="absent"):
        load_operators(tmp_path / "absent", frozenset())
    with pytest.raises(StartRefused, match="absent"):
        read_secret(tmp_path / "absent", "join key")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(StartRefused, match="empty"):
        read_secret(tmp_path / "empty", "join key")


@pytest.mark.parametrize("text", ["15012", "host:", "host:x", "host:70000"])
def test_an_address_to_listen_on_has_a_port(text):
    with pytest.raises(StartRefused):
        Listen.parse(text)
    assert Listen.parse("[::1]:80") == Listen("::1", 80)
