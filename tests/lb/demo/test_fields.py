"""Reading JSON and durations as Consul's API does."""

from __future__ import annotations

import pytest

from lb.demo.fields import Fields, parse_duration
from lb.demo.records import ApiError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("5us", 5e-6),
        ("-2m", -120.0),
        ("+2m", 120.0),
        ("0", 0.0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1s ", "1 s", "1s2", "--1s", "1.2.3s", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


def test_null_is_as_good_as_absent() -> None:
    fields = Fields.parse(b'{"Name": null, "Tags": null}', "the service", ["Name", "Tags"])
    assert (fields.text("Name"), fields.texts("Tags"), "Name" in fields) == ("", (), False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the service is not JSON"),
        (b"[" * 100_000, "the service is not JSON"),
        (b"\xff", "the service is not JSON"),
        (b"null", "the service must be an object, not null"),
        (b'{"Nmae": 1}', 'unknown field "Nmae" in the service'),
        (b'{"Name": 1.5}', "Name must be a string, not a number"),
        (b'{"Name": {}}', "Name must be a string, not an object"),
    ],
)
def test_error_names_the_key_and_the_reason(body: bytes, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        Fields.parse(body, "the service", ["Name"]).text("Name")
    assert caught.value.status == 400
