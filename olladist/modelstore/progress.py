"""How far a model's way to a host is, in bytes; rates and times are made of it where it is shown."""

from collections.abc import Callable, Sequence

from olladist.ollama.digests import Digest
from olladist.ollama.manifest import Layer

OnProgress = Callable[[str, str, int, int], None]
"""Called with host, model, bytes that are done, and bytes in all, as far as they are known."""


def unwatched(host: str, model: str, done: int, total: int) -> None:
    """Nobody looks."""


class Meter:
    """Adds up the blobs of one model on their way to one host.

    A blob that is fetched to this machine first goes the way twice; each half counts half, so that the sum stays the
    model's size and its rate is the one that tells when it will be over.
    """

    def __init__(self, host: str, model: str, on_progress: OnProgress) -> None:
        self._host = host
        self._model = model
        self._total = 0
        self._done: dict[Digest, int] = {}
        self._fetched: set[Digest] = set()
        self._tell = on_progress

    def expect(self, lacking: Sequence[tuple[Layer, int]]) -> None:
        """Further blobs, each with the bytes that are staged; one that was expected before begins anew."""
        self._total += sum(blob.size for blob, _ in lacking if blob.digest not in self._done)
        self._done |= {blob.digest: staged for blob, staged in lacking}
        if lacking:
            self._report()

    def fetched(self, blob: Layer, got: int, staged: int) -> None:
        """`got` bytes are on this machine, `staged` on the host."""
        self._fetched.add(blob.digest)
        self._done[blob.digest] = (got + staged) // 2
        self._report()

    def arrived(self, blob: Layer, here: int) -> None:
        """`here` bytes are on the host."""
        self._done[blob.digest] = (blob.size + here) // 2 if blob.digest in self._fetched else here
        self._report()

    def _report(self) -> None:
        self._tell(self._host, self._model, sum(self._done.values()), self._total)
