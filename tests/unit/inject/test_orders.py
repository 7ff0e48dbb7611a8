"""`meshpy.*` labels, `x-mesh` of a service and of the file."""

import pytest

from tests.helpers.stacks import HEAD, injected, model, problems, services


@pytest.mark.parametrize(
    ("body", "line", "what", "instead"),
    [
        ("labels: {meshpy.prots: 80}", 5, "`meshpy.prots`", "`ports`"),
        ("x-mesh: {port: 80}", 5, "`port`", "`ports`"),
        ("x-mesh: [a]", 5, "mapping", ""),
        ("labels: {meshpy.enable: maybe}", 5, "neither", ""),
        ("labels: {meshpy.ports: 80/htp}", 5, "no protocol", ""),
        ("labels: {meshpy.ports: 99999/tcp}", 5, "no port", ""),
        ("labels: {meshpy.egress: api.x.com}", 5, "no external host", ""),
        ("labels: {meshpy.host: 'a b'}", 5, "no host name", ""),
    ],
)
def test_a_wrong_order_is_named(body: str, line: int, what: str, instead: str) -> None:
    (problem,) = problems(HEAD + f"  a:\n    image: redis\n    {body}\n")
    assert problem.place.line == line
    assert what in problem.what
    assert instead in problem.instead


@pytest.mark.parametrize(
    "body",
    [
        "x-mesh: {egress: ['api.x.com:443/tls']}",
        "labels: ['meshpy.egress=api.x.com:443/tls']",
        "deploy: {labels: {meshpy.egress: 'api.x.com:443'}}",
    ],
)
def test_all_three_places_mean_the_same(body: str) -> None:
    found = services(HEAD + f"  a:\n    image: redis\n    {body}\n")["a-sidecar"]
    assert found["deploy"]["labels"]["meshpy.egress"] == "api.x.com:443/tls"
    assert found["networks"]["a-pod"]["aliases"] == ["api.x.com"]
    assert "egress" in found["networks"]


def test_the_root_x_mesh_sets_what_the_command_leaves_open() -> None:
    text = "x-mesh: {image: my/proxy:1, encrypted: false, trust_domain: corp, mesh_network: m2}\n" + HEAD
    text += "  a: {image: redis}\n"
    value = model(injected(text).text)
    sidecar = value["services"]["a-sidecar"]
    assert sidecar["image"] == "my/proxy:1"
    assert sidecar["environment"]["MESHPY_TRUST_DOMAIN"] == "corp"
    assert "driver_opts" not in value["networks"]["a-pod"]
    assert value["networks"]["m2"] == {"external": True, "name": "m2"}
    assert services(text, image="other")["a-sidecar"]["image"] == "other"


@pytest.mark.parametrize("entry", ["encrpyted: true", "endpoint_mode: vpi", "encrypted: 'no'"])
def test_a_wrong_key_of_the_root_x_mesh_is_named(entry: str) -> None:
    (problem,) = problems(f"x-mesh: {{{entry}}}\n{HEAD}  a: {{image: redis}}\n")
    assert problem.place.line == 1


def test_dependencies_scope_the_names() -> None:
    text = (
        HEAD
        + "  a:\n    image: redis\n    x-mesh: {dependencies: [b]}\n"
        + "  b: {image: redis}\n  c: {image: redis}\n"
    )
    aliases = services(text)["a-sidecar"]["networks"]["a-pod"]["aliases"]
    assert aliases == ["b", "shop_b", "tasks.b", "tasks.shop_b"]


def test_a_published_port_can_be_told_to_read_proxy_headers() -> None:
    text = HEAD + "  a:\n    image: redis\n    ports: ['80:8080']\n    x-mesh: {ports: 8080/http, %s}\n"
    found = services(text % "proxy_protocol: 8080")["a-sidecar"]
    assert found["deploy"]["labels"]["meshpy.proxy_protocol"] == "8080"
    (problem,) = problems(text % "proxy_protocol: 9090")
    assert problem.place.line == 6
    assert "publishes no port 9090" in problem.what


def test_a_cache_is_a_volume_a_slot_where_it_is_wanted() -> None:
    """Of all sidecars by the root, of one by its service; a task of another slot has a volume of its own."""
    text = (
        "x-mesh: {cache: true}\n"
        + HEAD
        + "  a: {image: redis}\n  b: {image: redis, x-mesh: {cache: false}}\n"
    )
    value = model(injected(text).text)
    assert value["volumes"] == {"a-sidecar-cache": {"name": "shop_a-sidecar-cache-{{.Task.Slot}}"}}
    assert value["services"]["a-sidecar"]["volumes"] == ["a-sidecar-cache:/var/cache/meshpy"]
    assert value["services"]["a-sidecar"]["environment"]["MESHPY_CACHE"] == "/var/cache/meshpy"
    assert "volumes" not in value["services"]["b-sidecar"]
    assert "volumes" not in services(HEAD + "  a: {image: redis}\n")["a-sidecar"]
    (problem,) = problems(HEAD + "  a: {image: redis, x-mesh: {cache: often}}\n")
    assert "neither" in problem.what
    (problem,) = problems(f"x-mesh: {{cache: often}}\n{HEAD}  a: {{image: redis}}\n")
    assert problem.instead == "write true or false"


def test_the_root_gives_sidecars_variables_and_prometheus_the_label_to_find_them() -> None:
    more = "{MESHPY_METRICS: 'mesh:15020', OTEL_BSP_MAX_QUEUE_SIZE: 100}"
    sidecar = services(f"x-mesh: {{sidecar_environment: {more}}}\n{HEAD}  a: {{image: redis}}\n")["a-sidecar"]
    assert sidecar["environment"]["MESHPY_METRICS"] == "mesh:15020"
    assert sidecar["environment"]["OTEL_BSP_MAX_QUEUE_SIZE"] == "100"
    assert sidecar["deploy"]["labels"]["meshpy.metrics_port"] == "15020"
    assert (
        "meshpy.metrics_port" not in services(HEAD + "  a: {image: redis}\n")["a-sidecar"]["deploy"]["labels"]
    )


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("[a]", "mapping"),
        ("{MESHPY_SERVICE: other}", "cannot be set"),
        ("{LD_PRELOAD: /x.so}", "cannot be set"),
        ("{MESHPY_METRICS: [1]}", "no value"),
    ],
)
def test_who_a_sidecar_is_cannot_be_said_by_its_environment(value: str, what: str) -> None:
    (problem,) = problems(f"x-mesh: {{sidecar_environment: {value}}}\n{HEAD}  a: {{image: redis}}\n")
    assert problem.place.line == 1
    assert what in problem.what
