"""Just enough of ClickHouse's lexer to tell where a statement ends and its data begin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Tokens are matched on bytes because rows of any format may follow the statement. Possessive quantifiers keep an
# unterminated quote linear; it then falls through to `other` and the engine reports it.
_TOKEN = re.compile(
    rb"""
    (?P<space>  \s++ | --[^\n]*+ | \#[!\ ][^\n]*+ | /\*.*?\*/ )
  | (?P<string> '(?:[^'\\]++|\\.|'')*+' )
  | (?P<quoted> "(?:[^"\\]++|\\.|"")*+" | `(?:[^`\\]++|\\.|``)*+` )
  | (?P<heredoc>\$(?P<tag>\w*+)\$.*?\$(?P=tag)\$ )
  | (?P<word>   [A-Za-z_\x80-\xff][\w$\x80-\xff]*+ )
  | (?P<number> [0-9][\w.]*+ )
  | (?P<other>  . )
    """,
    re.DOTALL | re.VERBOSE,
)
_STEP = {b"(": 1, b"[": 1, b"{": 1, b")": -1, b"]": -1, b"}": -1}


@dataclass(frozen=True, slots=True)
class Token:
    """One significant token.

    Attributes:
        kind: `string`, `quoted`, `heredoc`, `word`, `number` or `other`.
        word: upper case text if an unquoted word, the text of an `other`, else empty.
        start: offset of its first byte.
        end: offset after its last byte.
        depth: brackets open around it (an opening bracket counts itself as outside).
    """

    kind: str
    word: str
    start: int
    end: int
    depth: int


def tokens(sql: bytes) -> Iterator[Token]:
    """Yield the significant tokens of `sql` lazily, so that a caller may stop where data begin."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "other"
        if kind == "tag":
            kind = "heredoc"
        if kind == "space":
            continue
        step = _STEP.get(match[0], 0) if kind == "other" else 0
        if step < 0:
            depth += step
        word = match[0].decode("utf-8", "replace").upper() if kind in {"word", "other"} else ""
        yield Token(kind, word, match.start(), match.end(), depth)
        if step > 0:
            depth += step


def unquoted(sql: bytes, token: Token) -> str:
    """Text of an identifier token without its quotes."""
    text = sql[token.start : token.end].decode("utf-8", "replace")
    return text[1:-1] if token.kind == "quoted" else text
