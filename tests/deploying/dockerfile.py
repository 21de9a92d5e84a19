"""Reads Dockerfiles, as far as ours go: stages, instructions, continued lines, comments."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One instruction: its word in capitals, and the rest of it."""

    word: str
    rest: str

    def exec_form(self) -> list[str]:
        """The words of ["a", "b"]; ValueError for the shell form, whose shell eats signals."""
        words: list[str] = json.loads(self.rest)
        return words

    def without_flags(self) -> str:
        """The rest after --mount=... and the like."""
        return re.sub(r"^(--\S+\s+)+", "", self.rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str | None
    steps: list[Step] = field(default_factory=list)

    def last(self, word: str) -> Step:
        """The one that holds: a later instruction replaces an earlier one."""
        return next(step for step in reversed(self.steps) if step.word == word)

    def all(self, word: str) -> list[Step]:
        """Every instruction of that word, in order."""
        return [step for step in self.steps if step.word == word]


def read_dockerfile(path: Path) -> list[Stage]:
    """Its stages, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, *name = rest.split(" AS ")
            stages.append(Stage(base=base, name=name[0] if name else None))
        else:
            stages[-1].steps.append(Step(word=word, rest=rest))
    return stages


def copied(step: Step) -> tuple[list[str], str]:
    """The sources and the target of a COPY from the build context."""
    *sources, target = step.rest.split()
    return sources, target
