"""Paths by their class: identifiers give way, words stay."""

import pytest

from meshpy.model.paths import path_class


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/", "/"),
        ("/items", "/items"),
        ("/items/17/", "/items/{*}/"),
        ("/v1/orders/0af76519-16cd-43dd-8448-eb211c80319c", "/v1/orders/{*}"),
        ("/blobs/deadbeef01", "/blobs/{*}"),
        ("/users/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/users/{*}"),
        ("/facade/decade", "/facade/decade"),
        ("/assets/app-4f8a1c9d7e2b.js", "/assets/{*}"),
        ("/" + "x" * 40, "/{*}"),
        ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
    ],
)
def test_identifiers_give_way(path, wanted):
    assert path_class(path) == wanted
