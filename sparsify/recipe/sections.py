"""The sections of a recipe, one for each part of a training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from sparsify.recipe.layout import by_layer, by_tensor
from sparsify.recipe.validation import Fraction, OpenFraction, Options, Section
from sparsify.recipe.words import SYNTHETIC, CorpusLayout, LabelPlace
from sparsify.sparsity.selection import Selection


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not exceed the second")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
FractionRange = Annotated[tuple[Fraction, Fraction], AfterValidator(_ascending)]
PositiveRange = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


# Compiling takes as long as 600 to 800 steps save, on idle cores and with nothing in torch's cache
# (benchmarks/results/training_step.json).
_COMPILING_PAYS = 1000
Widths = Annotated[Options, BeforeValidator(by_tensor), PlainSerializer(by_layer)]


class FrontEnd(Section):
    """How a waveform becomes features; travels with the artifact.

    Attributes:
        preset: `sherpa` (Povey window, band up to 400 Hz below Nyquist, frames centred; what
            sherpa-onnx computes), `wespeaker` (Hamming window, full band, whole frames only),
            `speechbrain`, `tfmel` or `resemblyzer` (no Kaldi features, see
            `sparsify.audio.features`).
        sample_rate: In Hz; audio at another rate is resampled.
        num_mel_bins: Filterbank size.
    """

    preset: Literal["sherpa", "wespeaker", "speechbrain", "tfmel", "resemblyzer"] = "sherpa"
    sample_rate: int = Field(default=16000, ge=8000, le=384_000)
    num_mel_bins: int = Field(default=80, ge=8, le=1024)


class OwnFrontEnd(FrontEnd):
    """A front end that the model computes itself: what it is given are samples."""


class ModelSection(Section):
    """Architecture name and its options.

    Attributes:
        name: A registered architecture or `module:factory`.
        options: Keyword arguments of the architecture, such as `channels`.
        widths: Of a network without its dead channels, what is smaller, by layer and tensor;
            `--init-from` sets it.
        ignore: Glob patterns of parameter names to protect from pruning.
        include: Glob patterns of parameter names to prune besides the weights of convolutions and
            linear layers, such as those of an LSTM or an embedding.
        keep_layers: Whether every layer keeps a weight, however small, where the weights of all
            layers are compared.
        init_from: Run directory, artifact or state dict whose weights training starts from.
    """

    name: str = "ecapa-tdnn"
    options: Options = Field(default_factory=dict)
    widths: Widths = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    keep_layers: bool = True
    init_from: str | None = None

    @property
    def selection(self) -> Selection:
        """What may become sparse."""
        return Selection(self.ignore, self.include)


class DataSection(Section):
    """What is trained on.

    Attributes:
        path: Folder with one folder per speaker, another corpus, a manifest, or `synthetic`.
        layout: What `path` is; `auto` recognises it.
        crop_seconds: Length of a training crop.
        validation_speakers: Speakers held out of training for validation trials.
        validation_trials: In their place, a trial list; all speakers are then trained on.
        validation_root: Folder that its names start from.
        trial_label: Which field of its lines is the label, where that is in doubt.
        synthetic_speakers: Number of built-in synthetic speakers.
        synthetic_utterances: Utterances per synthetic speaker.
    """

    path: str = SYNTHETIC
    layout: CorpusLayout = "auto"
    crop_seconds: float = Field(default=1.5, gt=0.1, le=3600)
    validation_speakers: int = Field(default=10, ge=2)
    validation_trials: str | None = None
    validation_root: str | None = None
    trial_label: LabelPlace | None = None
    synthetic_speakers: int = Field(default=48, ge=4)
    synthetic_utterances: int = Field(default=12, ge=2)

    @model_validator(mode="after")
    def _trials_have_audio(self) -> Self:
        if (self.validation_trials is None) != (self.validation_root is None):
            raise ValueError("validation_trials and validation_root belong together: give both")
        if self.trial_label is not None and self.validation_trials is None:
            raise ValueError("trial_label is of validation_trials: give these, too")
        return self


class SpecAugmentSection(Section):
    """Stretches of the features of training crops that are set to their mean (arXiv 1904.08779).

    Attributes:
        probability: Share of crops that are masked.
        time_masks: Masks over time per crop.
        time_frames: Longest of them.
        frequency_masks: Masks over frequency per crop.
        frequency_bins: Widest of them.
    """

    probability: Fraction = 0.0
    time_masks: int = Field(default=1, ge=0)
    time_frames: int = Field(default=10, ge=0)
    frequency_masks: int = Field(default=1, ge=0)
    frequency_bins: int = Field(default=8, ge=0)


class AugmentSection(Section):
    """Seeded corruption of training crops; each part can be switched off with 0 or an empty list.

    A crop that is corrupted is equalised, and then either put into a room or made noisy.

    Attributes:
        speeds: Playback speeds; each except 1.0 makes a new virtual speaker of every speaker.
        probability: Share of crops that are corrupted.
        equaliser_db: Standard deviation of the random smooth equalisation.
        noise: Folder of recordings of noise, such as MUSAN; `null` generates coloured noise.
        noise_snr_db: Range of the signal-to-noise ratio of recordings in subfolders of that name;
            those elsewhere take the range of `noise`.
        noise_colour_db: Standard deviation of the random smooth spectrum of generated noise.
        snr_db: Range of the signal-to-noise ratio of generated noise.
        reverb_share: Share of the corrupted crops that are reverberated instead of made noisy.
        reverb: Folder of recordings of room impulse responses; `null` simulates rooms.
        rt60: Range of the reverberation time of simulated rooms in seconds.
        spec_augment: Masks over the features.
    """

    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = (1.0, 0.9, 1.1)
    probability: Fraction = 0.6
    equaliser_db: float = Field(default=4.0, ge=0)
    noise: str | None = None
    noise_snr_db: dict[str, Range] = Field(
        default_factory=lambda: {"noise": (0.0, 15.0), "speech": (10.0, 30.0), "music": (5.0, 15.0)}
    )
    noise_colour_db: float = Field(default=8.0, ge=0)
    snr_db: Range = (0.0, 20.0)
    reverb_share: Fraction = 0.0
    reverb: str | None = None
    rt60: Annotated[PositiveRange, AfterValidator(_ascending)] = (0.2, 0.8)
    spec_augment: SpecAugmentSection = SpecAugmentSection()

    @model_validator(mode="after")
    def _other_noise_has_a_range(self) -> Self:
        if "noise" not in self.noise_snr_db:
            raise ValueError("noise_snr_db needs a range for 'noise', which others default to")
        return self


class LargeMarginSection(Section):
    """Fine-tuning at the end: longer crops, a larger margin, no virtual speakers.

    Attributes:
        begin: Share of training after which it begins; 1 does without.
        margin: Angular margin in radians.
        crop_seconds: Length of a training crop.
    """

    begin: Fraction = 1.0
    margin: float = Field(default=0.5, ge=0, lt=1.5)
    crop_seconds: float = Field(default=6.0, gt=0.1, le=3600)


class ObjectiveSection(Section):
    """Additive angular margin softmax.

    Attributes:
        scale: Scale of the cosine logits.
        margin: Final angular margin in radians.
        margin_ramp: The margin grows from 0 between these shares of training.
        large_margin: Fine-tuning at the end.
    """

    scale: float = Field(default=32.0, gt=0)
    margin: float = Field(default=0.2, ge=0, lt=1.5)
    margin_ramp: FractionRange = (0.15, 0.5)
    large_margin: LargeMarginSection = LargeMarginSection()


class DistillationSection(Section):
    """Learning the embeddings of another model.

    Attributes:
        teacher: Run directory or artifact of a model with the same sample rate and embedding size,
            whatever its front end; `null` does without.
        loss: `cosine` (1 − cos) or `mse` (mean square of the difference).
        weight: Factor of this loss beside that of the speakers.
        labels: Whether the speakers are learnt too; without, the teacher's embeddings are all.
    """

    teacher: str | None = None
    loss: Literal["cosine", "mse"] = "cosine"
    weight: float = Field(default=1.0, gt=0)
    labels: bool = True

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Self:
        if not self.labels and self.teacher is None:
            raise ValueError("without labels nothing is learnt: name a distillation.teacher")
        return self


class PlateauSection(Section):
    """When the plateau schedule lowers the learning rate.

    Attributes:
        factor: What the rate is multiplied by.
        patience: Validations without a new lowest EER that are waited for first.
    """

    factor: OpenFraction = 0.5
    patience: int = Field(default=3, ge=0)


class TrainingSection(Section):
    """Length, batches, learning-rate shape and precision of a run.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Crops per step, over all processes.
        micro_batches: Pieces in which the batch of a step is computed, each with batch-norm
            statistics of its own; several processes make at least one each.
        schedule: Shape of the learning rate after the warm-up: `cosine` (half a cosine),
            `exponential` (from the first step) or `plateau`.
        warmup: Share of training in which the learning rate rises linearly.
        final_lr: Final learning rate as a share of the peak; the least one on a plateau.
        plateau: Only of the plateau schedule.
        gradient_clip: Largest norm of the gradient.
        batch_norm_batches: Batches over which the statistics of batch norm are averaged anew before
            a validation; 0 leaves the running averages.
        average: Validated models, landed and on target, whose weights are averaged in the end; 1
            does without.
        average_of: Whether these are the `last` or the `best` ones.
        precision: `bf16` and `fp16` compute convolutions and products in that type (autocast);
            `auto` takes bf16 where the processor has the instructions.
        compile: Compile the network with torch.compile; `auto` does so where there are enough steps
            to make up for the time that it takes.
        sparse_convolutions: Steps leave out the zeros of convolutions, on a CPU in fp32; `auto`
            does so where that is the precision and something is to become zero.
        quantisation_aware: Steps see weights and inputs of layers rounded as in int8 exports; for
            the end of a training, with `model.init_from`.
        workers: Data-loader processes; `null` chooses from the number of cores.
        log_every: Steps between records in `metrics.jsonl`.
        validate_every: Steps between validations and checkpoints.
        tensorboard: Whether the records are also written as event files for TensorBoard, into the
            folder `tensorboard` of the run.
    """

    steps: int = Field(default=1000, ge=1, le=10**9)
    batch_size: int = Field(default=64, ge=2, le=10**6)
    micro_batches: int = Field(default=1, ge=1)
    schedule: Literal["cosine", "exponential", "plateau"] = "cosine"
    warmup: Fraction = 0.05
    final_lr: Fraction = 0.01
    plateau: PlateauSection = PlateauSection()
    gradient_clip: float = Field(default=5.0, gt=0)
    batch_norm_batches: int = Field(default=20, ge=0)
    average: int = Field(default=1, ge=1)
    average_of: Literal["last", "best"] = "last"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: Literal[True, False, "auto"] = False
    sparse_convolutions: Literal[True, False, "auto"] = "auto"
    quantisation_aware: bool = False
    workers: int | None = Field(default=None, ge=0)
    log_every: int = Field(default=20, ge=1)
    validate_every: int = Field(default=250, ge=1)
    tensorboard: bool = False

    @model_validator(mode="after")
    def _pieces_are_equal(self) -> Self:
        if self.batch_size % self.micro_batches or self.batch_size < 2 * self.micro_batches:
            raise ValueError(
                f"batch_size {self.batch_size} does not split into {self.micro_batches}"
                " micro_batches of equal size, at least 2"
            )
        return self

    @model_validator(mode="after")
    def _rounding_is_not_compiled(self) -> Self:
        if self.compile is True and self.quantisation_aware:
            raise ValueError("quantisation_aware training is not compiled: leave one of them out")
        return self

    @model_validator(mode="after")
    def _zeros_are_left_out_in_fp32(self) -> Self:
        if self.sparse_convolutions is not True:
            return self
        if self.precision != "fp32":
            raise ValueError(
                f"sparse_convolutions compute in fp32, and precision is {self.precision}: set it to"
                " fp32, or leave sparse_convolutions at auto"
            )
        if self.quantisation_aware:
            raise ValueError(
                "quantisation_aware training has no sparse_convolutions: leave one of them out"
            )
        return self

    @property
    def compiles(self) -> bool:
        """Whether the network is compiled."""
        if self.compile == "auto":
            return self.steps >= _COMPILING_PAYS and not self.quantisation_aware
        return self.compile

    @model_validator(mode="after")
    def _decay_has_an_end(self) -> Self:
        if self.schedule == "exponential" and self.final_lr == 0:
            raise ValueError("schedule 'exponential' never reaches 0: give a positive final_lr")
        return self
