"""`-o yaml`: the same value as `-o json`, by the rules of both YAML 1.1 and 1.2."""

import io
import json

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from meshpy.cli.output import ask_format, print_json, print_record
from meshpy.cli.yaml_output import yaml_text

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
AMBIGUOUS = st.sampled_from(
    ["yes", "No", "on", "~", "", "22:22", "010", "1_000", "1e3", ".5", "0x1f", "null", "<<", "="]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | AMBIGUOUS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(AMBIGUOUS | TEXTS, inner, max_size=3),
    max_leaves=8,
)


def read(text: str, version: tuple[int, int]):
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return yaml.load(io.StringIO(text))


@given(VALUES)
def test_every_reader_gets_the_value_back(value):
    for version in ((1, 1), (1, 2)):
        assert read(yaml_text(value), version) == value


@click.command()
@ask_format
def show(output: str) -> None:
    value = {"b": [1, "yes"], "a": None}
    if output == "json":
        print_json(value)
        print_record(value)
    else:
        click.echo("table")


@pytest.mark.parametrize(
    ("form", "printed"),
    [
        ("table", "table\n"),
        ("yaml", 'b:\n- 1\n- "yes"\na: null\n---\nb:\n- 1\n- "yes"\na: null\n'),
        ("json", json.dumps({"b": [1, "yes"], "a": None}, indent=2) + '\n{"b": [1, "yes"], "a": null}\n'),
    ],
)
def test_a_command_that_prints_json_prints_yaml(form, printed):
    assert CliRunner().invoke(show, ["-o", form]).output == printed
