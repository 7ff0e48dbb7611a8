"""The table from error to answer has every class, and hides what nobody foresaw."""

import inspect

import pytest

import certs.errors
import control_plane.errors
import meshpy.errors
from control_plane.api.problems import STATUS, status_of
from control_plane.errors import Conflict, RateLimited


def _classes():
    own = [vars(control_plane.errors)[name] for name in control_plane.errors.__all__]
    return [*own, meshpy.errors.MeshpyError, meshpy.errors.DocumentError, certs.errors.CertError]


def test_every_error_of_the_control_plane_has_an_answer():
    assert [cls for cls in _classes() if cls not in STATUS] == []


def test_the_table_names_no_class_that_is_never_raised():
    known = set(_classes()) | {cls for _, cls in inspect.getmembers(certs.errors, inspect.isclass)}
    assert set(STATUS) <= known


@pytest.mark.parametrize(
    ("error", "status"), [(Conflict(1, 2), 409), (RateLimited(1.0), 429), (KeyError("x"), None)]
)
def test_the_nearest_class_decides(error, status):
    assert status_of(error) == status
