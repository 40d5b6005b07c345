import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from olladist.errors import InventoryError, UsageError
from olladist.inventory.model import (
    ApiKey,
    Connection,
    Gateway,
    Host,
    HostKeys,
    Instance,
    Inventory,
    Service,
    Strategy,
    Transport,
)
from olladist.inventory.parse import load, parse
from olladist.inventory.tables import TABLES

HERE = Path(__file__).parent
FILE = Path("/fleet/inventory.toml")


def hosts(text: str) -> dict[str, Host]:
    return dict(parse(text, FILE).hosts)


def problems(text: str) -> list[str]:
    """What the error says, line by line, without the file's name."""
    with pytest.raises(InventoryError) as caught:
        parse(text, FILE)
    assert caught.value.exit_code == 2
    return [line.removeprefix(f"{FILE}:") for line in caught.value.message.splitlines()]


def test_every_problem_is_told_at_once() -> None:
    """Line, key, what is wrong, and what was meant; wrong.txt is what the operator reads."""
    with pytest.raises(InventoryError) as caught:
        parse((HERE / "wrong.toml").read_text(), Path("wrong.toml"))

    assert caught.value.message.splitlines() == (HERE / "wrong.txt").read_text().splitlines()


def test_a_host_needs_nothing_but_its_name() -> None:
    """Everything else is left to ~/.ssh/config and to Ollama's defaults."""
    inventory = parse("[hosts.gpu1]\n", FILE)

    assert inventory == Inventory(
        path=FILE, name="fleet", hosts={"gpu1": Host(name="gpu1", address="gpu1")}, groups={}, gateway=Gateway()
    )


def test_hosts_override_groups_override_defaults() -> None:
    """A later group of the host's list overrides an earlier one, wherever they stand in the file."""
    text = """
        [defaults]
        user = "d"
        port = 1
        service = "system"
        host_keys = "strict"
        ollama = "0.1.0"
        [groups.b]
        user = "b"
        port = 2
        service = "user"
        [groups.a]
        user = "a"
        port = 3
        [hosts.x]
        groups = ["a", "b"]
        port = 4
    """
    host = hosts(text)["x"]

    assert (host.user, host.port, host.service, host.host_keys) == ("b", 4, Service.USER, HostKeys.STRICT)
    assert (host.ollama, host.groups) == ("0.1.0", ("a", "b"))


def test_env_is_merged_key_by_key() -> None:
    """Defaults, groups, host, instance; values become what Go reads back."""
    text = """
        [defaults.env]
        OLLAMA_NUM_PARALLEL = 4
        OLLAMA_KEEP_ALIVE = "30m"
        OLLAMA_NOPRUNE = true
        OLLAMA_SCHED_SPREAD = false
        FACTOR = 1.5
        [groups.a.env]
        OLLAMA_KEEP_ALIVE = -1
        [hosts.x]
        groups = "a"
        env = { OLLAMA_MAX_QUEUE = 5 }
        instances = [{ env = { OLLAMA_NUM_PARALLEL = 1 } }, { port = 2 }]
    """
    host = hosts(text)["x"]
    shared = {
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_SCHED_SPREAD": "0",
        "FACTOR": "1.5",
        "OLLAMA_MAX_QUEUE": "5",
    }

    assert host.env == shared
    assert host.instances == (
        Instance(11434, None, {**shared, "OLLAMA_NUM_PARALLEL": "1"}),
        Instance(2, None, shared),
    )


def test_instances_have_ports_and_gpus() -> None:
    """No `gpus` means all of them, an empty list none; a group may hold the instances."""
    text = """
        [groups.two]
        instances = [{ gpus = [0, 1] }, { port = 11435, gpus = [] }]
        [hosts.x]
        groups = "two"
        [hosts.y]
        groups = "two"
        instances = [{ port = 1 }]
    """
    found = hosts(text)

    assert [(i.port, i.gpus) for i in found["x"].instances] == [(11434, (0, 1)), (11435, ())]
    assert [(i.port, i.gpus) for i in found["y"].instances] == [(1, None)]


@pytest.mark.parametrize(
    ("written", "hops"),
    [
        ('"bastion.example"', ("bastion.example",)),
        ('"a, ops@b:2222"', ("a", "ops@b:2222")),
        ('["[2001:db8::1]:22", "b"]', ("[2001:db8::1]:22", "b")),
        ("[]", ()),
    ],
)
def test_jump_is_one_hop_or_many(written: str, hops: tuple[str, ...]) -> None:
    """A list, or a string as ssh -J takes it; an empty list takes back what the defaults say."""
    assert hosts(f'[defaults]\njump = "x"\n[hosts.h]\njump = {written}')["h"].jump == hops


@pytest.mark.parametrize(
    ("written", "release"),
    [
        ("0.17.4", "0.17.4"),
        ("v0.17.4-rc1", "0.17.4-rc1"),
        ("latest", "latest"),
        ("https://x.example/o.tar.zst", "https://x.example/o.tar.zst"),
        ("releases/o.tgz", "/fleet/releases/o.tgz"),
        ("../o.tar.gz", "/o.tar.gz"),
        ("~/o.tar.zst", str(Path("~/o.tar.zst").expanduser())),
    ],
)
def test_a_release_is_a_version_a_url_or_a_path(written: str, release: str) -> None:
    """Paths are relative to the file; a host may have another release than the fleet."""
    assert hosts(f'[fleet]\nollama = "{written}"\n[hosts.h]')["h"].ollama == release
    assert hosts(f'[fleet]\nollama = "9.9.9"\n[hosts.h]\nollama = "{written}"')["h"].ollama == release


def test_models_are_declared() -> None:
    """By Ollama's own names, with sources relative to the file, in the order of the file."""
    text = """
        [hosts.gpu1]
        groups = "a"
        [hosts.gpu2]
        [groups.a]
        [models."llama3.2:3b"]
        replicas = 2
        [models."acme/support"]
        source = "models/../support.gguf"
        on = ["gpu1", "gpu2"]
        [models.tiny]
        source = "host:gpu2"
        on = "a"
    """
    found = parse(text, FILE).models

    assert [(str(m.name), m.on, m.replicas, m.source) for m in found] == [
        ("llama3.2:3b", ("*",), 2, None),
        ("acme/support:latest", ("gpu1", "gpu2"), None, "/fleet/support.gguf"),
        ("tiny:latest", ("a",), None, "host:gpu2"),
    ]


def test_the_gateway_and_the_fleet_are_declared() -> None:
    """Every key of both."""
    text = f"""
        [fleet]
        name = "lab"
        mirror = "https://files.example/ollama/"
        checksums = {{ "ollama-linux-amd64.tgz" = "sha256:{"AB" * 32}" }}
        [hosts.h]
        connection = "local"
        [gateway]
        listen = "[::1]:8080"
        workers = 3
        strategy = "least-loaded"
        transport = "direct"
        local = "http://127.0.0.1:11436/"
        [gateway.keys.team-a]
        key_env = "TEAM_A_KEY"
        [gateway.keys.team-b]
        key_file = "keys/b"
    """
    inventory = parse(text, FILE)

    assert (inventory.name, inventory.mirror) == ("lab", "https://files.example/ollama")
    assert inventory.checksums == {"ollama-linux-amd64.tgz": "ab" * 32}
    assert inventory.hosts["h"].connection is Connection.LOCAL
    assert inventory.gateway == Gateway(
        listen="[::1]:8080",
        workers=3,
        strategy=Strategy.LEAST_LOADED,
        transport=Transport.DIRECT,
        local="http://127.0.0.1:11436",
        keys=(ApiKey("team-a", variable="TEAM_A_KEY"), ApiKey("team-b", file=Path("/fleet/keys/b"))),
    )


def test_groups_have_the_hosts_that_list_them() -> None:
    """Empty ones too."""
    text = '[groups.b]\n[groups.a]\n[hosts.x]\ngroups = ["a", "a"]\n[hosts.y]\ngroups = "a"'

    assert parse(text, FILE).groups == {"b": (), "a": ("x", "y")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: hosts: no host is declared (add [hosts.NAME], or let `olladist init user@host …` write it)"),
        ("hosts = 3", "1: hosts: must be a table, not a whole number"),
        ("[[hosts]]\nname = 'x'", "1: hosts: must be a table, not a list"),
        ("[host.gpu1]", "1: host: is not a key that is known here (did you mean hosts?)"),
        ("[hosts]\naddress = 'x'\ngpu1 = {}", "2: hosts.address: stands in [hosts] itself (a host has a table of its own: [hosts.NAME])"),
        ("[hosts.a]\nconnection = 'local'\n[hosts.b]\nconnection = 'local'", "3: hosts.b: a and b are both this machine (several Ollamas on one host are `instances`)"),
        ("[hosts.a]\n[hosts.b]\naddress = 'A'\nport = 22", "3: hosts.b.address: a and b have the same address A and port 22 (several Ollamas on one host are `instances`)"),
        ('[hosts.a]\nidentity = "x\\u0000y"', "2: hosts.a.identity: holds a control character or a line break"),
        ("[hosts.a]\nport = 1979-05-27", "2: hosts.a.port: must be a whole number, not a date or time"),
        ("[hosts.a]\nuser = 'x y'", "2: hosts.a.user: must be a user name, not 'x y'"),
        ("[hosts.a]\naddress = '[::1]'", "2: hosts.a.address: must be a host name or an IP address alone, not '[::1]' (write `user` and `port` as keys of their own)"),
        ("[hosts.a]\nenv.X = nan", "2: hosts.a.env.X: must be a string, a number, true or false"),
        ("[hosts.a]\n[gateway]\nlisten = '::1:80'", "3: gateway.listen: must be ADDRESS:PORT, such as 127.0.0.1:11434 or [::]:11434, not '::1:80'"),
        ("[hosts.a]\n[gateway]\norigins = 'app.example'", "3: gateway.origins: 'app.example' has no * and does not begin with one of http:// https:// chrome-extension:// safari-extension:// moz-extension:// ms-browser-extension:// (such as https://app.example.com, http://*.example.com or chrome-extension://*)"),
        ("[hosts.a]\n[gateway.keys.'a b']\nkey_env = 'X'", "2: gateway.keys.\"a b\": 'a b' is not a name for a key (must begin with a letter, a digit or _, then also . and -, 64 characters at most)"),
        ("[hosts.a]\n[gateway.keys.a]\nkey_env = 'sk-123'", "3: gateway.keys.a.key_env: must be the name of an environment variable, not a key itself (secrets are never stored in the inventory)"),
        ("[hosts.a]\n[models.m]\nreplicas = 2", "3: models.m.replicas: wants 2 copies, but only 1 host is there for them"),
        ("[hosts.a]\n[hosts.a]", "2: is not TOML: Cannot declare ('hosts', 'a') twice (the same key or table stands there twice)"),
        ("[hosts.a]\nuser = ops", '2: is not TOML: Invalid value (a text stands in quotes: key = "text")'),
        ("[hosts.a]\n[models.llama3.2:3b]", "2: is not TOML: Expected ']' at the end of a table declaration (a line is a [table], or key = value; a name with a dot or colon needs quotes: [models.\"llama3.2:3b\"])"),
        ("[hosts.a]\nuser = 'x", "2: is not TOML: Expected \"'\""),
        ("a = " + "[" * 100_000, "1: is nested too deeply to be read"),
    ],
)  # fmt: skip
def test_one_problem_is_told_well(text: str, problem: str) -> None:
    """What stands where, why not, and what to write instead."""
    assert problems(text) == [problem]


def test_what_is_wrong_is_told_once() -> None:
    """A value that cannot be read counts as not said: nothing is derived from a default in its place."""
    assert problems("[hosts.a]\naddress = 'x'\nport = 'ssh'\n[hosts.b]\naddress = 'x'\nport = 22") == [
        "3: hosts.a.port: must be a whole number, not a string"
    ]
    assert problems("[hosts.a]\ninstances = [{ port = 0 }, { gpus = 1 }]") == [
        "2: hosts.a.instances[0].port: must be a port from 1 to 65535, not 0",
        "2: hosts.a.instances[1].gpus: must be a list, not a whole number",
    ]


def test_two_machines_behind_different_bastions_may_share_an_address() -> None:
    """Private addresses repeat."""
    text = '[hosts.a]\naddress = "10.0.0.5"\njump = "b1"\n[hosts.b]\naddress = "10.0.0.5"\njump = "b2"'

    assert len(hosts(text)) == 2


def test_a_file_is_read(tmp_path: Path) -> None:
    """With the mark that some editors put in front, and paths relative to its folder."""
    path = tmp_path / "i.toml"
    path.write_text('\ufeff[hosts.a]\nidentity = "key"\n')

    assert load(path).hosts["a"].identity == tmp_path / "key"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """Not there, not UTF-8, not an inventory at all."""
    with pytest.raises(UsageError, match=r"absent\.toml cannot be read: No such file or directory"):
        load(tmp_path / "absent.toml")

    latin = tmp_path / "latin.toml"
    latin.write_bytes("# ok\n# Größe\n".encode("latin-1"))
    with pytest.raises(
        InventoryError, match=r"latin\.toml:2: holds bytes that are not UTF-8 \(save the file as UTF-8\)"
    ):
        load(latin)

    huge = tmp_path / "huge.toml"
    with huge.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(UsageError, match=r"is larger than 16 MiB; is it an inventory\?"):
        load(huge)


EXAMPLE = tomllib.loads((HERE.parent.parent / "inventory.example.toml").read_text())

junk: st.SearchStrategy[Any] = st.recursive(
    st.text(max_size=12)
    | st.sampled_from(["", "*", "gpu1", "host:gpu1", "~x/y", "a:1", "[::1]:1", "-x", "0.1.2", "http://", "{", "\x00"])
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(sorted({key for table in TABLES.values() for key in table.model_fields} | {"gpu1", "a100"}))


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """The example with some of its values replaced, or keys added, anywhere in it."""

    def spoil(value: Any) -> Any:
        if draw(st.integers(0, 15)) == 0:
            return draw(junk)
        if isinstance(value, list):
            return [spoil(item) for item in value]
        if not isinstance(value, dict):
            return value
        extra = {draw(known): draw(junk)} if draw(st.integers(0, 15)) == 0 else {}
        return {key: spoil(item) for key, item in {**value, **extra}.items()}

    result = spoil(EXAMPLE)
    return result if isinstance(result, dict) else {}


@given(spoiled())
def test_any_inventory_is_accepted_or_all_its_problems_told(document: dict[str, Any]) -> None:
    """Every problem names a line of the file and a key; nothing but InventoryError comes out."""
    text = tomli_w.dumps(document)
    try:
        inventory = parse(text, FILE)
    except InventoryError as error:
        found = error.problems
    else:
        assert inventory.hosts
        return

    assert found
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)
    for problem in found:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.key
        assert "\n" not in problem.text + problem.hint + problem.key
        assert "Input should" not in problem.text


@given(st.text() | st.lists(st.sampled_from(["[hosts.a]", "[", "]", "=", '"', "'", "a", "1", "\n", ".", "{", "}", "#", '"""', ","])).map("".join))  # fmt: skip
def test_any_text_is_an_inventory_or_refused(text: str) -> None:
    """Nothing but InventoryError comes out of any text."""
    try:
        assert parse(text, FILE).hosts
    except InventoryError as error:
        assert error.problems  # noqa: PT017  either outcome is right
