"""Published ports in every form."""

import pytest

from meshpy.inject.published import read_port, shadowed


@pytest.mark.parametrize(
    ("entry", "targets", "published", "protocol"),
    [
        (80, [80], [""], "tcp"),
        ("80", [80], [""], "tcp"),
        ("8080:80", [80], ["8080"], "tcp"),
        ("127.0.0.1:8080:80", [80], ["8080"], "tcp"),
        ("127.0.0.1::80", [80], [""], "tcp"),
        ("[::1]:8080:80/udp", [80], ["8080"], "udp"),
        ("9000-9002:8000-8002", [8000, 8001, 8002], ["9000", "9001", "9002"], "tcp"),
        ("3000-3001", [3000, 3001], ["", ""], "tcp"),
        ("9000-9005:80", [80], ["9000-9005"], "tcp"),
        ("5000:5000/SCTP", [5000], ["5000"], "sctp"),
        ("${OUT}:80", [80], ["${OUT}"], "tcp"),
        ("${OUT:-90}:${IN:-80}", [80], ["${OUT:-90}"], "tcp"),
        ({"target": 80, "published": 8080, "protocol": "udp"}, [80], ["8080"], "udp"),
        ({"target": "${IN:-80}"}, [80], [""], "tcp"),
    ],
)
def test_a_port_is_read_as_docker_reads_it(
    entry: object, targets: list, published: list, protocol: str
) -> None:
    found = read_port(entry)
    assert [p.target for p in found] == targets
    assert [p.published for p in found] == published
    assert {p.protocol for p in found} == {protocol}


def test_a_variable_with_a_default_is_carried_on_as_it_stands() -> None:
    (port,) = read_port("${OUT:-90}:${IN:-80}")
    assert port.target_text == "${IN:-80}"
    assert port.in_host_mode() == {
        "target": "${IN:-80}",
        "published": "${OUT:-90}",
        "protocol": "tcp",
        "mode": "host",
    }


@pytest.mark.parametrize(
    "entry",
    ["${X}", "80:${X}", "http", "0", "70000", "1-3:5-6", "90-80", {"target": "x"}, {"published": 80}, ""],
)
def test_what_is_no_port_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match=r"port|lengths|target|default"):
        read_port(entry)


def test_host_ports_of_one_target_shadow_each_other() -> None:
    """Seen on engine 20.10: `5000:80` and `5002:80` in host mode open 5002 alone; in ingress mode both."""
    twice = [*read_port("5000:80"), *read_port("5002:80"), *read_port("5003:81")]
    [fact] = shadowed(twice, all_in_host_mode=True)
    assert "5000, 5002" in fact
    assert shadowed(twice, all_in_host_mode=False) == []
