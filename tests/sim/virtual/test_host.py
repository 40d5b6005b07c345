"""A simulated host in virtual time."""

from olladist.sim.virtual.host import Loading, Running, VirtualHost
from olladist.sim.virtual.scenario import Host, Job, Model, load_seconds, seconds_of

HOST = Host("gpu1", 1.0, 1, 1, 2e9)
MODELS = {name: Model(name, 8e9) for name in "ab"}


def job(number: int, model: str = "a", **more: int) -> Job:
    return Job(number, 0.0, model, 1000, 100, **more)  # type: ignore[arg-type]  # any field


def virtual() -> VirtualHost:
    return VirtualHost(0, HOST, MODELS)


def test_a_cold_request_loads_first_and_then_runs() -> None:
    """As long as the model's size over the host's rate; then prompt and answer."""
    host = virtual()

    assert host.submit(job(1), 0.0) == [Loading("a", load_seconds(HOST, MODELS["a"]))]
    (running,) = host.loaded_now("a", 4.0)
    assert running == Running(1, *seconds_of(HOST, MODELS["a"], 1000, 100))
    assert host.loaded == ["a"]


def test_a_second_request_waits_for_the_slot() -> None:
    """There is one."""
    host = virtual()
    host.submit(job(1), 0.0)
    host.loaded_now("a", 4.0)
    assert host.submit(job(2), 5.0) == []

    (running,) = host.finish(1, 9.0)
    assert isinstance(running, Running)
    assert running.number == 2


def test_another_model_waits_for_the_first_to_be_idle() -> None:
    """And then it is loaded in its place: Ollama's own rule."""
    host = virtual()
    host.submit(job(1), 0.0)
    host.loaded_now("a", 4.0)
    assert host.submit(job(2, "b"), 5.0) == []

    (loading,) = host.finish(1, 9.0)
    assert isinstance(loading, Loading)
    assert (loading.model, host.loads) == ("b", 2)


def test_a_conversation_finds_its_prompt_in_the_slot() -> None:
    """Only what is new is read; after somebody else was in the slot, all of it."""
    host = virtual()
    host.submit(job(1, conversation=7), 0.0)
    host.loaded_now("a", 4.0)
    host.finish(1, 9.0)
    (second,) = host.submit(job(2, conversation=7, prefix=900), 10.0)
    host.finish(2, 11.0)
    host.submit(job(3, conversation=8), 12.0)
    host.finish(3, 13.0)
    (fourth,) = host.submit(job(4, conversation=7, prefix=900), 14.0)

    assert isinstance(second, Running)
    assert isinstance(fourth, Running)
    assert second.prompt == seconds_of(HOST, MODELS["a"], 100, 100)[0]
    assert fourth.prompt == seconds_of(HOST, MODELS["a"], 1000, 100)[0]


def test_a_host_without_power_forgets_everything() -> None:
    """What was there is given back, and the next request loads anew."""
    host = virtual()
    host.submit(job(1), 0.0)
    host.loaded_now("a", 4.0)

    assert host.fail() == [job(1)]
    assert (host.total, host.loaded) == (0, [])
    assert isinstance(host.submit(job(2), 20.0)[0], Loading)
