"""Claims of a question: written down, in a token, in a file; `policy explain --jwt` answers by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshpy.cli.claims import read_claims
from meshpy.cli.main import run
from meshpy.cli.policy_table import read_tests
from meshpy.errors import DocumentError, MeshpyError
from tests.helpers.tokens import claims, hs256, jwks, key, token

ROOT = Path(__file__).parents[4]


def policies(folder: Path) -> Path:
    file = folder / "policies.yml"
    file.write_text(f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt}}
spec:
  selector: {{matchLabels: {{app: api}}}}
  jwtRules: [{{issuer: 'https://idp.test', audiences: [shop], jwks: '{jwks(key())}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: staff}}
spec:
  selector: {{matchLabels: {{app: api}}}}
  rules: [{{when: [{{key: 'request.auth.claims[groups]', values: [staff]}}]}}]
""")
    return file


def test_claims_are_read_from_json_a_token_or_a_file(tmp_path):
    expected = claims(groups=["staff"])
    text = token(key(), expected)
    assert read_claims(json.dumps(expected)) == expected
    assert read_claims(text) == expected
    for content in (json.dumps(expected), text + "\n"):
        (tmp_path / "jane.jwt.txt").write_text(content)
        assert read_claims(str(tmp_path / "jane.jwt.txt")) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nowhere", "neither claims, nor a token, nor a file"),
        ("{", "is no JSON"),
        ('{"a": 1, "a": 2}', "has a name twice"),
        ("a.b.c", "of the token"),
        (hs256(b"secret", claims()), "algorithm is not accepted"),
    ],
)
def test_what_is_no_claims_says_so(text, says):
    with pytest.raises(MeshpyError, match=says):
        read_claims(text)


@pytest.mark.parametrize(
    ("jwt", "code", "stage"),
    [
        (None, 1, "allow"),
        (claims(aud="shop", groups=["staff"]), 0, "allow"),
        (claims(aud="shop", groups=["dev"]), 1, "allow"),
        (claims(aud="blog", groups=["staff"]), 1, "jwt"),
        ({"iss": "https://evil", "sub": "jane"}, 1, "jwt"),
    ],
)
def test_explain_answers_for_a_token(tmp_path, monkeypatch, capsys, jwt, code, stage):
    monkeypatch.chdir(ROOT)
    words = ["policy", "explain", "--stack", "stacks/shop.yml", "--policies", str(policies(tmp_path))]
    words += ["--jwt", json.dumps(jwt)] if jwt is not None else []
    with pytest.raises(SystemExit) as ended:
        run([*words, "-o", "json", "web", "api", "GET", "/products"])
    answer = json.loads(capsys.readouterr().out)
    assert (ended.value.code, answer["stage"]) == (code, stage)
    if stage == "jwt":
        assert answer["policy"] == "RequestAuthentication default/jwt"
        assert answer["steps"][0]["action"].startswith("refuse with 40")


def test_a_table_takes_claims_as_yaml_writes_them_and_names_the_line_of_a_wrong_one(tmp_path):
    file = tmp_path / "tests.yml"
    file.write_text(
        "tests:\n- {from: web, to: api, expect: allow, jwt: {iss: a, n: 1, ok: true, no: x, list: [1, a]}}\n"
    )
    (case,) = read_tests([file])
    assert case.question.claims == {"iss": "a", "n": 1, "ok": True, "no": "x", "list": [1, "a"]}
    file.write_text("tests:\n- {from: web, to: api, expect: allow, jwt: nowhere}\n")
    with pytest.raises(DocumentError) as caught:
        read_tests([file])
    (problem,) = caught.value.problems
    assert (problem.place.line, problem.place.key) == (2, "tests[0].jwt")
