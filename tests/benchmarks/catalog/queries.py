"""The thirty queries, each with the SQL one would write by hand for the tables of images.

Words stand for how frequent they are: ``{common}`` is in one image of twenty, ``{mid}`` in one of
two hundred, ``{low}`` in one of two thousand, ``{rare}`` in one of thirty thousand.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Query(msgspec.Struct, frozen=True):
    """One query of the set."""

    name: str
    text: str
    sort: str
    plain: str  #: conditions on images; ``{like}`` is the engine's LIKE regardless of case
    trap: str = ""


def _query(name: str, text: str, sort: str, plain: str, trap: str = "") -> Query:
    return Query(name, text, sort, plain, trap)


_TAG: Final = (
    "EXISTS (SELECT 1 FROM image_tags t WHERE t.key = 'Category' AND t.value = 'Animals'"
    " AND t.job_id = i.job_id AND t.item = i.item)"
)

QUERIES: Final = (
    _query("newest", "*", "-created", "1 = 1"),
    _query("common word", "{common}", "-created", "{like:common}"),
    _query("common word, oldest first", "{common}", "created", "{like:common}"),
    _query("middling word", "{mid}", "-created", "{like:mid}"),
    _query("low word", "{low}", "-created", "{like:low}"),
    _query("rare word", "{rare}", "-created", "{like:rare}"),
    _query("two words", "{common} {mid}", "-created", "{like:common} AND {like:mid}"),
    _query("either word", "{low} OR {rare}", "-created", "({like:low} OR {like:rare})"),
    _query("phrase", '"{first} {common}"', "-created", "{like:phrase}"),
    _query("word but not another", "{mid} -{common}", "-created",
           "{like:mid} AND NOT {like:common}"),
    _query("not a word", "-{first}", "-created", "NOT {like:first}"),
    _query("common word by seed", "{common}", "seed", "{like:common}", "common word with sort"),
    _query("common word by bytes", "{common}", "-bytes", "{like:common}", "common word with sort"),
    _query("middling word by seed", "{mid}", "-seed", "{like:mid}", "common word with sort"),
    _query("middling word by seconds", "{mid}", "-seconds", "{like:mid}"),
    _query("low word by width", "{low}", "width", "{like:low}"),
    _query("word and number", "{common} width:>=1024", "-created",
           "{like:common} AND i.width >= 1024", "word with numeric filter"),
    _query("word and rare number", "{mid} width:1536", "-created",
           "{like:mid} AND i.width = 1536", "word with numeric filter"),
    _query("word, model, size and tag",
           "{mid} model:*sdxl* width:>=64 tag.Category:Animals", "-created",
           "{like:mid} AND lower(i.model) LIKE '%sdxl%' AND i.width >= 64 AND " + _TAG,
           "word with numeric filter"),
    _query("part of three letters", "*fox*", "-created", "{like:fox}", "substring of three"),
    _query("part of three rare letters", "*qui*", "-created", "{like:qui}", "substring of three"),
    _query("part of three letters by seed", "*fox*", "seed", "{like:fox}", "substring of three"),
    _query("beginning of words", "paint*", "-created", "{like:paint}"),
    _query("seed", "seed:42", "-created", "i.seed = 42"),
    _query("failures", "outcome:failed reason:nan", "-created",
           "i.outcome = 'failed' AND i.reason = 'nan'"),
    _query("tag", "tag.Category:Animals", "-created", _TAG, "tag"),
    _query("model by seconds", "model:starter", "-seconds", "i.model = 'starter'"),
    _query("slow images", "seconds:>7", "-created", "i.seconds > 7"),
    _query("word of a month", "{mid} created:[2024-01-01 TO 2024-01-31]", "-created",
           "{like:mid} AND i.created_at >= 1704067200 AND i.created_at < 1706745600"),
    _query("job and word", "job:job-7 {common}", "seed", "i.job_id = 7 AND {like:common}"),
)  # fmt: skip
