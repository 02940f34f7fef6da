"""The page of a model, in a browser: it embeds, compares and decides as sparsify does."""

import base64
import io
import json
import re
import shutil
from functools import partial
from http.server import ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.audio.features import Filterbank
from sparsify.exporters.native.exporter import NativeExporter
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.models.names import SHIPPED, Shipped
from sparsify.models.registry import build_model
from sparsify.verification.decision import Decision
from sparsify.verification.embedding import embed, file_recordings
from sparsify.verification.scoring import Scoring, average

from ...browser import started
from .trying import RATE, Quiet, Spectrum, deciding, opened, shown, voice

EMBED = """
(async () => {
  const bytes = Uint8Array.from(atob('%s'), (each) => each.charCodeAt());
  const {decode} = await import('/audio.js');
  const {embed} = await import('/engine.js');
  return [...(await embed(await decode(new File([bytes], 'a.wav'), %d))).embedding];
})()
"""
ELSEWHERE = "fetch('%s').then(() => 'answered', () => 'refused')"


@pytest.fixture(scope="module")
def serve():
    """Serves a folder, as python -m http.server does; gives the address."""
    servers = []

    def serve(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A network that is made for these tests, in a file."""
    path = tmp_path_factory.mktemp("model") / "spectrum.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SHIPPED, "spectrum", Shipped(f"{Spectrum.__module__}:Spectrum"))
        save_model(build_model("spectrum").eval(), path)
        yield path


@pytest.fixture(scope="module")
def site(model_file):
    """What its export serves, which tells cosines."""
    folder = model_file.with_name("exported")
    NativeExporter("wasm").write(load_artifact(model_file), folder, "dense")
    if not (folder / "web" / "engine.wasm").is_file():
        pytest.skip("no compiler makes WebAssembly")
    return folder / "web"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, serve, site):
    return opened(browser, serve(site))


def test_it_embeds_as_the_model_does(page, model_file, tmp_path):
    """The samples of a file at the rate of the model are taken as they are."""
    path = tmp_path / "voice.wav"
    soundfile.write(path, voice(120), RATE)
    model = load_speaker_model(model_file)
    expected = embed(model.embedder, file_recordings(["a"], [path], RATE), model.front_end)[0]
    content = base64.b64encode(path.read_bytes()).decode()
    found = np.array(page.evaluate(EMBED % (content, RATE)))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_channels_are_averaged_and_overshoot_is_scaled(page):
    """As sparsify reads files."""

    def embedding(samples):
        file = io.BytesIO()
        soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
        content = base64.b64encode(file.getvalue()).decode()
        return np.array(page.evaluate(EMBED % (content, RATE)))

    one, other = voice(120), voice(190)
    mean = (one + other) / 2
    stereo = embedding(np.stack([one, other], axis=1))
    assert np.allclose(stereo, embedding(mean), rtol=1e-4, atol=1e-5)
    loud = mean * (3 / np.abs(mean).max())
    assert np.allclose(embedding(loud), embedding(loud / 3), rtol=1e-4, atol=1e-5)


def test_without_a_threshold_it_tells_the_cosine(page, model_file, tmp_path):
    names = [f"{pitch}.wav" for pitch in (100, 130, 220)]
    for name, pitch in zip(names, (100, 130, 220), strict=True):
        soundfile.write(tmp_path / name, voice(pitch), RATE)
    model = load_speaker_model(model_file)
    recordings = file_recordings(names, [tmp_path / name for name in names], RATE)
    rows = Scoring().centred(embed(model.embedder, recordings, model.front_end))
    page.choose("#compare input", tmp_path / names[2])
    shown(page, "compare", 1)
    assert page.text("#compare .words") == ["No voice yet"]
    page.choose("#enrol input", *(tmp_path / name for name in names[:2]))
    shown(page, "enrol", 2)
    (enrolled,) = average(rows, [[0, 1]])
    expected = Scoring().pair_score(enrolled, rows[2])
    (said,) = page.text("#compare .words")
    assert said.startswith("Cosine ")
    assert float(said.removeprefix("Cosine ")) == pytest.approx(expected, abs=1e-4)
    assert page.text("#compare .score") == ["No threshold to decide by."]
    page.evaluate("document.querySelector('#enrol .remove').click()")
    shown(page, "enrol", 1)
    expected = Scoring().pair_score(rows[1], rows[2])
    assert page.text("#compare .words") == [f"Cosine {expected:.4f}"]


@pytest.mark.parametrize(
    ("name", "samples", "sentence"),
    [
        (
            "short.wav",
            voice(120, 0.001),
            "“short.wav” is not usable: the utterance is shorter than",
        ),
        ("silent.wav", np.zeros(RATE, np.float32), "There is no sound in “silent.wav”."),
        ("text.wav", None, "“text.wav” does not decode here: choose a WAV, FLAC, MP3, OGG or M4A"),
    ],
)
def test_what_it_cannot_use_is_one_sentence(page, tmp_path, name, samples, sentence):
    if samples is None:
        (tmp_path / name).write_text("no sound")
    else:
        soundfile.write(tmp_path / name, samples, RATE)
    page.choose("#enrol input", tmp_path / name)
    page.until(f"document.querySelector('#enrol .error').innerText.includes('{name}')")
    (said,) = page.text("#enrol .error")
    assert said.startswith(sentence)


def test_nothing_is_sent_anywhere(page, serve, site, tmp_path):
    """The policy binds the worker, too; even the page's own server is out of reach afterwards."""
    own = page.evaluate("location.origin")
    assert {each.split("/", 3)[3] for each in page.requests if each.startswith(own)} <= {
        "",
        *(file.name for file in site.iterdir()),
    }
    assert all(each.startswith((f"{own}/", f"blob:{own}/")) for each in page.requests)
    assert not page.complaints
    elsewhere = serve(tmp_path)
    for address in (elsewhere, f"{own}/model.json"):
        assert page.evaluate(ELSEWHERE % address) == "refused"
        assert page.evaluate(ELSEWHERE % address, page.worker) == "refused"


def test_another_site_needs_the_lines_that_the_docs_give(
    browser, serve, site, model_file, tmp_path
):
    shutil.copytree(site, tmp_path / "model")
    docs = (Path(__file__).parents[3] / "docs" / "web.md").read_text("utf-8")
    (lines,), (worker,) = (
        re.findall(f"```{kind}\n(.*?)```", docs, re.S) for kind in ("html", "js")
    )
    first, second = voice(120, 0.1), voice(190, 0.1)
    samples = f"const [first, second] = {json.dumps([first.tolist(), second.tolist()])};"
    shown = lines.replace("</script>", "globalThis.found = score;</script>")
    (tmp_path / "index.html").write_text(f"<script>{samples}</script>{shown}")
    (tmp_path / "worker.js").write_text(worker)
    page = browser.open(serve(tmp_path))
    page.until("globalThis.found !== undefined")
    found = page.evaluate(
        "new Promise((done) => { const worker = new Worker('worker.js', {type: 'module'});"
        " worker.onmessage = ({data}) => done([...data]); worker.postMessage(first); })"
    )
    model = load_speaker_model(model_file)
    bank = Filterbank(model.front_end)
    expected = [model.embedder(bank.features(each)) for each in (first, second)]
    assert page.evaluate("found") == pytest.approx(Scoring().pair_score(*expected), abs=1e-4)
    assert np.allclose(found, expected[0], atol=1e-4 * np.abs(expected[0]).max())


def test_weights_of_another_export_are_refused(browser, serve, site, tmp_path):
    folder = shutil.copytree(site, tmp_path / "site")
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.bin").write_bytes(weights)
    page = browser.open(serve(folder))
    page.until("document.querySelector('#state')?.classList.contains('failed')")
    (said,) = page.text("#state")
    assert said.endswith("weights.bin cannot be read: it is missing, or of another export.")
    assert page.evaluate("document.querySelector('#enrol .record').disabled")


def test_speakers_are_told_apart_as_sparsify_does(serve, site, model_file, speech_mini, tmp_path):
    """A voice that the microphone recorded, against files of which the model is right."""
    names, paths = [], []
    for speaker in sorted((speech_mini / "test").iterdir())[:3]:
        for file in sorted(speaker.iterdir())[:3]:
            path = tmp_path / f"{speaker.name}-{file.stem}.wav"
            soundfile.write(path, soundfile.read(file)[0], RATE)
            names.append(speaker.name)
            paths.append(path)
    model = load_speaker_model(model_file)
    recordings = file_recordings(map(str, paths), paths, RATE)
    embeddings = embed(model.embedder, recordings, model.front_end)
    scoring = Scoring(mean=embeddings.mean(axis=0, dtype=np.float64))

    def margin(each):
        enrolled, same, other = (embeddings[i] for i in each)
        return scoring.pair_score(enrolled, same) - scoring.pair_score(enrolled, other)

    triples = [
        (one, same, other)
        for one, same in combinations(range(len(names)), 2)
        for other in range(len(names))
        if names[one] == names[same] != names[other]
    ]
    one, same, other = max(triples, key=margin)
    scores = [scoring.pair_score(embeddings[one], embeddings[each]) for each in (same, other)]
    assert scores[0] > scores[1]
    decision = Decision("eer", float(np.mean(scores)), tuple(scoring.mean))
    address = serve(deciding(site, tmp_path / "site", decision))
    length = soundfile.info(paths[one]).duration
    options = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={paths[one]}",
    )
    with started(tmp_path / "profile", *options) as browser:
        page = opened(browser, address)
        page.evaluate("document.querySelector('#enrol .record').click()")
        page.until(f"parseFloat(document.querySelector('#enrol .clock').innerText) >= {length}")
        page.evaluate("document.querySelector('#enrol .record').click()")
        shown(page, "enrol", 1)
        page.choose("#compare input", paths[same], paths[other])
        shown(page, "compare", 2)
        assert page.text("#compare .words") == ["Same speaker", "Other speaker"]
        assert page.text("#announcement")[0].startswith(
            f"{paths[other].name}: Other speaker. Score "
        )
        # With the very file in place of what the microphone made of it, the scores are sparsify's.
        page.choose("#enrol input", paths[one])
        shown(page, "enrol", 2)
        page.evaluate("document.querySelector('#enrol .remove').click()")
        shown(page, "enrol", 1)
        said = [float(text.split(",")[0].split()[1]) for text in page.text("#compare .score")]
        assert said == pytest.approx(scores, abs=1e-4)
        assert page.text("#compare .words") == ["Same speaker", "Other speaker"]
        assert not page.complaints
        assert all(each.startswith((address, "blob:")) for each in page.requests)
