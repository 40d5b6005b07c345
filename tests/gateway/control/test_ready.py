import pytest

from olladist.gateway.control.backends import Backend, local_backend
from olladist.gateway.control.modes import Serving
from olladist.gateway.control.ready import readiness
from olladist.gateway.control.roster import Roster
from olladist.inventory.model import Fallback, Host, Mode
from tests.gateway.control.nodes import Node, running
from tests.gateway.control.test_app import gateway

LOCAL = "http://127.0.0.1:11435"


def fleet(serving: Serving | None = None, *, nodes: int = 2) -> Roster:
    """Nodes that have not answered yet, and the local Ollama where it is one."""
    roster = Roster(lambda: 100.0, serving)
    made = [Backend(n, f"gpu{n}", Host(name=f"gpu{n}", address="x"), 11434, f"gpu{n}:1", 1) for n in range(nodes)]
    roster.swap([*made, *([local_backend(LOCAL, ())] if serving and serving.local else ())])
    return roster


def up(roster: Roster, node: str) -> None:
    (number,) = [number for number, backend in roster.backends.items() if backend.node == node]
    roster.probed(number, "", "0.17.4")


def test_one_host_that_answers_is_enough() -> None:
    """Ready as soon as somebody can be asked."""
    roster = fleet()
    assert readiness(roster).reason == "no host has answered yet"
    up(roster, "gpu1")

    assert readiness(roster).status == "ready"


def test_a_fleet_that_went_away_is_not_ready() -> None:
    """And says so in words without names of hosts."""
    roster = fleet()
    up(roster, "gpu0")
    for _ in range(3):
        roster.probed(0, "refused")

    assert readiness(roster).reason == "no host can be reached"
    assert readiness(fleet(nodes=0)).reason == "the inventory has no host for this gateway"


def test_a_fleet_that_is_drained_is_not_ready() -> None:
    """Nobody there would take a request."""
    roster = fleet()
    up(roster, "gpu0")
    roster.drain(["gpu0"])

    assert readiness(roster).reason == "every host that can be reached is drained"


@pytest.mark.parametrize(
    ("mode", "fallback", "who", "ready"),
    [
        (Mode.STANDALONE, (), "gpu0", False),
        (Mode.STANDALONE, (), "local", True),
        (Mode.LOCAL, (Fallback.LOCAL,), "gpu0", True),
        (Mode.LOCAL, (), "gpu0", False),
        (Mode.DISTRIBUTED, (Fallback.LOCAL,), "local", True),
        (Mode.DISTRIBUTED, (), "local", False),
    ],
)
def test_who_counts_is_whom_the_mode_would_use(
    mode: Mode, fallback: tuple[Fallback, ...], who: str, *, ready: bool
) -> None:
    """A host that would get no request does not make the gateway ready."""
    roster = fleet(Serving(mode, fallback, LOCAL))
    up(roster, who)

    assert (readiness(roster).status == "ready") is ready


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_readiness_is_a_status(method: str) -> None:
    """200 or 503 with Retry-After, for load balancers that read nothing else; /healthz is 200 all the time."""
    async with running(one := Node()), gateway(one) as g:
        response = await g.client.request(method, "/readyz")
        assert response.status_code == 200
        for _ in range(3):
            g.parts.roster.probed(0, "refused")
        response = await g.client.request(method, "/readyz")
        alive = await g.client.request(method, "/healthz")

    assert (response.status_code, int(response.headers["retry-after"]) > 0, alive.status_code) == (503, True, 200)
    assert method == "HEAD" or response.json() == {"status": "unavailable", "reason": "no host can be reached"}
