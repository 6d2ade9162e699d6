"""Whatever fails inside the server becomes an error with a code."""

import logging

import pytest

from engine.errors import CollectionDamagedError, CollectionLockedError, EngineError, QueryError
from server.errors import CollectionLocked, CollectionRefused, Overloaded, QueryRefused, ServerError, translated


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (Overloaded("full"), Overloaded, "full"),
        (CollectionLockedError("c", "locked by 7"), CollectionLocked, "locked by 7"),
        (CollectionDamagedError("c", "truncated"), CollectionRefused, "truncated"),
        (QueryError("no snippets"), QueryRefused, "no snippets"),
        (EngineError("no"), ServerError, "no"),
    ],
)
def test_expected_errors_keep_their_meaning_and_are_not_logged(
    raised: Exception, expected: type[ServerError], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServerError) as caught, translated("a test"):
        raise raised
    assert (type(caught.value), str(caught.value)) == (expected, message)
    assert not caplog.records


def test_an_unexpected_error_is_logged_and_the_client_gets_no_details(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(ServerError) as caught, translated("query of 1.2.3.4"):
        raise KeyError("secret")
    assert (caught.value.code, str(caught.value)) == (
        "internal",
        "unexpected KeyError; the server's log has the details",
    )
    (record,) = caplog.records
    assert record.getMessage() == "unexpected error at query of 1.2.3.4"
    assert record.exc_info is not None
