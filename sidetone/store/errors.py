"""Errors as ClickHouse's HTTP interface words them: code, name, status and body."""

from __future__ import annotations

import re
from http import HTTPStatus

_NAMES = {
    36: "BAD_ARGUMENTS",
    48: "NOT_IMPLEMENTED",
    62: "SYNTAX_ERROR",
    78: "UNKNOWN_TYPE_OF_QUERY",
    81: "UNKNOWN_DATABASE",
    115: "UNKNOWN_SETTING",
    164: "READONLY",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    307: "TOO_MANY_BYTES",
    354: "ZLIB_INFLATE_FAILED",
    372: "SESSION_NOT_FOUND",
    373: "SESSION_IS_LOCKED",
    374: "INVALID_SESSION_TIMEOUT",
    415: "UNSUPPORTED_MEDIA_TYPE",
    511: "UNKNOWN_ROLE",
    516: "AUTHENTICATION_FAILED",
    1002: "UNKNOWN_EXCEPTION",
}

# ClickHouse's own table from error code to HTTP status (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp), by error name
# because names are stable where a reader meets them; every other error is 500.
_STATUS_BY_NAME = {
    **dict.fromkeys(("REQUIRED_PASSWORD",), HTTPStatus.UNAUTHORIZED),
    **dict.fromkeys(
        ("UNKNOWN_USER", "WRONG_PASSWORD", "AUTHENTICATION_FAILED", "SET_NON_GRANTED_ROLE", "ACCESS_DENIED"),
        HTTPStatus.FORBIDDEN,
    ),
    **dict.fromkeys(
        (
            "BAD_ARGUMENTS",
            "CANNOT_COMPILE_REGEXP",
            "CANNOT_PARSE_TEXT",
            "CANNOT_PARSE_ESCAPE_SEQUENCE",
            "CANNOT_PARSE_QUOTED_STRING",
            "CANNOT_PARSE_DATE",
            "CANNOT_PARSE_DATETIME",
            "CANNOT_PARSE_NUMBER",
            "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
            "CANNOT_PARSE_IPV4",
            "CANNOT_PARSE_IPV6",
            "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
            "CANNOT_PARSE_UUID",
            "DUPLICATE_COLUMN",
            "ILLEGAL_COLUMN",
            "UNKNOWN_ELEMENT_IN_AST",
            "UNKNOWN_TYPE_OF_AST_NODE",
            "THERE_IS_NO_COLUMN",
            "TOO_DEEP_AST",
            "TOO_BIG_AST",
            "UNEXPECTED_AST_STRUCTURE",
            "SYNTAX_ERROR",
            "INCORRECT_DATA",
            "TYPE_MISMATCH",
            "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
        ),
        HTTPStatus.BAD_REQUEST,
    ),
    **dict.fromkeys(
        (
            "UNKNOWN_TABLE",
            "UNKNOWN_FUNCTION",
            "UNKNOWN_IDENTIFIER",
            "UNKNOWN_TYPE",
            "UNKNOWN_STORAGE",
            "UNKNOWN_DATABASE",
            "UNKNOWN_SETTING",
            "UNKNOWN_DIRECTION_OF_SORTING",
            "UNKNOWN_AGGREGATE_FUNCTION",
            "UNKNOWN_FORMAT",
            "UNKNOWN_DATABASE_ENGINE",
            "UNKNOWN_TYPE_OF_QUERY",
            "UNKNOWN_ROLE",
        ),
        HTTPStatus.NOT_FOUND,
    ),
    "QUERY_IS_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "NOT_IMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "SOCKET_TIMEOUT": HTTPStatus.SERVICE_UNAVAILABLE,
    "CANNOT_OPEN_FILE": HTTPStatus.SERVICE_UNAVAILABLE,
    "CANNOT_SCHEDULE_TASK": HTTPStatus.SERVICE_UNAVAILABLE,
    "HTTP_LENGTH_REQUIRED": HTTPStatus.LENGTH_REQUIRED,
    "TIMEOUT_EXCEEDED": HTTPStatus.REQUEST_TIMEOUT,
    "UNSUPPORTED_MEDIA_TYPE": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}

_CODE = re.compile(r"^(?:[^:]*?: )?Code: (\d+)\. DB::Exception: ")
_NAME = re.compile(r"\s*\(([A-Z][A-Z0-9_]+)\)\s*$")
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)\.?\s*$")
# How the engine was handed the rows is this server's affair, not the reader's.
_OWN_FILES = re.compile(r": \(in file/uri /dev/fd/\d+\)|: While executing File: data for INSERT was parsed from file")


class StoreError(Exception):
    """A failed request, as ClickHouse would report it.

    Attributes:
        code: ClickHouse's error code.
        name: its symbolic name, such as `UNKNOWN_TABLE`.
        message: the text between them.
    """

    def __init__(self, code: int, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.name = name or _NAMES.get(code, "UNKNOWN_EXCEPTION")
        self.message = message

    @property
    def status(self) -> int:
        """HTTP status by ClickHouse's own table."""
        return int(_STATUS_BY_NAME.get(self.name, HTTPStatus.INTERNAL_SERVER_ERROR))

    def body(self, version: str) -> bytes:
        """The response body, ending in a newline as ClickHouse's does."""
        text = f"Code: {self.code}. DB::Exception: {self.message} ({self.name}) (version {version} (chDB))\n"
        return text.encode()

    @classmethod
    def from_engine(cls, text: str) -> StoreError:
        """Read an engine message, unwrapping the copies of code and name that its layers add around one another."""
        code, name = 1002, None
        while found := _CODE.match(text):
            code, text = int(found[1]), text[found.end() :]
        while True:
            if found := _NAME.search(text):
                # The outermost name belongs to the outermost code; they are copies of one another.
                name, text = name or found[1], text[: found.start()]
            elif found := _VERSION.search(text):
                text = text[: found.start()]
            else:
                break
        return cls(code, _OWN_FILES.sub("", text), name)


class StoreStartError(Exception):
    """The store cannot start; the message says what is wrong, where, and what to do."""
