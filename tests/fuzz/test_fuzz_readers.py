"""Readers of anybody's files: a damaged file gives a value or one sentence, in bounded memory."""

import contextlib
import json
import logging
import random
import resource
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from safetensors.torch import save

from sparsify.artifact import room
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.comparison.cells import Cell
from sparsify.comparison.curves import read_curves
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.plan import PLAN_FILE, Plan, Tuning, read_plan
from sparsify.comparison.rows import read_json, summary_of
from sparsify.comparison.schema import EvaluationFile
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.errors import SparsifyError
from sparsify.exporters.export import export_artifact
from sparsify.exporters.mnn.graph import fill_zeros
from sparsify.exporters.speaker_model import SpeakerModel
from sparsify.models import speechbrain, wespeaker
from sparsify.models.registry import build_model
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.report.page import write_report
from sparsify.training.run_directory import RunDirectory
from sparsify.verification.calibration import Calibration, read_calibration, write_calibration
from sparsify.verification.embedding import locate
from sparsify.verification.embedding_tables import EmbeddingTable, read_table, write_table
from sparsify.verification.scoring import Scoring
from sparsify.verification.trials import read_speakers, read_trials

from . import structures
from .mutations import mutated

ROOT = Path(__file__).parents[2]
GROWTH = 400 << 20  # bytes that no damaged file of a few kilobytes may take
LIMIT = 8 << 30  # of addresses, in case it would

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Subject:
    """What is damaged, and who reads it.

    Attributes:
        valid: Contents that can be read.
        read: Reads the file.
        file: Its name in the folder.
        structured: Damage that knows the form.
        beside: Other files that it needs.
        share: Of the usual number of inputs, for slow readers.
    """

    valid: tuple[bytes, ...]
    read: Callable[[Path], object]
    file: str
    structured: structures.Mutate = mutated
    beside: Mapping[str, bytes] = field(default_factory=dict)
    share: float = 1.0


def read_model(path):
    artifact = load_artifact(path)
    read_foreign(path)
    assert artifact.recipe is None or artifact.recipe.name
    mean = SpeakerModel(artifact, lambda feats: feats[0], artifact.front_end).embedding_mean
    assert mean is None or mean.ndim == 1
    artifact.build()


def read_foreign(path):
    assert weights_table(load_artifact(path)).parameters


def read_mnn(path):
    read_foreign(path)
    fill_zeros(path, path.with_name("filled.mnn"), lambda weight: weight + 1)


def read_report(path):
    results = gather([Part(path)])
    to_csv(results)
    to_markdown(results)
    write_report(results, path.with_suffix(".html"))


def read_lists(path):
    trials = read_trials(path)
    with contextlib.suppress(SparsifyError):  # there are no files
        locate(trials.utterances, path.parent)


def tensors():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 12, generator=generator) * (
        torch.rand(8, 12, generator=generator) > 0.7
    )
    return {"a.weight": weight, "a.bias": torch.randn(8, generator=generator)}


def safetensors_files(folder):
    model = build_model("resnet18", channels=1, feature_dim=8, embedding_dim=4)
    for parameter in model.parameters():
        parameter.data[torch.rand(parameter.shape) > 0.5] = 0
    mean = torch.zeros(4)
    for layout in ("dense", "bitmask", "coded"):
        recipe = Recipe(front_end={"num_mel_bins": 8})
        save_model(
            model, folder / f"{layout}.safetensors", recipe, layout=layout, embedding_mean=mean
        )
        yield (folder / f"{layout}.safetensors").read_bytes()
        yield unsealed((folder / f"{layout}.safetensors").read_bytes())
    yield save(tensors())


def with_metadata(content, change):
    """A safetensors file with other metadata."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[start:]


def unsealed(content):
    """The same file before there were seals, so that other damage is looked at."""

    def change(metadata):
        for key in ("structure_digest", "content_digest"):
            del metadata[key]

    return with_metadata(content, change)


def shrunk_file(folder):
    """A model without its dead channels, one of them in a sum."""
    model = build_model("resnet18", channels=3, feature_dim=8, embedding_dim=4, blocks=[1] * 4)
    with torch.no_grad():
        for layer, norm in ((model.conv1, model.bn1), (model.layer1[0].conv2, model.layer1[0].bn2)):
            for tensor in (layer.weight, norm.weight, norm.bias):
                tensor[1] = 0
        model.layer1[0].bn2.weight[2] = model.layer1[0].bn2.bias[2] = 0
        model.layer1[0].conv2.weight[2] = 0
    save_model(model, folder / "model.safetensors", Recipe(front_end={"num_mel_bins": 8}))
    artifact = load_artifact(folder / "model.safetensors")
    export_artifact(artifact, folder / "shrunk.safetensors", "safetensors", shrink=True)
    return unsealed((folder / "shrunk.safetensors").read_bytes())


def changed_widths(data, rng):
    """The same file with other widths: negative, huge, of unknown names."""

    def change(metadata):
        architecture = json.loads(metadata["architecture"])
        architecture["widths"] = structures.changed(architecture["widths"], rng)
        metadata["architecture"] = json.dumps(architecture)

    return with_metadata(data, change)


def onnx_files():
    made = {name: tensor.numpy() for name, tensor in tensors().items()}
    weight = made["a.weight"]
    dense = [numpy_helper.from_array(array, name) for name, array in made.items()]
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(weight[weight != 0], "w"),
        numpy_helper.from_array(np.argwhere(weight), "indices"),
        weight.shape,
    )
    linear = helper.make_sparse_tensor(
        numpy_helper.from_array(weight[weight != 0], "w"),
        numpy_helper.from_array(np.flatnonzero(weight), "indices"),
        weight.shape,
    )
    apart = TensorProto(name="w", dims=[8, 4], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "data"), ("offset", "0"), ("length", "128")):
        apart.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["c"], value=dense[0])
    gemm = helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["y"], transB=1)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 12]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 8]),
    ]
    levels = {
        "q": (weight * 10).astype(np.int8),
        "z": np.arange(len(weight), dtype=np.int8),
        "s": np.full(len(weight), 0.1, np.float32),
    }
    integers = [numpy_helper.from_array(array, name) for name, array in levels.items()]
    meaning = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["a.weight"], axis=0)
    for nodes, initializers, sparse_ones in (
        ([constant, gemm], dense, []),
        ([constant, gemm], dense[1:], [sparse, linear]),
        ([constant, gemm], [apart], []),
        ([meaning, gemm], [*dense[1:], *integers], []),
    ):
        graph = helper.make_graph(
            nodes, "g", ends[:1], ends[1:], initializers, sparse_initializer=sparse_ones
        )
        model = helper.make_model(graph)
        helper.set_model_props(model, {"sample_rate": "16000", "sparsify.layout": "dense"})
        yield model.SerializeToString()


def state_dicts(folder, *, zipped):
    state = tensors()
    kept = {
        "plain": {"state_dict": state | {"half": state["a.bias"].half()}},
        "sparse": {
            "coo": state["a.weight"].to_sparse(),
            "csr": state["a.weight"].to_sparse_csr(),
            "view": state["a.weight"][:, 3],
            "expanded": state["a.bias"][:, None].expand(8, 8),
        },
    }
    for content in kept.values():
        torch.save(content, folder / "m.pt", _use_new_zipfile_serialization=zipped)
        yield (folder / "m.pt").read_bytes()


def npz(folder):
    embeddings = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_table(EmbeddingTable(("a", "b"), ("s", "t"), embeddings, "digest"), folder / "e.npz")
    return (folder / "e.npz").read_bytes()


def calibration(folder):
    scoring = Scoring(np.ones(3), np.eye(3))
    write_calibration(Calibration({"eer": 0.5}, scoring, "digest"), folder / "c.json")
    arrays = (folder / "c.arrays.safetensors").read_bytes()
    return (folder / "c.json").read_bytes(), {"c.arrays.safetensors": arrays}


def results():
    content = json.loads((ROOT / "benchmarks/results/speech_mini_resnet34.json").read_text())
    content["runs"] = content["runs"][:3]
    latency = {"engine": "onnxruntime", "artifact": "dense", "threads": 1, "median_ms": 2.5}
    content["runs"][0]["latency"] = {"machine": {"cpu": "x"}, "rows": [latency]}
    for run in content["runs"]:
        run["curves"] = {name: column[:5] for name, column in run["curves"].items()}
        run["layers"] = run["layers"][:3]
    return json.dumps(content).encode()


def plan():
    runs = [Cell(method="dense", target_sparsity=None, seed=0)]
    runs.append(Cell(method="gmp", target_sparsity=0.9, seed=0, options=(("lr", 0.1),)))
    tunings = (Tuning(method="gmp", option="lr", values=(0.1, 0.2)),)
    made = Plan(recipe=Recipe(), runs=tuple(runs), tests=(), tunings=tunings, commands=("a",))
    return yaml.safe_dump(made.model_dump(mode="json")).encode()


def changed_yaml(data, rng):
    """As JSON, which is YAML, too."""
    content = json.dumps(yaml.load(data, yaml.CSafeLoader)).encode()
    return structures.changed_json(content, rng)


def evaluated(**more):
    return json.dumps({"eer_percent": 5.0, "min_dcf": 0.5, **more}).encode()


HYPERPARAMETERS = b"""
sample_rate: 16000
n_mels: &n 80
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: *n
    sample_rate: !ref <sample_rate>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    dilations: [1, 2, 3, 4, 1]
    activation: !name:torch.nn.ReLU
"""
CONFIG = b"""
model: ResNet50
model_args: {feat_dim: 80, embed_dim: 256, pooling_func: TSTP, two_emb_layer: false}
dataset_args:
    resample_rate: 16000
    fbank_args: {num_mel_bins: 80, frame_shift: 10, frame_length: 25}
    cmvn_args: {norm_mean: true, norm_var: false}
"""
RECIPE = (ROOT / "sparsify/recipes/speech-mini.yaml").read_bytes()
SHRUNK = b"model:\n  widths:\n    conv1: {weight: [2, 1, 3, 3]}\n    bn1.bias: [2]\n"
LISTED = (
    b"1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n",
    b"b/1.wav a/1.wav nontarget\na/1.wav a/2.wav target\n",
)
METRICS = b"".join(
    json.dumps({"step": n, "loss": 2.5 / n, "sparsity": 0.5, "lambda": 1e-3}).encode() + b"\n"
    for n in range(1, 6)
)
SUMMARY = evaluated(
    **dict.fromkeys(("sparsity", "global_sparsity"), 0.5),
    **dict.fromkeys(("parameters", "nonzero", "steps", "seconds", "selected_step", "epochs"), 1),
    device="cpu",
)
EVALUATION = json.dumps(
    {
        "test_set": {"trials_sha256": "0"},
        "result": {
            "eer_percent": 5.0,
            "min_dcf": 0.5,
            "confidence": {"eer_percent": [4.0, 6.0], "resampled_eer_percent": [5.0]},
        },
    }
).encode()


def subjects(folder: Path) -> dict[str, Subject]:
    shipped = {
        name: {
            key.removeprefix("state_dict."): torch.from_numpy(array)
            for key, array in load_file(file).items()
            if key.startswith("state_dict.")
        }
        for name, file in (
            ("speechbrain", ROOT / "tests/golden/speechbrain_ecapa_tdnn_c16.safetensors"),
            ("wespeaker", ROOT / "tests/golden/wespeaker_resnet50_m4.safetensors"),
        )
    }
    described, arrays = calibration(folder)
    data = {"data": np.arange(32, dtype=np.float32).tobytes()}
    zip_change = structures.changed_zip(structures.changed_pickle)

    def run(path: Path) -> RunDirectory:
        return RunDirectory(path.parent)

    return {
        "safetensors": Subject(
            tuple(safetensors_files(folder)),
            read_model,
            "m.safetensors",
            structures.changed_safetensors,
        ),
        "shrunk": Subject(
            (shrunk_file(folder),), read_model, "m.safetensors", changed_widths, share=0.5
        ),
        "onnx": Subject(
            tuple(onnx_files()),
            read_foreign,
            "m.onnx",
            structures.changed_proto(onnx.ModelProto),
            data,
        ),
        "mnn": Subject(
            tuple(file.read_bytes() for file in (ROOT / "tests/golden").glob("*.mnn")),
            read_mnn,
            "m.mnn",
        ),
        "pt": Subject(tuple(state_dicts(folder, zipped=True)), read_foreign, "m.pt", zip_change),
        "legacy pt": Subject(
            tuple(state_dicts(folder, zipped=False)),
            read_foreign,
            "m.pt",
            structures.changed_pickle,
        ),
        "recipe": Subject((RECIPE, SHRUNK), load_recipe, "recipe.yaml", changed_yaml),
        "speechbrain": Subject(
            (HYPERPARAMETERS,),
            lambda path: speechbrain.interpret(path.with_name("m.ckpt"), shipped["speechbrain"]),
            "hyperparams.yaml",
        ),
        "wespeaker": Subject(
            (CONFIG,),
            lambda path: wespeaker.interpret(path.with_name("m.pt"), shipped["wespeaker"]),
            "config.yaml",
            changed_yaml,
        ),
        "results": Subject(
            (results(),), read_report, "results.json", structures.changed_json, share=0.25
        ),
        "plan": Subject((plan(),), lambda path: read_plan(path.parent), PLAN_FILE, changed_yaml),
        "evaluation": Subject(
            (EVALUATION,),
            lambda path: read_json(path, EvaluationFile),
            "test.json",
            structures.changed_json,
        ),
        "metrics": Subject((METRICS,), lambda path: read_curves(run(path)), "metrics.jsonl"),
        "summary": Subject(
            (SUMMARY,), lambda path: summary_of(run(path)), "summary.json", structures.changed_json
        ),
        "calibration": Subject(
            (described,),
            lambda path: read_calibration(path, "digest"),
            "c.json",
            structures.changed_json,
            arrays,
        ),
        "npz": Subject((npz(folder),), read_table, "e.npz", structures.changed_zip(mutated)),
        "trials": Subject(LISTED, read_lists, "trials"),
        "speakers": Subject((b"a/1.wav a\nb/1.wav b\n",), read_speakers, "utt2spk"),
        "enrolment": Subject(
            (b"m a/1.wav a/2.wav\nn b/1.wav\n",),
            lambda path: read_trials(path.with_name("trials"), path),
            "enroll.lst",
            beside={"trials": b"1 m a/1.wav\n0 n a/1.wav\n"},
        ),
    }


NAMES = (
    *(
        "safetensors",
        "shrunk",
        "onnx",
        "mnn",
        "pt",
        "legacy pt",
        "recipe",
        "speechbrain",
        "wespeaker",
        "results",
    ),
    *("plan", "evaluation", "metrics", "summary", "calibration", "npz", "trials", "speakers"),
    "enrolment",
)


@pytest.fixture(scope="module")
def all_subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    found = subjects(tmp_path_factory.mktemp("valid"))
    assert tuple(found) == NAMES
    return found


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little memory is enough for little files."""
    monkeypatch.setattr(room, "_FREE", 1 << 22)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, limits[1]))
    before = peak()
    yield
    grown = peak() - before
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert grown < GROWTH


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_give_a_value_or_a_sentence(
    all_subjects, name, fuzz_count, bounded, tmp_path
):
    logging.getLogger("sparsify").setLevel(logging.CRITICAL)
    subject = all_subjects[name]
    for other, content in subject.beside.items():
        (tmp_path / other).write_bytes(content)
    path = tmp_path / subject.file
    surprises: dict[str, str] = {}
    sentences = []
    count = max(1, int(fuzz_count * subject.share))
    for number in range(count):
        rng = random.Random(f"{name} {number}")
        damage = rng.choice((mutated, subject.structured))
        path.write_bytes(damage(rng.choice(subject.valid), rng))
        try:
            subject.read(path)
        except SparsifyError as error:
            sentences.append(str(error))
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if "/sparsify/" in frame.filename] or frames
            where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
            surprises.setdefault(f"{type(error).__name__} at {where}", f"{number}: {error}"[:300])
    print(f"{name}: {count} inputs, {len(sentences)} refused")
    assert not surprises
    assert 0 < max(map(len, sentences)) < 600
    assert not any("\n" in sentence for sentence in sentences)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_can_be_read_before(all_subjects, name, tmp_path):
    subject = all_subjects[name]
    for other, content in subject.beside.items():
        (tmp_path / other).write_bytes(content)
    for content in subject.valid:
        (tmp_path / subject.file).write_bytes(content)
        said = "nothing"
        try:
            subject.read(tmp_path / subject.file)
        except SparsifyError as error:
            said = str(error)
        assert said == "nothing" or "not say which network" in said
