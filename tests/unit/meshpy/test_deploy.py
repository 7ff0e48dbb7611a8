"""When `meshpy deploy` may say that it is done."""

import pytest

from meshpy.cli.deploy import services_behind

WANTED = {"shop/api": 2, "shop/web": 1}


def status(endpoints: int, *states: str) -> dict:
    """What the control plane says of api, with sidecars in these states; web is well."""
    services = [{"name": "shop/api", "endpoints": endpoints}, {"name": "shop/web", "endpoints": 1}]
    sidecars = [{"service": "shop/api", "state": state} for state in states]
    return {"services": services, "sidecars": [*sidecars, {"service": "shop/web", "state": "SYNCED"}]}


def test_a_stack_is_done_when_every_sidecar_is_an_endpoint_and_in_sync():
    assert services_behind(status(2, "SYNCED", "SYNCED"), WANTED) == []


@pytest.mark.parametrize("state", ["STALE", "REJECTED", "DISCONNECTED"])
def test_a_service_is_behind_while_one_of_its_sidecars_is_not_in_sync(state: str):
    assert services_behind(status(2, "SYNCED", state), WANTED) == ["shop/api"]


def test_a_service_is_behind_while_its_callers_know_fewer_endpoints_than_run():
    assert services_behind(status(1, "SYNCED", "SYNCED"), WANTED) == ["shop/api"]


def test_a_service_is_behind_while_a_sidecar_has_not_found_the_app_that_runs():
    """Engines make a task's name known after it runs; a sidecar of an older version does not say."""
    for said, behind in ((False, ["shop/api"]), (True, []), (None, [])):
        seen = status(1, "SYNCED")
        seen["sidecars"][0]["has_app"] = said
        assert services_behind(seen, {"shop/api": 1}, {"shop/api"}) == behind
        assert services_behind(seen, {"shop/api": 1}, ()) == []  # a job that has ended, or nobody wanted


def test_a_caller_of_another_stack_that_is_being_told_is_waited_for():
    seen = status(2, "SYNCED", "SYNCED")
    seen["sidecars"].append({"service": "blog/web", "state": "PENDING"})
    assert services_behind(seen, WANTED) == ["blog/web (a caller)"]
    seen["sidecars"][-1]["state"] = "DISCONNECTED"
    assert services_behind(seen, WANTED) == []


def test_a_service_that_the_control_plane_has_not_seen_yet_is_behind():
    assert services_behind({"services": [], "sidecars": []}, WANTED) == ["shop/api", "shop/web"]
