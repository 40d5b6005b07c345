"""The documents of `--json`: one per command, each with the name and version of its schema.

A field is never taken away and never changes its meaning within a version. docs/reference/json.md is made from here.
"""

from typing import Literal

import msgspec


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One host that failed: `kind` is the name of the error, `during` what was being done, `hint` the next step."""

    host: str
    kind: str
    cause: str
    during: str
    hint: str = ""
    command: str | None = None
    status: int | None = None
    stderr: str | None = None


class InventoryProblem(msgspec.Struct, frozen=True, kw_only=True):
    """`line` counts from 1; 0 where no line can be named."""

    line: int
    key: str
    text: str
    hint: str = ""


class ErrorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What any command prints when it ends before it has done anything; `exit_status` is the process's."""

    schema: Literal["olladist.error"] = "olladist.error"
    version: Literal[1] = 1
    error: str
    hint: str
    exit_status: int
    problems: tuple[InventoryProblem, ...] = ()


class InitDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist init`: the file that was written, and the hosts in it (none: this machine)."""

    schema: Literal["olladist.init"] = "olladist.init"
    version: Literal[1] = 1
    path: str
    hosts: tuple[str, ...]


class ExecHost(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is -N where signal N ended the command."""

    name: str
    status: int
    stdout: str
    stderr: str


class ExecDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist exec`."""

    schema: Literal["olladist.exec"] = "olladist.exec"
    version: Literal[1] = 1
    hosts: tuple[ExecHost, ...]
    failed: tuple[Failure, ...]


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """`commands` is what runs on the host, as it could be typed into a shell there."""

    text: str
    commands: tuple[str, ...] = ()


class PlanProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What must be put right before anything is done on the host, or with the model."""

    text: str
    hint: str = ""


class PlannedHost(msgspec.Struct, frozen=True, kw_only=True):
    """`service` is system, user or detached. With `problems` none of the steps is run."""

    name: str
    service: str
    steps: tuple[PlannedStep, ...]
    problems: tuple[PlanProblem, ...]
    notes: tuple[str, ...]


class ModelStep(msgspec.Struct, frozen=True, kw_only=True):
    """`action` is copy, create, follow (copy what is made on another host) or pull; `bytes` to move, as far as known."""

    action: str
    host: str
    model: str
    bytes: int
    text: str


class ChangeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist plan`, `up`, `down`, `restart` and `uninstall`.

    `done` is true where the steps were run; a host in `failed` did not get to their end.
    """

    schema: Literal["olladist.plan", "olladist.up", "olladist.down", "olladist.restart", "olladist.uninstall"]
    version: Literal[1] = 1
    done: bool
    hosts: tuple[PlannedHost, ...]
    models: tuple[ModelStep, ...]
    model_problems: tuple[PlanProblem, ...]
    failed: tuple[Failure, ...]


class SyncDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist models plan` and `models sync`. `done` is true where the steps were run."""

    schema: Literal["olladist.models.plan", "olladist.models.sync"]
    version: Literal[1] = 1
    done: bool
    steps: tuple[ModelStep, ...]
    problems: tuple[PlanProblem, ...]
    failed: tuple[Failure, ...]


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on a host. `digest` is that of its manifest, null where it is missing.

    `drift` is empty where all is as declared, else of: missing, undeclared, differs, incomplete.
    """

    model: str
    host: str
    digest: str | None
    size: int
    drift: tuple[str, ...]


class ModelsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist models ls`. `problems` are findings about the stores, by host."""

    schema: Literal["olladist.models"] = "olladist.models"
    version: Literal[1] = 1
    models: tuple[ListedModel, ...]
    problems: dict[str, tuple[str, ...]]
    failed: tuple[Failure, ...]


class LogDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist logs`: one document a line, as lines come."""

    schema: Literal["olladist.log"] = "olladist.log"
    version: Literal[1] = 1
    host: str
    line: str


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in memory, sizes in bytes; `size_vram` 0 means that it runs on the CPU."""

    name: str
    size: int
    size_vram: int
    expires_at: str


class HeldModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the store, as Ollama lists it."""

    name: str
    digest: str
    size: int


class StatusServer(msgspec.Struct, frozen=True, kw_only=True):
    """One Ollama of a host. `version` is empty where it gives no answer; `problem` says why."""

    port: int
    state: str
    version: str
    models: tuple[HeldModel, ...]
    loaded: tuple[LoadedModel, ...]
    problem: str


class StatusGpu(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in bytes."""

    name: str
    vram_used: int
    vram_total: int


class StatusHost(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is up, partly or down; `service` system, user, detached or empty; `drift` says what differs from the inventory."""

    name: str
    address: str
    state: str
    service: str
    version: str
    gpus: tuple[StatusGpu, ...]
    gpu_problem: str
    disk_free: int | None
    servers: tuple[StatusServer, ...]
    drift: tuple[str, ...]


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist status`. `missing` is what the inventory declares and no single host lacks: replicas."""

    schema: Literal["olladist.status"] = "olladist.status"
    version: Literal[1] = 1
    hosts: tuple[StatusHost, ...]
    missing: tuple[str, ...]
    failed: tuple[Failure, ...]


class ProxyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy`, once clients are served; `url` is where."""

    schema: Literal["olladist.proxy"] = "olladist.proxy"
    version: Literal[1] = 1
    url: str


class KeyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy key`; `key` is known to nobody else from then on, `sha256` is what the inventory holds."""

    schema: Literal["olladist.proxy.key"] = "olladist.proxy.key"
    version: Literal[1] = 1
    name: str
    key: str
    sha256: str


class GatewayProcess(msgspec.Struct, frozen=True, kw_only=True):
    """`pid` is 0 while it is being started again."""

    name: str
    pid: int


class GatewayNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the gateway sees it: `reason` says why it is not up, `models` how many it holds; a drained one gets no new work."""

    name: str
    role: str = "node"
    way: str
    state: str
    reason: str
    ollama: str
    slots: int
    in_flight: int
    models: int
    drained: bool = False


class ModelQueue(msgspec.Struct, frozen=True, kw_only=True):
    """What shares runners on hosts: contents by all their `names`, with the same `options`. `waiting` for a slot, the first for `oldest_wait` seconds.

    `running` on `slots`; a request that came now would wait `estimated_wait` seconds, null where that is not known.
    """

    names: tuple[str, ...]
    options: str
    waiting: int
    oldest_wait: float
    running: int
    slots: int
    estimated_wait: float | None


class GatewayQueue(msgspec.Struct, frozen=True, kw_only=True):
    """`waiting` in all, of at most `waiting_max`, the first for `oldest_wait` seconds; `models` that wait, run or are in memory."""

    waiting: int = 0
    waiting_max: int = 0
    oldest_wait: float = 0.0
    models: tuple[ModelQueue, ...] = ()


class RunningGateway(msgspec.Struct, frozen=True, kw_only=True):
    """`problem` says what could not be found out, and of whom."""

    url: str
    pid: int
    olladist: str
    uptime_seconds: float
    run_dir: str
    processes: tuple[GatewayProcess, ...]
    mode: str
    strategy: str
    transport: str
    in_flight: int
    queue: GatewayQueue = GatewayQueue()
    nodes: tuple[GatewayNode, ...]
    problem: str


class ProxyStatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy status`."""

    schema: Literal["olladist.proxy.status"] = "olladist.proxy.status"
    version: Literal[1] = 1
    gateways: tuple[RunningGateway, ...]


class ChangedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, a node or a key in words; "" where there was none, or is none."""

    name: str
    before: str
    after: str


class ProxyReloadDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy reload`: nodes that came, left and changed, and settings; `needs_restart` is what the inventory says and a restart alone can do."""

    schema: Literal["olladist.proxy.reload"] = "olladist.proxy.reload"
    version: Literal[1] = 1
    url: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedSetting, ...]
    settings: tuple[ChangedSetting, ...]
    needs_restart: tuple[ChangedSetting, ...]


class DrainedNode(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    in_flight: int


class ProxyDrainDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy drain` and `undrain`: all drained nodes, those that the command has `changed`, and the models that only drained nodes have."""

    schema: Literal["olladist.proxy.drain"] = "olladist.proxy.drain"
    version: Literal[1] = 1
    url: str
    nodes: tuple[DrainedNode, ...]
    changed: tuple[str, ...]
    unreachable_models: tuple[str, ...]


class ExplainedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node and what it is to the request: `verdict` in a word, `text` in words.

    `slots` for the model that are counted on, `running` of them taken, `declared_slots` what the inventory says. `makes_room` is the model
    that would have to go, goes, or is loaded. `wait` and `load` are seconds; `tokens_per_second` of an answer, a guess unless
    `learned`. `gain`, `harm` and `net` of a load there are seconds of waiting over all requests. Null where there is no such thing.
    """

    node: str
    state: str
    drained: bool
    verdict: str
    text: str
    has_model: bool
    in_memory: bool
    slots: int
    declared_slots: int
    running: int
    in_flight: int
    makes_room: str
    wait: float | None
    load: float | None
    tokens_per_second: float | None
    learned: bool
    gain: float | None
    harm: float | None
    net: float | None


class ProxyExplainDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy explain`: the request `goes` to a `node`, or `waits` in place `position`, with `before` requests before it in turn, or goes to a `fallback`, or is `refused`.

    `estimated_wait` are seconds until it begins, null where that is not known. `nodes` begin with where it goes; `left_out` is how many
    more there are.
    """

    schema: Literal["olladist.proxy.explain"] = "olladist.proxy.explain"
    version: Literal[1] = 1
    url: str
    model: str
    key: str
    options: str
    strategy: str
    mode: str
    goes: str
    node: str
    text: str
    position: int
    before: int
    estimated_wait: float | None
    nodes: tuple[ExplainedNode, ...]
    left_out: int


class ProxyStopDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist proxy stop`: `cut` answers were ended before their time."""

    schema: Literal["olladist.proxy.stop"] = "olladist.proxy.stop"
    version: Literal[1] = 1
    url: str
    pid: int
    cut: int


class DoctorFinding(msgspec.Struct, frozen=True, kw_only=True):
    """`subject` is a host or "gateway"; `verdict` is ok, failed or "not checked"; `fix` mends what failed."""

    area: str
    subject: str
    check: str
    verdict: str
    text: str
    fix: str


class DoctorDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist doctor`. `summary` is the integration check: true is PASSED."""

    schema: Literal["olladist.doctor"] = "olladist.doctor"
    version: Literal[1] = 1
    findings: tuple[DoctorFinding, ...]
    summary: dict[str, bool]


class SimulatedSpread(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds."""

    mean: float
    p50: float
    p95: float
    p99: float


class SimulatedStrategy(msgspec.Struct, frozen=True, kw_only=True):
    """`first`: to the first token. `to_bound`: its p95 over the bound's. `fairness`: Jain's index over the keys' waits. `decision_us`: CPU of a decision, 0 where it was not measured."""

    name: str
    first: SimulatedSpread
    total: SimulatedSpread
    to_bound: float
    loads: int
    slot_use: float
    fairness: float
    cut: int
    decision_us: float


class SimulateDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist simulate`. `bound`: to the first token, if every model were in every memory and all slots one pool."""

    schema: Literal["olladist.simulate"] = "olladist.simulate"
    version: Literal[1] = 1
    requests: int
    hosts: int
    models: int
    bound: SimulatedSpread
    strategies: tuple[SimulatedStrategy, ...]


class SuiteRule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that is best in `quantity`, which is mean, p95 or p99, and how many times as long ours is."""

    quantity: str
    rule: str
    seconds: float
    ratio: float


class SuiteShape(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the samples, to the first token. `worse_in`: in what a rule is better by more than 5 %. `to_bound`: our p95 over the bound's."""

    name: str
    samples: int
    ours: SimulatedSpread
    bound: SimulatedSpread
    to_bound: float
    best: tuple[SuiteRule, ...]
    worse_in: tuple[str, ...]
    loads: float
    decision_us: float


class SuiteDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`olladist simulate --suite`. `samples` of each shape, more where a rule seemed better; `to_bound` is the geometric mean over the shapes."""

    schema: Literal["olladist.simulate.suite"] = "olladist.simulate.suite"
    version: Literal[1] = 1
    samples: int
    to_bound: float
    shapes: tuple[SuiteShape, ...]
