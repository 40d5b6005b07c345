"""What is made of requests to idle hosts."""

import pytest

from bench.calibration import Measured, Pair, Sample, described, loads_of, merged, noise, rates_of, sharing_of
from bench.real_fleet import MODELS

SIZES = {name: int(megabytes * 1e6) for name, megabytes in MODELS.items()}
DIGESTS = {name: f"sha256:{name}" for name in MODELS}


def samples(host: str, speed: float = 1.0, model: str = "m1", load: float = 2.0) -> list[Sample]:
    """One round: a token in takes 10 ms, one out 40 ms, and a load what it takes."""
    warm = [Sample(host, model, False, tokens, 50, tokens / 100 / speed, 2.0 / speed) for tokens in (14, 30, 65)]
    return [Sample(host, model, True, 30, 8, load + 0.3 / speed, 0.3 / speed), *warm]


def measured(degree: float = 1.0) -> Measured:
    """Two hosts, the second half as fast; a load takes half a second and one for each 20 or 10 MB."""
    found, pairs = [], []
    for host, speed in (("gpu0", 1.0), ("gpu1", 0.5)):
        for model, size in SIZES.items():
            found += samples(host, speed, model, 0.5 + size / 2e7 / speed)
        pairs.append(Pair(host, ("m1", "m2"), (2 * 2.3 / speed) * (degree + 1) / 2))
    return Measured(found, pairs, SIZES, DIGESTS)


def test_rates_are_tokens_over_the_seconds_of_all_warm_requests() -> None:
    """What is slow once counts, for it is slow at times in a trace too."""
    once = samples("gpu0")
    rates = rates_of([*once, once[1]._replace(first=0.14 + 1.09)], "gpu0", "m1")

    assert rates_of(once, "gpu0", "m1") == pytest.approx((100, 25))
    assert rates.prompt == pytest.approx((14 + 14 + 30 + 65) / (0.14 + 1.23 + 0.3 + 0.65))


def test_a_load_is_what_a_cold_request_waits_longer() -> None:
    """Than a warm one of the same length: the slower first prompt is in it."""
    assert loads_of(samples("gpu0", load=2.0) + samples("gpu0", load=2.2), "gpu0", "m1") == pytest.approx([2.0, 2.2])


def test_noise_is_how_far_measurements_of_the_same_thing_differ() -> None:
    """Loads that took 1, 1 and 1.3 s, rates that were all the same."""
    found = [sample for load in (1.0, 1.0, 1.3) for sample in samples("gpu0", load=load)]

    assert noise(found) == pytest.approx((0.3**2 / 12) ** 0.5)


@pytest.mark.parametrize("degree", [0.8, 1.0, 1.1])
def test_sharing_is_how_much_longer_two_at_once_take(degree: float) -> None:
    """1 where they take as long as one after the other."""
    assert sharing_of(measured(degree), "gpu1") == pytest.approx(degree)


def test_hosts_and_models_are_what_was_measured() -> None:
    """Speeds against the first host, and lines through the loads."""
    (first, second), models = described(measured())

    assert (first.speed, second.speed) == pytest.approx((1.0, 0.5))
    assert (first.load_rate, second.load_rate) == pytest.approx((2e7, 1e7))
    assert (first.load_start, second.load_start) == pytest.approx((0.5, 0.5))
    assert models["m3"] == pytest.approx(("sha256:m3", SIZES["m3"], 100.0, 25.0))


def test_rounds_count_as_one() -> None:
    """Hosts are not the same for an hour: what is slower later is a part of what they are."""
    slower = Measured(samples("gpu0", 0.5), [], SIZES, DIGESTS)
    both = merged([Measured(samples("gpu0", 1.0), [], SIZES, DIGESTS), slower])

    assert rates_of(both.samples, "gpu0", "m1") == pytest.approx((100 / 1.5, 25 / 1.5))
