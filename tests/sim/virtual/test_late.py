"""Late binding in virtual time, with answers that are long: what it promises to whoever waits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from olladist.scheduling.loads import AGE_LOADS, AGE_MAX
from olladist.sim.virtual.late import Late
from olladist.sim.virtual.scenario import GB, LOAD_RATE, Host, Job, Model, Scenario, load_seconds, seconds_of
from olladist.sim.virtual.world import TICK, simulate

COLD = 100.0


@settings(max_examples=12, deadline=None)
@given(
    hosts=st.integers(1, 3),
    slots=st.integers(1, 3),
    speed=st.floats(0.3, 1.0),
    output=st.integers(100, 600),
    size=st.floats(4 * GB, 20 * GB),
)
def test_a_hot_model_starves_a_cold_one_no_longer_than_its_age(
    hosts: int, slots: int, speed: float, output: int, size: float
) -> None:
    """One request for another model amid more than all slots can do: it waits for the bound on age, for what runs, and for its load.

    Or as long as those who came before it wait for the hot model: it does not pass them either.
    """
    hot, cold = Model("hot", 8 * GB), Model("cold", size)
    host = Host("gpu", speed, slots, 1, LOAD_RATE)
    answer = sum(seconds_of(host, hot, 100, output))
    every = answer / (1.5 * hosts * slots)
    jobs = [Job(number, number * every, "hot", 100, output) for number in range(int((COLD + 2 * AGE_MAX) / every))]
    jobs = sorted([*jobs, Job(0, COLD, "cold", 10, 10)], key=lambda job: job.at)
    numbered = tuple(job._replace(number=number) for number, job in enumerate(jobs))
    scenario = Scenario("starving", (host,) * hosts, (hot, cold), numbered)

    outcomes = simulate(scenario, lambda all_hosts: Late(all_hosts, scenario)).outcomes
    (waited,) = (outcome.first for outcome in outcomes if outcome.job.model == "cold")

    load = load_seconds(host, cold)
    before = max(outcome.first for outcome in outcomes if outcome.job.at < COLD)
    bound = max(min(AGE_MAX, AGE_LOADS * load), before) + answer + load + seconds_of(host, cold, 10, 10)[0]
    assert waited <= bound + 2 * TICK


def test_keys_that_want_more_than_there_is_wait_alike() -> None:
    """One asks ten times as often as the other; the other's requests do not wait behind all of those."""
    model = Model("m", 8 * GB)
    host = Host("gpu", 1.0, 1, 1, LOAD_RATE)
    many = [Job(0, 0.5 * number, "m", 100, 80, "many") for number in range(200)]
    few = [Job(0, 5.0 * number, "m", 100, 80, "few") for number in range(20)]
    jobs = tuple(
        job._replace(number=number) for number, job in enumerate(sorted(many + few, key=lambda job: (job.at, job.key)))
    )
    scenario = Scenario("unequal", (host,), (model,), jobs)

    outcomes = simulate(scenario, lambda hosts: Late(hosts, scenario)).outcomes
    answer = sum(seconds_of(host, model, 100, 80))

    assert max(o.first for o in outcomes if o.job.key == "few" and o.job.at > 0) <= 3 * answer + load_seconds(
        host, model
    )
