"""OpenTelemetry's variables: what they mean, and what is refused with the word to write instead."""

import pytest

from meshpy.otlp.settings import OtlpError, Protocol, Signal, read_destination, read_resource

PREFIX = "OTEL_EXPORTER_OTLP_"


def test_without_an_endpoint_nothing_is_sent():
    assert read_destination(Signal.TRACES, {}) is None
    assert read_destination(Signal.TRACES, {PREFIX + "PROTOCOL": "grpc"}) is None


@pytest.mark.parametrize(
    ("variables", "signal", "url"),
    [
        ({"ENDPOINT": "http://c:4318"}, Signal.TRACES, "http://c:4318/v1/traces"),
        ({"ENDPOINT": "http://c:4318/otlp/"}, Signal.METRICS, "http://c:4318/otlp/v1/metrics"),
        ({"TRACES_ENDPOINT": "https://c/mine"}, Signal.TRACES, "https://c/mine"),
        ({"ENDPOINT": "http://c", "PROTOCOL": "grpc"}, Signal.TRACES, "http://c:4317"),
        ({"ENDPOINT": "c:4317", "PROTOCOL": "grpc"}, Signal.TRACES, "https://c:4317"),
        ({"ENDPOINT": "c:1", "PROTOCOL": "grpc", "INSECURE": "true"}, Signal.TRACES, "http://c:1"),
        (
            {"ENDPOINT": "http://a:1", "TRACES_ENDPOINT": "http://b:2/x"},
            Signal.METRICS,
            "http://a:1/v1/metrics",
        ),
    ],
)
def test_the_url_is_as_the_specification_makes_it(variables, signal, url):
    found = read_destination(signal, {PREFIX + name: value for name, value in variables.items()})
    assert found.url == url


def test_a_variable_of_one_signal_wins_and_headers_are_decoded(tmp_path):
    secret = tmp_path / "headers"
    secret.write_text("Authorization=Bearer a=b\n\n")
    found = read_destination(
        Signal.TRACES,
        {
            PREFIX + "ENDPOINT": "http://c:4317",
            PREFIX + "PROTOCOL": "http/protobuf",
            PREFIX + "TRACES_PROTOCOL": "grpc",
            PREFIX + "HEADERS": "x-tenant=one%20two, y=2",
            PREFIX + "TIMEOUT": "2500",
            "MESHPY_OTLP_HEADERS_FILE": str(secret),
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        },
    )
    assert found.protocol is Protocol.GRPC
    assert found.headers == (("x-tenant", "one two"), ("y", "2"), ("authorization", "Bearer a=b"))
    assert (found.timeout_s, found.queue, found.batch) == (2.5, 100, 100)


@pytest.mark.parametrize("variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_it_can_be_turned_off(variables):
    assert read_destination(Signal.TRACES, {PREFIX + "ENDPOINT": "http://c:4318", **variables}) is None


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        (PREFIX + "PROTOCOL", "http/json", "http/protobuf or grpc"),
        (PREFIX + "COMPRESSION", "zstd", "gzip or none"),
        (PREFIX + "TIMEOUT", "10s", "whole number"),
        (PREFIX + "HEADERS", "novalue", "name=value"),
        (PREFIX + "HEADERS", "a=b%0d%0ac", "does not print"),
        (PREFIX + "CLIENT_KEY", "/k.pem", "belong together"),
        (PREFIX + "ENDPOINT", "collector:4318", "write http://"),
        (PREFIX + "ENDPOINT", "http://u:p@c:4318", "write http://"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "whole number"),
        ("MESHPY_OTLP_HEADERS_FILE", "/nowhere/at/all", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(name, value, word):
    with pytest.raises(OtlpError, match=word):
        read_destination(Signal.TRACES, {PREFIX + "ENDPOINT": "http://c:4318", name: value})


def test_resource_attributes_are_read():
    assert read_resource({"OTEL_RESOURCE_ATTRIBUTES": "a=1,b=two%2Cthree"}) == {"a": "1", "b": "two,three"}
    with pytest.raises(OtlpError):
        read_resource({"OTEL_RESOURCE_ATTRIBUTES": "alone"})
