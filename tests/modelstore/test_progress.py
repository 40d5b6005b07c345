from olladist.modelstore.progress import Meter, unwatched
from olladist.ollama.manifest import Layer

BIG, SMALL = Layer("", "sha256:" + "a" * 64, 1000), Layer("", "sha256:" + "b" * 64, 10)


def test_bytes_that_are_there_count_and_blobs_add_up() -> None:
    """The sum goes from what was staged to the size of what was missing."""
    told: list[tuple[int, int]] = []
    meter = Meter("gpu1", "m", lambda host, model, done, total: told.append((done, total)))
    meter.expect([(BIG, 300), (SMALL, 0)])
    meter.arrived(BIG, 600)
    meter.arrived(BIG, 1000)
    meter.arrived(SMALL, 10)

    assert told == [(300, 1010), (600, 1010), (1000, 1010), (1010, 1010)]


def test_a_blob_that_passes_through_this_machine_counts_half_each_way() -> None:
    """The sum is right at the end, and its rate is that of the whole way."""
    told: list[int] = []
    meter = Meter("gpu1", "m", lambda host, model, done, total: told.append(done))
    meter.expect([(BIG, 0)])
    meter.fetched(BIG, 500, 0)
    meter.fetched(BIG, 1000, 0)
    meter.arrived(BIG, 500)
    meter.arrived(BIG, 1000)

    assert told == [0, 250, 500, 750, 1000]


def test_blobs_that_become_known_later_add_to_the_sum() -> None:
    """What follows a file that was sent first; a blob that vanished counts once."""
    told: list[tuple[int, int]] = []
    meter = Meter("gpu1", "m", lambda host, model, done, total: told.append((done, total)))
    meter.expect([(BIG, 0)])
    meter.arrived(BIG, 1000)
    meter.expect([(SMALL, 0)])
    meter.arrived(SMALL, 10)
    meter.expect([(SMALL, 0)])

    assert told == [(0, 1000), (1000, 1000), (1000, 1010), (1010, 1010), (1000, 1010)]


def test_nothing_missing_is_nothing_to_tell() -> None:
    """A model whose blobs are all there has no progress."""
    told: list[int] = []
    Meter("gpu1", "m", lambda host, model, done, total: told.append(done)).expect([])
    Meter("gpu1", "m", unwatched).expect([(BIG, 0)])

    assert told == []
