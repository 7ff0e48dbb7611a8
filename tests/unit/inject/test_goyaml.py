"""What docker reads in YAML; every row was compared with `docker stack config` or go-yaml's resolve.go."""

import pytest

from meshpy.errors import DocumentError
from meshpy.inject.goyaml import plain_scalar
from meshpy.inject.stackfile import StackFile


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"),
        ("12:30", "12:30"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("010", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("1e3", 1000),
        ("3.10", 3.1),
        ("08", 8),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("", None),
        (".inf_", ".inf_"),
        ("1.2.3", "1.2.3"),
        ("${X:-1}", "${X:-1}"),
        ("0755:80", "0755:80"),
    ],
)
def test_plain_scalars_mean_what_docker_makes_of_them(text: str, value: object) -> None:
    found = plain_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_quoted_and_tagged_scalars_are_strings() -> None:
    value = StackFile.parse("a: '010'\nb: \"true\"\nc: !!str 80\nd: &x !!str 8\ne: |\n  12\n").value
    assert value == {"a": "010", "b": "true", "c": "80", "d": "8", "e": "12\n"}


def test_merge_keys_give_way_to_own_keys_and_earlier_merges_to_none() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\n"
    assert StackFile.parse(text).value["c"] == {"x": 3, "y": 1, "z": 2}


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("services:\n  a: {image: x}\n  a: {image: y}\n", 3, "stands twice"),
        ("services:\n\ta: 1\n", 2, "no valid YAML"),
        ("", 0, "empty"),
        ("# only a comment\n", 0, "empty"),
        ("a: 1\n---\nb: 2\n", 3, "second YAML document"),
        ("- a\n", 1, "is a mapping"),
        ("a: *nowhere\n", 1, "undefined alias"),
        ("a: &a\n  b: *a\n", 1, "contains itself"),
        ("? [x]\n: 1\n", 1, "must be a word"),
        ("<<: 3\n", 1, "only mappings"),
    ],
)
def test_what_is_no_stack_file_is_refused_with_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(DocumentError) as caught:
        StackFile.parse(text, "s.yml")
    problem = caught.value.problems[0]
    assert problem.place.file == "s.yml"
    assert problem.place.line == line
    assert part in problem.what


def test_aliases_that_multiply_are_refused_and_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="too many nodes"):
        StackFile.parse("\n".join(lines))


def test_a_place_is_found_through_merges() -> None:
    stack = StackFile.parse("x: &x\n  ports: [1]\nservices:\n  a:\n    <<: *x\n", "f")
    assert str(stack.place(("services", "a", "ports"))) == "f:2:3: services.a.ports"
