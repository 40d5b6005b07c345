"""The simulated Ollama beside a real one: the same requests in the same order, the same answers but for times and numbers.

What is made for the gateway and for olladist's own commands to see is compared in full: status, content type, the headers that
mean something, and every byte of the body once it is normalised.
"""

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from olladist.sim import gguf

pytestmark = pytest.mark.lab

SENTENCE = "The sky is blue because air scatters short waves most."
ASK = [{"role": "user", "content": "why?"}]
WRONG_MESSAGES: list[Any] = ["x", {}, ["x"], [{"role": 3}], [{"content": 3}]]
WRONG_KEEP_ALIVE: list[Any] = ["x", True, [], {}, "5", "1h30"]
WRONG_CONTENT: list[Any] = [None, 3, {}, [3]]
X = hashlib.sha256(b"x").hexdigest()
ZEROS = "0" * 64


@dataclass(frozen=True)
class Served:
    """A running server and what in its answers stands for itself."""

    port: int
    models: Path


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Case:
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return f"{self.method} {self.path} {shown[:60]} {self.headers or ''}".strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(words: list[str], folder: Path, model: Path, **environ: str) -> Iterator[Served]:
    port = free_port()
    folder.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OLLAMA_HOST": f"127.0.0.1:{port}", **environ}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    served = Served(port, folder / ".ollama/models")
    try:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
        content = model.read_bytes()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        ask(served, Case("POST", f"/api/blobs/{digest}"), content)
        files = {"model": "sky", "files": {"sky.gguf": digest}, "parameters": {"num_thread": 1}, "stream": False}
        assert ask(served, Case("POST", "/api/create", files)).status == 200
        system = {"model": "sky2", "from": "sky", "system": "You are <terse> & 'short'", "stream": False}
        assert ask(served, Case("POST", "/api/create", system)).status == 200
        yield served
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sky.gguf"
    gguf.write(path, SENTENCE)
    return path


@pytest.fixture(scope="module")
def real(ollama_binary: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve([str(ollama_binary), "serve"], tmp_path_factory.mktemp("real") / "home", model)


@pytest.fixture(scope="module")
def simulated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    words = [sys.executable, "-m", "olladist.sim.ollama", "serve"]
    yield from serve(words, tmp_path_factory.mktemp("sim") / "home", model, SIM_TOKENS_PER_SECOND="1000")


def ask(served: Served, case: Case, content: bytes | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    body = content
    if body is None and case.body is not None:
        body = case.body.encode() if isinstance(case.body, str) else json.dumps(case.body).encode()
    try:
        connection.request(case.method, case.path, body, case.headers)
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    headers = {key.lower(): value for key, value in response.getheaders()}
    return Answer(response.status, headers, readable(raw, headers.get("content-type", ""), served))


# Headers that say how the bytes travel; the two servers need not agree on those.
TRANSPORT = {"date", "content-length", "transfer-encoding", "connection"}

# What differs from one answer to the next, by key.
VARYING = re.compile(
    r'"(?:created_at|modified_at|expires_at|completed_at)":(?:"[^"]+"|\d+)|"\w+_duration":\d+|"created":\d+'
    r'|"(?:id|item_id)":"(?:chatcmpl-|cmpl-|resp_|msg_)\w+"|"request_id":"req_\w+"'
    # Sizes in memory are the runner's business; embeddings of a chain model are 8 before they are normalised.
    r'|"size":\d+,"digest":"[0-9a-f]{64}"|"digest":"[0-9a-f]{64}"|"embedding":\[[0-9.e-]+(?:,0(?:\.0)?){63}\]'
)


def readable(raw: bytes, content_type: str, served: Served) -> Any:
    """The body as documents, with what varies named instead of shown."""
    text = raw.decode().replace(str(served.models), "MODELS")
    text = VARYING.sub(lambda found: f'{found[0].partition(":")[0]}:"VARIES"', text)
    if "json" in content_type and text.strip():
        return [ordered(json.loads(line)) for line in text.splitlines()]
    if "event-stream" in content_type:
        return [
            json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else line
            for line in text.splitlines()
        ]
    return text


def ordered(document: Any) -> Any:
    """Lists and lines that Ollama makes out of Go maps, whose order is another each time, in one order."""
    if not isinstance(document, dict):
        return document
    for key, name in (("models", "name"), ("data", "id")):
        if document.get(key) and name in document[key][0]:
            document[key] = sorted(document[key], key=lambda row: str(row[name]))
    for key in ("parameters", "modelfile"):
        if key in document:
            document[key] = sorted(document[key].splitlines())
    return document


def post(path: str, *bodies: Any) -> list[Case]:
    return [Case("POST", path, body) for body in bodies]


FRONT = [
    *(Case(method, "/") for method in ("GET", "HEAD", "POST")),
    *(Case(method, "/api/version") for method in ("GET", "HEAD", "OPTIONS", "DELETE")),
    *(Case("GET", path) for path in ("/nope", "/api/generate", "/api/tags/", "//api/tags", "/api/./tags", "/API/TAGS")),
    *(Case("GET", path) for path in ("/api/%76ersion", "/v1/models/library%2Fsky", "/v1/audio/transcriptions")),
    Case("GET", f"/api/blobs/sha256:{ZEROS}"),
    Case("POST", "/api/generate/", "{}"),
    Case("POST", "/api/delete"),
    Case("OPTIONS", "/nope"),
    Case("HEAD", "/api/ps"),
    Case("GET", "/api/status"),
]
DOORS = [
    Case(method, "/api/version", None, headers)
    for method in ("GET", "OPTIONS")
    for headers in (
        *({"Host": host} for host in ("evil.example", "localhost", "10.1.2.3", "foo.local:99", "localhost.")),
        *({"Origin": f"{scheme}localhost"} for scheme in ("http://", "HTTP://")),
        *({"Origin": origin} for origin in ("http://localhost:3000", "http://evil.example", "null", "app://x")),
        *({"Origin": origin} for origin in ("vscode-webview://abc", "chrome-extension://abc")),
    )
]
SYNTAX = post(
    "/api/embed",
    *(
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        '"x"',
        "01",
        "nul",
        "-",
        '"abc',
        "tru",
        " ",
        '{"a":tru}',
        '{"a":-}',
        "[1,]",
        "[1 2]",
    ),
    *('{"a":1 "b":2}', '{"a":1,}', "{a:1}", '{"a" 1}', '{"a":"x\ny"}', '{"a":"\\q"}', '{"x":NaN}', '{"a":1}}'),
    *('{"model":1.5}', '{"model":"sky","truncate":3}', '{"MODEL":"sky"} trailing', '{"model":"sky","dimensions":"a"}'),
)
GENERATE = post(
    "/api/generate",
    {"model": "sky", "prompt": "why?"},
    *(
        {},
        {"model": "nope", "prompt": "x"},
        {"model": "a b"},
        {"model": "nope:cloud"},
        {"model": "SKY:Latest", "prompt": "x"},
    ),
    *({"model": "sky", "prompt": "x", "options": {"num_predict": count}} for count in (3, 0, -1)),
    *(
        {"model": "sky", "prompt": "x", "options": options}
        for options in ({"num_ctx": "big"}, {"nonsense": 1}, {"stop": 3})
    ),
    *(
        {"model": "sky", "prompt": "x", "stream": False, "options": {"stop": [stop]}}
        for stop in ("blue", "sky is", " air")
    ),
    *({"model": "sky", "prompt": "x", "think": think} for think in (True, "high", False)),
    *({"model": "sky", "prompt": "x", "format": wanted} for wanted in ("xml", 3)),
    {"model": "sky", "prompt": "x", "suffix": "y"},
    {"model": "sky", "prompt": "x", "raw": True, "stream": False},
    {"model": "sky", "prompt": "x", "raw": True, "system": "y"},
    {"model": "sky", "prompt": "x", "template": "{{"},
    {"model": "sky", "prompt": "x", "top_logprobs": 30},
    {"model": "sky", "prompt": "naïve ☂ <b> & c", "stream": False},
    {"model": "registry.ollama.ai/library/sky", "prompt": "two words", "stream": False},
    *({"model": "sky", "keep_alive": bad} for bad in WRONG_KEEP_ALIVE),
    *('{"model":3}', '{"model":"sky","stream":"no"}', '{"model":"sky","options":3}', '{"model":"sky","context":["x"]}'),
)
# Loading, unloading and what /api/ps says in between.
KEEPING = [
    case
    for body in (
        {"model": "sky"},
        {"model": "sky", "keep_alive": 0},
        {"model": "sky", "keep_alive": -1},
        {"model": "sky", "keep_alive": "10m", "stream": False},
        {"model": "sky2", "prompt": "x", "stream": False},
        {"model": "sky", "prompt": "x", "stream": False},
    )
    for case in (Case("POST", "/api/generate", body), Case("GET", "/api/ps"))
]
CHAT = post(
    "/api/chat",
    {"model": "sky", "messages": ASK},
    {"model": "sky", "messages": ASK, "stream": False},
    *("", "{", {}, {"model": "nope", "messages": ASK}, {"model": "a b", "messages": ASK}),
    *({"model": "sky", "messages": messages} for messages in WRONG_MESSAGES),
    *({"model": "sky", "keep_alive": keep} for keep in ("5m", 0)),
    {"model": "sky", "messages": [], "stream": True},
    {"model": "sky", "messages": ASK, "tools": 3},
    {"model": "sky", "messages": ASK, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"model": "sky", "messages": ASK, "think": True},
    {"model": "sky", "messages": ASK, "options": {"num_predict": 2}},
    {"model": "sky", "messages": [{"role": "oops", "content": "x"}], "stream": False},
    {"model": "sky", "messages": [*ASK, {"role": "assistant", "content": "yo"}, *ASK], "stream": False},
    {"model": "sky2", "messages": ASK, "stream": False},
)
EMBED = post(
    "/api/embed",
    *({}, {"model": "nope", "input": "x"}, {"model": "a b", "input": "x"}, {"model": "sky"}),
    *({"model": "sky", "input": given} for given in ("a", ["a", "b c"], "", [], [""], 3, [3])),
    {"model": "sky", "input": ["x"], "dimensions": 4},
    {"model": "sky", "input": "x" * 5000},
) + post(
    "/api/embeddings",
    *("", {}, {"model": "nope", "prompt": "x"}, {"model": "a b", "prompt": "x"}, {"model": "SKY", "prompt": "x"}),
    *({"model": "sky", "prompt": prompt} for prompt in ("", "x", "x" * 5000)),
)
LIBRARY = [
    *post("/api/show", "", {}, {"model": "nope"}, {"name": "nope"}, {"model": "a b"}),
    *post("/api/show", {"model": "sky"}, {"name": "sky2", "system": "Other"}),
    *post("/api/copy", "", {}, {"source": "nope", "destination": "x"}, {"source": "sky", "destination": "a b"}),
    *post("/api/copy", {"source": "sky", "destination": "you/copy:v1"}),
    *(Case("DELETE", "/api/delete", body) for body in ("", {}, {"model": "nope"}, {"model": "a b"})),
    *(Case("DELETE", "/api/delete", {"name": "you/copy:v1"}) for _ in range(2)),
    *(Case("HEAD", f"/api/blobs/{digest}") for digest in ("nonsense", f"sha256:{ZEROS}")),
    *(Case("POST", f"/api/blobs/{digest}", "x") for digest in ("nonsense", f"sha256:{ZEROS}", f"sha256-{ZEROS}")),
    *(Case("POST", f"/api/blobs/sha256-{X}", "x") for _ in range(2)),
    Case("HEAD", f"/api/blobs/sha256-{X}"),
    *post("/api/pull", "", {}, {"model": "a b"}),
    *post("/api/push", {}, {"model": "nope"}, {"model": "nope", "stream": False}),
]
CREATE = [
    *post("/api/create", "", {}, {"model": "a b"}, {"model": "x"}, {"model": "x", "stream": False}),
    *post("/api/create", {"model": "x", "from": "a b"}, {"model": "x", "files": {}}),
    *post(
        "/api/create",
        *({"model": "x", "files": {"x.gguf": digest}} for digest in (f"sha256:{ZEROS}", "bad", f"sha256:{X}")),
    ),
    *post("/api/create", {"model": "x", "files": {"x.gguf": "bad"}, "stream": False}),
    *post("/api/create", {"model": "x", "files": {"x.bin": f"sha256:{X}"}}, {"model": "x", "files": {"/x": "bad"}}),
    Case(
        "POST",
        "/api/create",
        {
            "model": "x",
            "from": "sky",
            "template": "{{ .System }} {{ .Prompt }}",
            "license": "MIT",
            "parameters": {"temperature": 0.5, "stop": ["a", "b"]},
            "messages": [{"role": "user", "content": "hi"}],
        },
    ),
    *post("/api/show", {"model": "x"}),
    *post("/api/chat", {"model": "x", "messages": ASK, "stream": False}),
    *post("/api/create", {"model": "x", "from": "x", "template": "{{"}),
    *post("/api/create", {"model": "y", "from": "x", "template": "{{", "stream": False}),
    Case("GET", "/api/tags"),
    Case("GET", "/v1/models"),
    Case("DELETE", "/api/delete", {"model": "x"}),
]
OPENAI = [
    *post("/v1/chat/completions", "", "{", {}, {"messages": ASK}),
    *post("/v1/chat/completions", *({"model": "nope", "messages": ASK, "stream": stream} for stream in (True, False))),
    *post("/v1/chat/completions", {"model": "sky", "messages": ASK}, {"model": "sky", "messages": ASK, "stream": True}),
    *post(
        "/v1/chat/completions",
        {"model": "sky", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}},
    ),
    *post(
        "/v1/chat/completions",
        *({"model": "sky", "messages": [{"role": "user", "content": c}]} for c in WRONG_CONTENT),
    ),
    *post("/v1/chat/completions", {"model": "sky", "messages": [{"role": 3}]}, {"model": "sky", "messages": {}}),
    *post(
        "/v1/chat/completions",
        {"model": "sky", "max_tokens": 2, "messages": [{"content": [{"type": "text", "text": "hi"}]}]},
    ),
    *post("/v1/completions", "", {"model": "nope", "prompt": "x"}, {"model": "sky"}, {"model": "sky", "stream": True}),
    *post("/v1/completions", {"model": "sky", "prompt": "why?"}, {"model": "sky", "prompt": "why?", "stream": True}),
    *post("/v1/completions", {"model": "sky", "prompt": "x", "stop": "air", "max_tokens": 9}),
    *post(
        "/v1/completions", {"model": "sky", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    ),
    *post("/v1/embeddings", {"model": "nope", "input": "x"}, {"model": "sky"}, {"model": "sky", "input": []}),
    *post("/v1/embeddings", *({"model": "sky", "input": given} for given in ("x", "", ["x", "y"]))),
    *post("/v1/embeddings", *({"model": "sky", "input": "x", "encoding_format": form} for form in ("base64", "no"))),
    *(Case("GET", f"/v1/models/{name}") for name in ("sky", "sky2:latest", "nope")),
    *post("/v1/responses", "", {}, {"model": "sky"}, {"model": "sky", "input": 3}),
    *post("/v1/responses", *({"model": "nope", "input": "x", "stream": stream} for stream in (True, False))),
    *post("/v1/responses", *({"model": "sky", "input": "why?", "stream": stream} for stream in (True, False))),
    *post("/v1/responses", {"model": "sky", "input": [{"role": "user", "content": "x"}], "max_output_tokens": 2}),
    *post("/v1/responses", {"model": "sky", "input": "x", "instructions": "be", "temperature": 0.5, "stream": True}),
]
ANTHROPIC = [
    *post("/v1/messages", "", {}, {"model": "sky"}, {"model": "sky", "max_tokens": 5}),
    *post("/v1/messages", *({"model": "nope", "max_tokens": 5, "messages": ASK, "stream": s} for s in (True, False))),
    *post("/v1/messages", *({"model": "sky", "max_tokens": 50, "messages": ASK, "stream": s} for s in (True, False))),
    *post("/v1/messages", {"model": "sky", "max_tokens": 2, "messages": ASK, "system": "be brief", "stream": True}),
    *post("/v1/messages", {"model": "sky", "max_tokens": 9, "messages": ASK, "stop_sequences": ["air"]}),
]
CASES = [*FRONT, *DOORS, *SYNTAX, *GENERATE, *KEEPING, *CHAT, *EMBED, *LIBRARY, *CREATE, *OPENAI, *ANTHROPIC]


def compared(served: Served, case: Case) -> Answer:
    answer = ask(served, case)
    return replace(answer, headers={key: value for key, value in answer.headers.items() if key not in TRANSPORT})


def both(real: Served, simulated: Served, case: Case) -> tuple[Answer, Answer]:
    """What the two answer; a real Ollama unloads in the background, so what is loaded is asked until that is over."""
    deadline = time.monotonic() + 10
    while True:
        want, got = compared(real, case), compared(simulated, case)
        if want == got or case.path != "/api/ps" or time.monotonic() > deadline:
            return want, got


def test_the_same_request_has_the_same_answer(real: Served, simulated: Served) -> None:
    """Status, content type, headers and body are those of a real Ollama 0.17.4, but for times, sizes and random numbers."""
    different = []
    for case in CASES:
        want, got = both(real, simulated, case)
        if want != got:
            different.append(f"{case}\n  real      {want}\n  simulated {got}")

    assert not different, "\n".join([f"{len(different)} of {len(CASES)} differ", *different])
