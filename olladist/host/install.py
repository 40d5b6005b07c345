"""Steps that bring a release onto a host: staged beside the others, swapped in by a rename, never unpacked over a running one."""

from collections.abc import Iterator

from olladist.host.copy import Copy
from olladist.host.desired import Desired, Problem
from olladist.host.found import Facts, PathFact
from olladist.host.steps import Run, Step
from olladist.host.tarball import Form, Tarball
from olladist.inventory.model import Service
from olladist.ollama.release import ARCHIVE_ENDINGS, GZIP, ZSTD
from olladist.ssh.words import words
from olladist.units import size

# A release of 1.5 GB (zst) unpacks to about 3.5 GB; where the real figure is not known yet, this one is assumed.
_UNPACKED_RATIO = 3
# Besides the release: logs, and room for systemd and the package manager to breathe.
_SPARE = 64 << 20


def install_steps(facts: Facts, desired: Desired) -> Iterator[Step]:
    release = desired.release
    ours = facts.prefixes.get(desired.prefix)
    if release is None:
        return
    if release.tarballs:
        copies = [_copy(tarball, form_for(tarball, facts), desired, release.name) for tarball in release.tarballs]
        yield from copies
        yield _unpack(desired, copies)
    elif ours is not None and ours.stage:
        yield Run(f"clear {desired.prefix}/stage", words("rm", "-rf", f"{desired.prefix}/stage"), desired.root)
    if ours is None or ours.current != release.name:
        yield _switch(desired, release.name, ours.current if ours else "")
    yield from _link(facts, desired)


def _copy(tarball: Tarball, form: Form, desired: Desired, release: str) -> Copy:
    stem = tarball.name
    for ending in (*ARCHIVE_ENDINGS, ".tar"):
        stem = stem.removesuffix(ending)
    return Copy(tarball, form, f"{desired.prefix}/stage/{release}-{stem}{_ENDINGS[form]}", desired.root)


def form_for(tarball: Tarball, facts: Facts) -> Form:
    """As it is where the host can read that; gzip is everywhere, and plain tar needs nothing."""
    if tarball.name.endswith(ZSTD):
        form = Form.ZSTD
    else:
        form = Form.GZIP if tarball.name.endswith((GZIP, ".gz")) else Form.PLAIN
    if form is Form.ZSTD and "zstd" not in facts.tools:
        form = Form.GZIP
    return Form.PLAIN if form is Form.GZIP and "gzip" not in facts.tools else form


_ENDINGS = {Form.ZSTD: ".tar.zst", Form.GZIP: ".tar.gz", Form.PLAIN: ".tar"}
_READ = {Form.ZSTD: "zstd -dcq", Form.GZIP: "gzip -dc", Form.PLAIN: "cat"}


def _unpack(desired: Desired, copies: list[Copy]) -> Run:
    name = desired.release.name if desired.release else ""
    new, final = f"{desired.prefix}/stage/{name}.new", f"{desired.prefix}/releases/{name}"
    version = words("env", "-i", "HOME=/nonexistent", "OLLAMA_HOST=127.0.0.1:9", f"{new}/bin/ollama", "--version")
    lines = [
        words("rm", "-rf", new, final),
        words("mkdir", "-p", new, f"{desired.prefix}/releases"),
        # -o: the files are ours, whatever user the archive names. umask: readable by whom the service runs as.
        *(f"(umask 022 && {_READ[copy.form]} {words(copy.target)} | tar -xof - -C {words(new)})" for copy in copies),
        # 126 and 127 are the shell's: not executable here. Anything else it may say is its own affair.
        f"{version} >/dev/null 2>{words(new)}.err || [ $? -lt 126 ] || {{ cat {words(new)}.err >&2; exit 1; }}",
        f"if command -v restorecon >/dev/null 2>&1; then restorecon -RF {words(new)}; fi",
        words("mv", new, final),
        words("rm", "-rf", f"{desired.prefix}/stage"),
    ]
    return Run(
        f"unpack Ollama into {final}",
        "\n".join(lines),
        desired.root,
        undo_script=words("rm", "-rf", new, f"{new}.err"),
        timeout=900,
    )


def _switch(desired: Desired, name: str, before: str) -> Run:
    """One rename: whoever starts `current/bin/ollama` gets the old one or the new one, whole."""

    def script(to: str) -> str:
        new = f"{desired.prefix}/current.new"
        return f"{words('ln', '-sfn', f'releases/{to}', new)}\n{words('mv', '-fT', new, f'{desired.prefix}/current')}"

    back = script(before) if before else words("rm", "-f", f"{desired.prefix}/current.new")
    return Run(f"switch {desired.prefix}/current to {name}", script(name), desired.root, undo_script=back)


def link_path(desired: Desired, facts: Facts) -> str:
    """Where people find the `ollama` command."""
    return "/usr/local/bin/ollama" if desired.mode is Service.SYSTEM else f"{facts.home}/.local/bin/ollama"


def _link(facts: Facts, desired: Desired) -> Iterator[Step]:
    """The command is linked only where nothing else of that name stands."""
    path = link_path(desired, facts)
    found = facts.paths.get(path)
    taken = any(binary.path in {"/usr/bin/ollama", "/bin/ollama", "/snap/bin/ollama"} for binary in facts.binaries)
    if found is None or found.exists or (taken and desired.mode is Service.SYSTEM):
        return
    script = f"{words('mkdir', '-p', path.rpartition('/')[0])}\n{words('ln', '-s', desired.binary, path)}"
    yield Run(f"link {path} to {desired.binary}", script, desired.root)


def install_problems(facts: Facts, desired: Desired) -> Iterator[Problem]:
    release = desired.release
    if release is None or not release.tarballs:
        return
    for tarball in release.tarballs:
        if tarball.arch and tarball.arch != facts.arch:
            text = f"{tarball.name} is for {tarball.arch}, and this host is {facts.arch}"
            yield Problem(text, f"take ollama-linux-{facts.arch}: set `ollama` for this host or its group")
    for tool in ("tar", "sha256sum"):
        if tool not in facts.tools:
            yield Problem(f"{tool} is missing, without which nothing can be installed", f"install {tool}")
    place = facts.paths.get(desired.prefix)
    if place is not None:
        yield from _place_problems(place, desired)


def _place_problems(place: PathFact, desired: Desired) -> Iterator[Problem]:
    tarballs = desired.release.tarballs if desired.release else ()
    if place.read_only:
        yield Problem(f"{desired.prefix} is on a file system that is mounted read-only")
    elif not place.writable and not desired.root:
        yield Problem(f"{desired.prefix} cannot be written", "check the owner and mode of the folders above it")
    if place.noexec:
        hint = 'remount it without noexec, or let olladist use root (service = "system" installs to /opt)'
        yield Problem(f"{desired.prefix} is on a file system mounted noexec: no program can run from there", hint)
    needs = sum(
        (tarball.size or 0) + (tarball.unpacked or (tarball.size or 0) * _UNPACKED_RATIO) for tarball in tarballs
    )
    if needs and place.free_bytes is not None and place.free_bytes < needs + _SPARE:
        text = f"{desired.prefix} needs {size(needs + _SPARE)}, and only {size(place.free_bytes)} are free there"
        yield Problem(text, "free some space (`df -h`), then run this again")
