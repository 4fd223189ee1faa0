import pytest

from sidetone.store.errors import StoreError

OWN = (": (in file/uri /dev/fd/28)", ": While executing File: data for INSERT was parsed from file")


@pytest.mark.parametrize(
    ("text", "code", "name", "message", "status"),
    [
        (
            "Code: 60. DB::Exception: Unknown table expression identifier 'nope'. (UNKNOWN_TABLE)",
            *(60, "UNKNOWN_TABLE", "Unknown table expression identifier 'nope'.", 404),
        ),
        (
            "Code: 73. DB::Exception: Code: 73. DB::Exception: No X. (UNKNOWN_FORMAT) (version 26.9). (UNKNOWN_FORMAT)",
            *(73, "UNKNOWN_FORMAT", "No X.", 404),
        ),
        (
            f"Code: 27. DB::Exception: Bad (A): \n{OWN[0]}: While executing X{OWN[1]}. (CANNOT_PARSE_TEXT)",
            *(27, "CANNOT_PARSE_TEXT", "Bad (A): \n: While executing X.", 400),
        ),
        ("something else entirely", 1002, "UNKNOWN_EXCEPTION", "something else entirely", 500),
    ],
)
def test_engine_messages_are_unwrapped(text: str, code: int, name: str, message: str, status: int) -> None:
    error = StoreError.from_engine(text)
    assert (error.code, error.name, error.message, error.status) == (code, name, message, status)


def test_the_body_is_worded_as_clickhouses() -> None:
    assert StoreError(516, "no.").body("26.9") == (
        b"Code: 516. DB::Exception: no. (AUTHENTICATION_FAILED) (version 26.9 (chDB))\n"
    )
    assert StoreError(516, "no.").status == 403
