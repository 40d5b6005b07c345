"""A running gateway for people."""

from olladist.output.documents import ExplainedNode, GatewayQueue, ModelQueue, ProxyExplainDocument, RunningGateway
from olladist.output.gateway import explain_block, gateway_block
from tests.output.golden import drawn


def running(queue: GatewayQueue) -> RunningGateway:
    return RunningGateway(
        url="http://127.0.0.1:11434",
        pid=1,
        olladist="0.1.0",
        uptime_seconds=60.0,
        run_dir="/run/x",
        processes=(),
        mode="distributed",
        strategy="adaptive",
        transport="direct",
        in_flight=0,
        queue=queue,
        nodes=(),
        problem="",
    )


def model(name: str, waiting: int, running: int, wait: float | None, options: str = "") -> ModelQueue:
    return ModelQueue(
        names=(name, "alias"),
        options=options,
        waiting=waiting,
        oldest_wait=12.34,
        running=running,
        slots=4,
        estimated_wait=wait,
    )


def node(name: str, text: str, **more: object) -> ExplainedNode:
    facts: dict[str, object] = {
        "state": "up",
        "drained": False,
        "verdict": "takes",
        "has_model": True,
        "in_memory": True,
        "slots": 2,
        "declared_slots": 2,
        "running": 1,
        "in_flight": 1,
        "makes_room": "",
        "wait": 0.0,
        "load": 0.0,
        "tokens_per_second": 41.7,
        "learned": True,
        "gain": None,
        "harm": None,
        "net": None,
    }
    return ExplainedNode(node=name, text=text, **{**facts, **more})  # type: ignore[arg-type]  # any field


def test_who_waits_stands_below_the_nodes() -> None:
    """A line for each model that waits or runs; what is only in memory is left out."""
    models = (
        model("tiny:latest", 3, 4, 7.5),
        model("tiny:latest", 0, 1, 0.0, "num_ctx=9"),
        model("big:latest", 1, 0, None),
        model("idle:latest", 0, 0, 0.0),
    )
    text = drawn(gateway_block(running(GatewayQueue(waiting=4, waiting_max=10000, oldest_wait=12.34, models=models))))

    assert [" ".join(line.split()) for line in text.splitlines()[2:]] == [
        "waiting: 4 of at most 10000, the first for 12.3 s",
        "MODEL WAITING OLDEST RUNNING SLOTS ONE MORE WAITS",
        "tiny:latest 3 12.3 s 4 4 7.5 s",
        "tiny:latest (num_ctx=9) 0 - 1 4 not",
        "big:latest 1 12.3 s 0 4 -",
    ]


def test_nothing_is_said_of_a_queue_that_is_empty() -> None:
    """Nor of one that an older gateway does not speak of."""
    assert len(drawn(gateway_block(running(GatewayQueue(models=(model("a", 0, 0, 0.0),))))).splitlines()) == 2
    assert len(drawn(gateway_block(running(GatewayQueue()))).splitlines()) == 2


def test_every_node_has_its_reason() -> None:
    """And its figures; speeds that are only guessed have a ~."""
    document = ProxyExplainDocument(
        url="http://x",
        model="tiny",
        key="ci",
        options="num_ctx=9",
        strategy="adaptive",
        mode="distributed",
        goes="node",
        node="gpu1",
        text="it would go to gpu1 now",
        position=0,
        before=0,
        estimated_wait=0.0,
        nodes=(
            node("gpu1", "would go here now"),
            node("gpu2", "not chosen", in_memory=False, learned=False, load=5.25, gain=12.0, harm=3.0, running=0),
            node("gpu3", "gone", has_model=False, in_memory=False, drained=True, tokens_per_second=None, wait=None),
        ),
        left_out=7,
    )

    assert [" ".join(line.split()) for line in drawn(explain_block(document)).splitlines()] == [
        "tiny with num_ctx=9, by the key ci: it would go to gpu1 now (adaptive, distributed)",
        "NODE STATE MODEL SLOTS WAIT LOAD TOKENS/S GAIN HARM WHY",
        "gpu1 up in memory 1/2 0.0 s 0.0 s 42 - - would go here now",
        "gpu2 up on disk 0/2 0.0 s 5.2 s ~42 12.0 s 3.0 s not chosen",
        "gpu3 drained - 1/2 - 0.0 s - - - gone",
        "and 7 more",
    ]
