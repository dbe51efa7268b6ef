"""What is said of connections that could not be made, without a server."""

from __future__ import annotations

import pytest

from channels.core.postgres import with_way_out

# Not with a real server: it may hang up on what is sent before these are read.
UNTRUSTED = [
    "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)",
    "SSL error: sslv3 alert bad certificate",
    "SSL error: ssl/tls alert certificate expired",
    "SSL error: tlsv13 alert certificate required",
]


@pytest.mark.parametrize("said", UNTRUSTED)
def test_way_out_for_a_certificate_that_was_turned_down(said: str) -> None:
    assert with_way_out(said).startswith(f"{said}; let sslcert and sslkey name")


@pytest.mark.parametrize(
    "said",
    [
        'password authentication failed for user "app"',
        'no pg_hba.conf entry for host "::1", user "app", database "app", SSL encryption',
        "SSL error: tlsv1 alert protocol version",
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
    ],
)
def test_no_way_out_where_none_is_known(said: str) -> None:
    assert with_way_out(said) == said
