"""Speed in browsers: sparse models in WebAssembly against the dense one in onnxruntime-web.

Run it as `python -m sparsify.benchmarks.webassembly --output FILE`, on a machine with npm, node,
Chromium and a compiler for WebAssembly. Every candidate runs in one thread, in turns, first in
node, then on a page in headless Chromium.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from sparsify.artifact.formats import HALF, SINGLE
from sparsify.benchmarks.engines import masked
from sparsify.benchmarks.inference.speedup import paired_speedup
from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.exporters.export import export_artifact
from sparsify.files import size_bytes

MODELS = ("ecapa-tdnn-512", "resnet34")
SPARSITIES = (0.9, 0.95)
_BASELINE = "onnxruntime-web"
_NEEDED = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_CONFIG = {"frames": 200, "bins": 80, "rounds": 25, "calls": 5, "warm": 10}
_PATIENCE = 1800  # seconds for a browser
_SCRIPT = Path(__file__).with_suffix(".mjs")
_PAGE = """<!doctype html><script type="module">
import {measure} from './turns.mjs';
const read = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const answer = (value) => fetch('/result', {method: 'POST', body: JSON.stringify(value)});
measure(new URL('.', location.href), read).then(
  (result) => answer({...result, version: navigator.userAgent}),
  (error) => answer({error: String(error)}));
</script>"""
# Without a sandbox where it would run as root, and without asking for anything on the network.
_CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions"),
)


def prepare(name: str, folder: Path, runtime: Path) -> list[dict[str, Any]]:
    """Writes what a page needs to measure a model; returns the sparse ones with their sizes."""
    place = folder / "ort"
    place.mkdir()
    for file in _NEEDED:
        shutil.copyfile(runtime / "dist" / file, place / file)
    dense = masked(name, 0.0, folder / "dense.safetensors")
    export_artifact(dense, folder / "dense.onnx", "onnx")
    models = []
    for sparsity in SPARSITIES:
        artifact = masked(name, sparsity, folder / "sparse.safetensors")
        for precision in (SINGLE, HALF):
            label = f"{sparsity:.0%} {precision}".replace("%", "")
            output = folder / f"export {label}"
            export_artifact(artifact, output, "native", precision=precision, target="wasm")
            site = folder / label
            (output / "web").rename(site)
            files = [(site / file).read_bytes() for file in ("engine.wasm", "weights.bin")]
            models.append(
                {
                    "name": label,
                    "sparsity": sparsity,
                    "precision": precision,
                    "module_bytes": len(files[0]),
                    "weights_bytes": len(files[1]),
                    "gzip_bytes": sum(len(gzip.compress(each, 9)) for each in files),
                }
            )
        (folder / "sparse.safetensors").unlink()
    config = {**_CONFIG, "models": [each["name"] for each in models]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "index.html").write_text(_PAGE)
    shutil.copyfile(_SCRIPT, folder / "turns.mjs")
    return models


def in_node(folder: Path) -> dict[str, Any]:
    """Times in node."""
    command = ["node", str(_SCRIPT), str(folder)]
    result: dict[str, Any] = json.loads(
        subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_PATIENCE).stdout
    )
    return result


class _Handler(SimpleHTTPRequestHandler):
    """Serves the folder, and takes the result."""

    results: Queue[dict[str, Any]]

    def do_POST(self) -> None:
        """Takes what the page has measured."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.results.put(json.loads(body))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def in_chromium(folder: Path) -> dict[str, Any]:
    """Times on a page.

    Raises:
        RuntimeError: The page fails.
    """
    results: Queue[dict[str, Any]] = Queue()
    handler = type("Handler", (_Handler,), {"results": results})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server,
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [*_CHROMIUM, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as browser:
            try:
                result = results.get(timeout=_PATIENCE)
            finally:
                browser.terminate()
                server.shutdown()
    if "error" in result:
        raise RuntimeError(result["error"])
    return result


def _rows(models: list[dict[str, Any]], times: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    known = {each["name"]: each for each in models}
    for name, measured in times.items():
        middle = sorted(measured)[len(measured) // 2]
        row = {"engine": _BASELINE, "artifact": "dense"}
        if name != _BASELINE:
            row = {"engine": "wasm", "artifact": "sparse", **known[name]}
        speedup = paired_speedup(measured, times[_BASELINE])
        yield {**row, "median_ms": middle, **asdict(speedup), "times_ms": measured}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures everything and writes it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.webassembly", description="Speed in browsers."
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=MODELS)
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        **_CONFIG,
        "threads": 1,
        "measured": [],
    }
    with TemporaryDirectory() as home:
        install = ["npm", "install", "--silent", "--prefix", home, _BASELINE]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        runtime = Path(home, "node_modules", _BASELINE)
        result[_BASELINE] = json.loads((runtime / "package.json").read_text())["version"]
        for name in options.models:
            folder = Path(home, name)
            folder.mkdir()
            models = prepare(name, folder, runtime)
            result.setdefault("onnx_bytes", {})[name] = size_bytes(folder / "dense.onnx")
            for place, measure in (("node", in_node), ("chromium", in_chromium)):
                print(f"{name} in {place}", file=sys.stderr)
                found = measure(folder)
                rows = list(_rows(models, found["times"]))
                version = found["version"]
                result["measured"].append(
                    {"model": name, "place": place, "version": version, "rows": rows}
                )
                options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
