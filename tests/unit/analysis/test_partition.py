"""Cells of texts: what the automata say is what the engine's own tests say, for every text."""

import dataclasses
import random

import pytest

from meshpy.analysis.domains import AUTHORITY, HEADER, METHOD, PATH, principals
from meshpy.analysis.partition import Matcher, partition
from meshpy.analysis.predicates import HANDLED
from meshpy.analysis.seam import Seam
from meshpy.engine.match import canonical_match, compile_string
from meshpy.engine.normalise import NormalisedTarget, normalise_target
from meshpy.engine.request import host_of
from meshpy.model import authn, authz, match, route
from meshpy.model.match import Exact, PathTemplate, Prefix, Present, Regex, SegmentPrefix, Suffix

EXPRESSIONS = [
    "/a.*",
    "(?i)/AB?c+",
    "/[a-c]{2,3}/?",
    "/[^/]+/x",
    "^/(v1|v2)(/.*)?$",
    r"/\d+(\.\d+)*",
    r"/\w+@\w+",
    r"/x\.html",
    r"\Q/a+b\E.*",
    "/(?:ab|a)b*",
    "(/a|/b)+",
    "/[[:alpha:]]+[[:digit:]]",
    r"/\p{Lu}\pN",
    "/a|/b/$",
    "/(?P<id>[0-9a-f]{4})",
    "()",
    "/.{0,3}",
    r"/\x61\x{62}",
    "/[]a]",
    r"/[\w.-]+",
    "a*?(?U)/a+",
    r"/[^\d]x",
    r"\A/ab\z",
]
LETTERS = "/aAbcxX1.20@+]-v%_ "


def texts(seed, count, letters=LETTERS):
    dice = random.Random(seed)
    return ["".join(dice.choice(letters) for _ in range(dice.randint(0, 9))) for _ in range(count)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("fold", [False, True])
def test_an_expression_means_what_re2_says(expression, fold):
    """Texts at random, and the texts of the expression's own cells."""
    found = partition(HEADER, (Matcher("e", (Regex(expression),), fold=fold),))
    assert not found.opaque
    test = compile_string(Regex(expression), ignore_case=fold)
    assert {atom.bits for atom in found.atoms} == ({0, 1} if expression != "" else {1})
    samples = [atom.witness for atom in found.atoms] + texts(expression, 60)
    samples += [f"/{text}" for text in texts(expression + "2", 60, "abc12v/x.")]
    for text in samples:
        number = found.find(text)
        if number is not None:
            assert bool(found.atoms[number].bits) is test(text), text


@pytest.mark.parametrize("expression", [r"\bx", r"x\B", r"\C", r"\p{Greek}"])
def test_an_expression_without_an_automaton_is_told_as_opaque(expression):
    found = partition(PATH, (Matcher("e", (Regex(expression),)), Matcher("p", (Prefix("/a"),))))
    assert [matcher.label for matcher, _ in found.opaque] == ["e"]
    assert len(found.atoms) == 2


def test_too_many_states_drop_the_longest_expression_and_say_so():
    hard = tuple(Matcher(str(n), (Regex(f"/(a|b)*{n}(a|b){{16}}"),)) for n in "ab")
    found = partition(PATH, (*hard, Matcher("p", (Prefix("/a"),))))
    assert found.opaque
    assert any(matcher.label == "p" for matcher in found.matchers)


MATCHES = [
    Exact("/a"),
    Exact("/é x"),
    Prefix("/a"),
    Prefix("/a/"),
    SegmentPrefix("/a/b"),
    SegmentPrefix("/v1/"),
    Suffix(".html"),
    Suffix("/a"),
    Present(),
    PathTemplate("/a/{*}/x"),
    PathTemplate("/{**}/b"),
    PathTemplate("/v1/{*}"),
    Regex("/(a|b)/.*"),
]


def paths(seed, count):
    for text in texts(seed, count, "/ab.v1xé%2 ") + [f"/a/b/{n}" for n in range(9)]:
        found = normalise_target(f"/{text}".encode())
        if isinstance(found, NormalisedTarget):
            yield found.path


@pytest.mark.parametrize("fold", [False, True])
def test_every_path_is_in_the_cell_of_what_matches_it(fold):
    spelled = [canonical_match(item) for item in MATCHES]
    found = partition(PATH, tuple(Matcher(str(i), (m,), fold=fold) for i, m in enumerate(spelled)))
    tests = [compile_string(item, ignore_case=fold) for item in spelled]
    for path in [*paths(1, 500), *(atom.witness for atom in found.atoms)]:
        number = found.find(path)
        assert number is not None, path
        bits = sum(1 << i for i, test in enumerate(tests) if test(path))
        assert found.atoms[number].bits == bits, path


def test_every_witness_of_a_path_is_its_own_normal_form():
    spelled = [canonical_match(item) for item in MATCHES]
    found = partition(PATH, tuple(Matcher(str(i), (m,)) for i, m in enumerate(spelled)))
    for atom in found.atoms:
        assert normalise_target(atom.witness.encode()).path == atom.witness


@pytest.mark.parametrize("text", ["/", "/a", "/a/", "/a/.", "/a/..", "/..", "v1", "/x.", "/a?b=", "//b//"])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_prefix_rewrite_is_judged_as_after_it(text, skip):
    """The seam is exact: slashes that meet and dot segments that arise are the engine's."""
    spelled = [canonical_match(item) for item in MATCHES]
    matchers = tuple(Matcher(str(i), (m,), seam=Seam(skip, text)) for i, m in enumerate(spelled))
    found = partition(PATH, matchers)
    tests = [compile_string(item) for item in spelled]
    assert not found.opaque
    for path in [
        *paths(2, 300),
        "/a",
        "/a/..",
        "/a/.",
        "/v1..",
        "/v1.",
        "/v1/",
        "/v1/a",
        "/v1.../a",
        "/v1../a",
    ]:
        normal = normalise_target(path.encode()).path
        if len(normal) < skip:
            continue
        after = text + normal[skip:]
        after = normalise_target((after if after.startswith("/") else f"/{after}").encode()).path
        bits = sum(1 << i for i, test in enumerate(tests) if test(after))
        number = found.find(normal)
        assert number is not None
        assert found.atoms[number].bits == bits, (normal, after)


def test_an_authority_is_cut_where_the_engine_cuts_it():
    matches = [Exact("api"), Prefix("ap"), Suffix(".com"), Present()]
    whole = [Exact("api:8080"), Prefix("api:"), Suffix(":80")]
    matchers = tuple(Matcher(f"b{i}", (m,), part=0, fold=True) for i, m in enumerate(matches))
    matchers += tuple(Matcher(f"w{i}", (m,), fold=True) for i, m in enumerate(whole))
    found = partition(AUTHORITY, matchers)
    bare = [compile_string(m) for m in matches]
    tests = [lambda text, t=t: t(host_of(text)) for t in bare]
    tests += [compile_string(m) for m in whole]
    for text in [
        "api",
        "api.",
        "api:8080",
        "api.:80",
        "a.com",
        ".com",
        "",
        ":80",
        "[::1]:80",
        "[::1]",
        "x..",
        "api:",
    ]:
        number = found.find(text)
        assert number is not None, text
        assert found.atoms[number].bits == sum(1 << i for i, test in enumerate(tests) if test(text)), text


def test_a_namespace_is_the_part_of_a_principal():
    domain = principals("my-mesh.local")
    found = partition(domain, (Matcher("n", (Exact("shop"),), part=1), Matcher("p", (Suffix("/sa/web"),))))
    assert {atom.bits for atom in found.atoms} == {0, 1, 2, 3}
    for atom in found.atoms:
        _, _, namespace, _, account = atom.witness.split("/")
        assert atom.bits == (namespace == "shop") | (account == "web") << 1


def test_a_method_is_any_token():
    found = partition(METHOD, (Matcher("m", (Exact("GET"),)),))
    assert [atom.witness for atom in found.atoms] == ["GET", "POST"]
    assert found.find("propfind!") is not None
    assert found.find("A B") is None


def test_every_field_of_a_rule_is_handled():
    """A field that the model gains and the analysis does not read must fail here, not weaken a proof."""
    not_rules = {
        *(authz.PortRange, authz.StrictPort),  # compared with the port that is asked for
        *(match.Exact, match.Prefix, match.SegmentPrefix, match.Suffix, match.Present, match.Regex),
        match.PathTemplate,  # `language_of` ends in assert_never
        *(route.HeaderOps, route.Destination, route.Forward, route.Redirect, route.DirectResponse),
        *(route.Rewrite, route.Fault, route.VirtualHost, route.TcpRoute, route.Mirror, route.Cors),
    }
    for module in (authn, authz, match, route):
        for name in module.__all__:
            cls = getattr(module, name)
            if not dataclasses.is_dataclass(cls) or cls in not_rules:
                continue
            fields = {field.name for field in dataclasses.fields(cls)}
            assert HANDLED.get(cls) == fields, f"{cls.__name__} of {module.__name__}"
