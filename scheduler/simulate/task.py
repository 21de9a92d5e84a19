"""A task under way: the pieces one worker renders one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.simulate.books import Books, Piece
from scheduler.simulate.crew import Worker
from storage.contract.capability import Mode


@dataclass(slots=True, eq=False)
class Task:
    """Images are kept batch by batch, so a death costs the batch it falls into."""

    worker: Worker
    mode: Mode
    pieces: list[Piece]
    claimed_at: float
    factor: float = 1.0  #: noise: its own seconds over the usual
    at: int = 0  #: the piece that is rendered
    began: float | None = None  #: when that piece began; None before the first
    seconds: float = 0.0  #: that piece takes
    rendered: float = 0.0  #: seconds of rendering so far
    images: int = 0
    _lost_from: int = 0

    def __post_init__(self) -> None:
        """The items are under lease from now on."""
        for piece in self.pieces:
            piece.group.run(self.claimed_at, items=piece.items)

    @property
    def model(self) -> str:
        """The model all its pieces need."""
        return self.pieces[0].group.model

    def begin_piece(self, now: float, seconds: float) -> None:
        """Rendering of the next piece begins."""
        piece = self.pieces[self.at]
        self.began, self.seconds = now, seconds
        piece.group.run(now, rate=piece.items / seconds)

    def end_piece(self, books: Books, now: float) -> None:
        """All images of the piece are kept."""
        piece = self.pieces[self.at]
        piece.group.run(now, rate=-piece.items / self.seconds)
        books.done(piece, now, through=piece.stop)
        books.end(piece, undone_from=piece.stop)
        self.rendered += self.seconds
        self.images += piece.items
        self.at += 1

    def stop(self, books: Books, now: float) -> None:
        """The worker dies; whole batches are kept."""
        if self.at == len(self.pieces):
            return
        piece = self.pieces[self.at]
        self._lost_from = piece.first
        if self.began is None:
            return
        share = min(1.0, (now - self.began) / self.seconds)
        self.rendered += now - self.began
        kept = int(share * piece.batches) * piece.group.batch
        self._lost_from = min(piece.stop, max(piece.first, piece.first + kept))
        piece.group.run(now, rate=-piece.items / self.seconds)
        # What the running rate counted as done of the batch that is lost is undone again.
        piece.group.run(now, items=piece.items * share - (self._lost_from - piece.first))
        books.done(piece, now, through=self._lost_from)

    def give_back(self, books: Books, now: float) -> None:
        """Its death is known: what has no image goes back."""
        for piece in self.pieces[self.at :]:
            lost_from = self._lost_from if piece is self.pieces[self.at] else piece.first
            piece.group.run(now, items=-(piece.stop - lost_from))
            books.end(piece, undone_from=lost_from)
