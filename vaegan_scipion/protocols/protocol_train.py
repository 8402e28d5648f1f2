"""Form, settings and steps that 2D and 3D training share."""
import json
import os
from typing import Any, Dict, List

import pyworkflow.protocol.params as params

from ..constants import PARTICLES_STAR, RUN_DIR
from ..convert.from_engine import Picture
from ..engine.vaegan_engine.contract import errors, presets, result_files, run_json
from ..engine.vaegan_engine.contract.boxes import cropped_box_px
from ..engine.vaegan_engine.contract.record import read_records
from ..engine.vaegan_engine.contract.records import ComponentRow
from ..engine.vaegan_engine.contract.setting import field_of
from ..engine.vaegan_engine.contract.settings import DataConfig, ModelConfig, StatesRun, TrainingConfig, TrainRun
from ..engine.vaegan_engine.contract.status import Status, read_status
from ..engine_run import result_file
from ..prepared_images import taken_note
from .box_field import chosen_box_px, empty_text
from .cost_note import add_cost_line, cost_note
from .form_settings import (
    add_setting,
    given_values,
    help_text,
    in_words_of_the_form,
    label_text,
    optional,
    values_of,
)
from .particle_notes import contrast_notes, snr_notes
from .protocol_base import (
    VaeganProtBase,
    kept_box_ang,
    radius_frac,
    set_digest,
    validate_diameter,
    validate_particles,
    warn_particles,
)

POSED_PRESET = "posed"  # of the trainings with poses
IMAGE_SETTINGS = ("crop_frac", "invert_contrast", "ignore_ctf")
IMAGES = "thousand images"  # unit of a training's length
NETWORKS = {True: "VAE-GAN [Larsen2016]", False: "variational autoencoder [KingmaWelling2014]"}  # with a critic or not
POSES_SEEN = "poses_seen.txt"  # digest of the poses' table that the training was begun with
SECTIONS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
N_PARTICLES_MIN = 16
N_PARTICLES_FEW = 1000


class VaeganProtTrain(VaeganProtBase):
    """Base of the trainings; a subclass names the command, the outputs and the citations."""

    _shares = True
    COMMAND = ""
    OWN_IMAGES = "True"  # condition of the fields that say how images are made
    NO_POSES = "True"  # condition of the fields that a training with poses has not

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        self._defineInputParams(form)
        form.addParam("continueFrom", params.PointerParam, pointerClass=type(self).__name__, allowsNull=True,
                      label="Start from another training (optional)",
                      help="Start with the networks of an older run instead of from scratch: to train longer, or on "
                           "more particles. Box, part kept, preset and components must be those of that run.")
        add_setting(form, DataConfig, "max_images", f"At least {N_PARTICLES_MIN}", expertLevel=params.LEVEL_ADVANCED)
        add_cost_line(form)
        form.addSection(label="Particle")
        add_setting(form, DataConfig, "box_px", empty=empty_text(self._empty("data", "box_px")))
        add_setting(form, DataConfig, "crop_frac", "The wizard shows it on your particles", condition=self.OWN_IMAGES)
        add_setting(form, StatesRun, "particle_diameter_ang", "The wizard shows it on your particles",
                    condition=self.OWN_IMAGES)
        add_setting(form, DataConfig, "invert_contrast", condition=self.OWN_IMAGES)
        add_setting(form, DataConfig, "ignore_ctf", condition=self.OWN_IMAGES, expertLevel=params.LEVEL_ADVANCED)
        form.addSection(label="Training")
        preset = field_of(TrainRun, "preset")
        form.addParam("preset", params.EnumParam, choices=self._presets(), default=0, label=label_text(preset),
                      help=help_text(preset), condition=self.NO_POSES)
        add_setting(form, ModelConfig, "n_categories", empty=self._empty("model", "n_categories"),
                    condition=self.NO_POSES)
        add_setting(form, TrainingConfig, "total_kimg", empty=self._empty("training", "total_kimg"), unit=IMAGES)
        self._defineAdvancedParams(form)
        self._defineComputeParams(form)

    def _defineInputParams(self, form: Any) -> None:
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles",
                      important=True, label="Input particles",
                      help="Particles with CTF; no poses are needed. They may be uncurated.")

    def _defineAdvancedParams(self, form: Any) -> None:
        advanced = params.LEVEL_ADVANCED
        add_setting(form, ModelConfig, "max_shift_frac", condition=self.NO_POSES, expertLevel=advanced)
        add_setting(form, TrainingConfig, "batch_size", empty=self._empty("training", "batch_size"),
                    expertLevel=advanced)
        form.addParam("extraSettings", params.StringParam, default="", expertLevel=advanced,
                      label="Other settings",
                      help="SECTION.KEY=VALUE, separated by spaces, as on the engine's command line; "
                           "for example training.critic_lr=1e-4 model.dropout=0.1")

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = set_digest(self.getParticlesPointer().get())
        # Continue compares the arguments of each step alone: whatever matters goes to all of them
        settings = json.dumps([run_json.to_dict(self._getSettings()), self._startDigest(), self._posesDigest()],
                              sort_keys=True)
        self._insertFunctionStep(self.convertInputStep, f"{digest} {self._posesDigest()}".rstrip(),
                                 self.usesAlignment(), needsGPU=False)
        self._insertFunctionStep(self.trainStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str, aligned: bool) -> None:
        self._convertAnew(self.getParticlesPointer().get(), self._getExtraPath(RUN_DIR), aligned)
        self._forgetOf(POSES_SEEN, self._posesDigest(), self._getExtraPath(RUN_DIR))

    def trainStep(self, digest: str, settings: str) -> None:
        status = self._runEngine(self._getSettings(), self.COMMAND, RUN_DIR)
        self.info(f"trained on {status.images_seen} images, on {status.device}")

    def createOutputStep(self, digest: str, settings: str) -> None:
        raise NotImplementedError("a subclass creates the outputs")

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems = self._validateCompute()
        particles = self.getParticlesPointer().get()
        if particles is None and self.isPosed():
            return problems  # no poses yet: what is said of them would be wrong
        if particles is not None:
            problems += self._validateDiameter(particles)
        try:
            settings = self._getSettings()
        except errors.EngineError as error:
            return problems + [in_words_of_the_form(str(error), self, SECTIONS)]
        if particles is None:
            return problems
        problems += validate_particles(particles, not settings.data.ignore_ctf, N_PARTICLES_MIN)
        if 0 != settings.data.max_images < N_PARTICLES_MIN:
            problems.append(f"Particles to train on is {settings.data.max_images}. Use at least {N_PARTICLES_MIN}, or "
                            "leave it empty for all.")
        box_px = particles.getXDim()
        kept_px = cropped_box_px(box_px, settings.data.crop_frac)
        if settings.data.box_px > kept_px:
            problems.append(f"The training box is {settings.data.box_px} px, more than the {kept_px} px kept "
                            f"of the images ({box_px} px). Use a smaller training box, or leave it empty.")
        return problems + self._validateStart(settings)

    def _validateDiameter(self, particles: Any) -> List[str]:
        """What is wrong with the particle's diameter for these particles."""
        return validate_diameter(optional(self, "particleDiameterAng"), kept_box_ang(self, particles))

    def _validateStart(self, settings: TrainRun) -> List[str]:
        """What keeps the networks of the older run from being used."""
        older = self.continueFrom.get()
        if older is None:
            return []
        name = older.getRunName()
        if older.getObjId() == self.getObjId():
            return ["A training cannot start from itself. Use Continue, or another run."]
        if not read_status(older.getRunDir()).checkpoint:
            return [f"The run '{name}' has no checkpoint. Let it train for a while first."]
        try:
            before = run_json.read_run(os.path.join(older.getRunDir(), result_files.RUN_JSON))
        except errors.EngineError as error:
            return [str(error)]
        pairs = [("data", key) for key in ("box_px", "crop_frac")]
        pairs += [("model", key) for key in run_json.to_dict(settings.model)]
        for section, key in pairs:
            old, new = getattr(getattr(before, section), key), getattr(getattr(settings, section), key)
            if old != new:
                text = (f"{section}.{key} is {new} here and was {old} in the run '{name}': its networks do not fit. "
                        "Give the same value, or start from scratch.")
                return [in_words_of_the_form(text, self, SECTIONS)]
        return []

    def _warnings(self) -> List[str]:
        particles, notes = self.getParticlesPointer().get(), self._warnCompute()
        if particles is None:
            return notes
        notes += self._warnAnew(self.COMMAND, RUN_DIR) + warn_particles(particles, N_PARTICLES_FEW)
        older = self.continueFrom.get()
        same = older.getParticlesPointer().get() if older is not None else None
        if same is not None and particles.getObjId() == same.getObjId() and self.seed.get() == older.seed.get():
            notes.append("The seed is that of the older run: the same images come in the same order again. "
                         "Take another seed.")
        data = self.getDataSettings()
        return notes + contrast_notes(particles, data.particle_radius_frac * data.crop_frac, data.invert_contrast)

    def _summary(self) -> List[str]:
        status = read_status(self._getExtraPath(RUN_DIR))
        seen, total = status.images_seen, status.total_images
        if seen is None or total is None:
            return ["The training has not begun.", *cost_note(self._getExtraPath(RUN_DIR))]
        lines = [f"{seen:,} of {total:,} images seen ({100 * seen / max(total, 1):.0f} % of the training), of "
                 f"{status.n_particles:,} particles, on {status.device}", self._pace(status),
                 f"Box {status.box_px} px, {status.pixel_size_ang:.3f} Å/px "
                 f"(Nyquist {2 * status.pixel_size_ang:.1f} Å)"]
        lines += taken_note(self.getRunDir())
        if self.continueFrom.get() is not None:
            lines.append(f"Started with the networks of '{self.continueFrom.get().getRunName()}'")
        lines += snr_notes(self.getRunDir())
        if status.warning:
            lines.append(status.warning)
        if status.error:
            lines.append(str(status.error))
        return [line for line in lines if line]

    def _pace(self, status: Status) -> str:
        """Images per second and, while it runs, the time left in the stage."""
        if status.images_per_second is None:
            return ""
        pace = f"{status.images_per_second:g} images/s"
        if status.state != "running":
            return pace
        if not self.isActive():
            return f"{pace}; stopped, Continue goes on from {status.checkpoint or 'the start'}"
        left = time_text(status.stage_seconds_left or 0.0)
        return f"{pace}, {left} left in this stage ({status.stage or self.COMMAND})"

    def _methods(self) -> List[str]:
        status = read_status(self._getExtraPath(RUN_DIR))
        if not status.finished:
            return []
        run = run_json.read_run(os.path.join(self.getRunDir(), result_files.RUN_JSON))
        kind = "3D" if self.COMMAND == "train3d" else "2D"
        source = self._posesText() or "without poses"
        parts = (f"{run.model.n_categories} components" if run.model.n_categories
                 else "one structure" if run.model.homogeneous
                 else f"a latent vector of {run.model.n_normal} numbers")
        critic = has_critic(run)
        what = f"{kind} {NETWORKS[critic]}"
        loss = f"loss {run.training.loss}, " if critic else ""
        return [f"A {what} with {parts} (preset {run.preset}, {loss}batch "
                f"{run.training.batch_size}, seed {status.seed}) was trained {source} on "
                f"{status.n_particles} particles of {status.box_px} px ({status.pixel_size_ang:.2f} Å/px) for "
                f"{status.images_seen / 1000:.0f} thousand images."]

    # --------------------------- UTILS functions ---------------------------
    def getNetworkText(self) -> str:
        """What was trained, for a methods section: "a VAE-GAN" with its citation."""
        return f"a {NETWORKS[self.hasCritic()]}"

    def hasCritic(self) -> bool:
        """Whether a critic was trained too: a VAE-GAN, and not a variational autoencoder alone."""
        path = os.path.join(self.getRunDir(), result_files.RUN_JSON)
        return has_critic(run_json.read_run(path) if os.path.exists(path) else self._getSettings())

    @classmethod
    def _presets(cls) -> List[str]:
        return [name for name, preset in presets.PRESETS[cls.COMMAND].items() if not preset.poses]

    @classmethod
    def _defaults(cls) -> TrainRun:
        """What the engine does when nothing is asked for."""
        return presets.build_run(cls.COMMAND, cls._presets()[0], {})

    @classmethod
    def _empty(cls, section: str, name: str) -> str:
        """What an empty field of a setting stands for: "fast 48, others 64" where the other presets agree."""
        values = {preset: getattr(getattr(presets.build_run(cls.COMMAND, preset, {}), section), name)
                  for preset in cls._presets()}
        first, *others = values
        if len(set(values.values())) == 1:
            return f"{values[first]:g}"
        if len({values[name] for name in others}) == 1:
            return f"{first} {values[first]:g}, others {values[others[0]]:g}"
        return ", ".join(f"{name} {value:g}" for name, value in values.items())

    def _getSettings(self) -> TrainRun:
        """The form as settings of the engine, paths relative to extra/. Raises ConfigError or DataError."""
        particles, older = self.getParticlesPointer().get(), self.continueFrom.get()
        changes: Dict[str, Dict[str, Any]] = {
            "data": {"particles": PARTICLES_STAR, **values_of(self, DataConfig, ("max_images",)),
                     **self._imageSettings(), **self._boxSettings(),
                     "phase_flipped": bool(particles is not None and particles.isPhaseFlipped())},
            "model": values_of(self, ModelConfig, ("max_shift_frac",)),
            "training": given_values(self, TrainingConfig, ("total_kimg", "batch_size")),
            "compute": vars(self._getCompute())}
        if older is not None:
            changes["training"]["continue_from"] = os.path.relpath(older.getRunDir(), self._getExtraPath())
        changes = run_json.merged(changes, self._modelSettings(changes["data"]))
        for text in (self.extraSettings.get() or "").split():
            changes = run_json.merged(changes, presets.parse_setting(text))
        return presets.build_run(self.COMMAND, self._preset(), changes)

    def _modelSettings(self, data: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
        """What the form asks of model and training for these images, by section."""
        return {"model": given_values(self, ModelConfig, ("n_categories",))}

    def _preset(self) -> str:
        """Name of the preset."""
        return POSED_PRESET if self.isPosed() else str(self.getEnumText("preset"))

    def _imageSettings(self) -> Dict[str, Any]:
        """How images are made of particles, and which poses they have: settings of `DataConfig`."""
        particles, values = self.getParticlesPointer().get(), values_of(self, DataConfig, IMAGE_SETTINGS)
        diameter_ang = optional(self, "particleDiameterAng")
        if particles is not None and diameter_ang is not None:
            values["particle_radius_frac"] = radius_frac(diameter_ang, kept_box_ang(self, particles))
        return values

    def _boxSettings(self) -> Dict[str, int]:
        """The training box of the form, or where its field is empty and the images are smaller, what they fill."""
        particles, given = self.getParticlesPointer().get(), given_values(self, DataConfig, ("box_px",))
        if given or particles is None:
            return given
        preset = presets.PRESETS[self.COMMAND][self._preset()].changes
        default_px = preset.get("data", {}).get("box_px", DataConfig().box_px)
        box_px = chosen_box_px(self, particles, default_px)
        return {} if box_px == default_px else {"box_px": box_px}

    def getStates(self) -> Any:
        """The run whose states' poses are taken; None where there is none."""
        return None

    def getAlignedBy(self) -> Any:
        """The run that found the alignment that was trained at; None where there is none."""
        return self.getStates()

    def isPosed(self) -> bool:
        """Whether the training is given poses."""
        return False

    def _posesText(self) -> str:
        """Where the poses are from, for a methods section; empty without."""
        return ""

    def usesAlignment(self) -> bool:
        """Whether the poses are those that the particles carry."""
        return False

    def _posesDigest(self) -> str:
        """Text that changes when the poses do; empty without."""
        return ""

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that are trained on."""
        return self.inputParticles

    def getDataSettings(self) -> DataConfig:
        """How the images were made that it trained on."""
        return self._getSettings().data

    def _startDigest(self) -> str:
        """Which networks an older run gives; empty when there is none."""
        older = self.continueFrom.get()
        if older is None:
            return ""
        status = read_status(older.getRunDir())
        return f"{older.getObjId()} {status.checkpoint} {status.networks} {status.n_particles} {status.seed}"

    def getRunDir(self) -> str:
        """Results folder of the training."""
        return str(self._getExtraPath(RUN_DIR))

    def getTrainingPixelSize(self) -> float:
        """Pixel size of the training images and of every map made from them, in A."""
        return float(read_status(self.getRunDir()).pixel_size_ang)

    def isVolumetric(self) -> bool:
        """Whether the trained model makes maps (3D) rather than images (2D)."""
        return self.COMMAND == "train3d"

    def isHomogeneous(self) -> bool:
        """Whether the trained model is one structure, without an encoder: there is nothing to cluster."""
        path = os.path.join(self.getRunDir(), result_files.RUN_JSON)
        return os.path.exists(path) and bool(result_files.read_json(path)["model"].get("homogeneous", False))

    def readComponents(self) -> List[ComponentRow]:
        """What the training says each component looks like."""
        return read_records(ComponentRow, result_file(self.getRunDir(), result_files.COMPONENTS_JSON), "train")

    def pictureOf(self, component: ComponentRow) -> Picture:
        """Where a component's map or image is."""
        path = str(result_file(self.getRunDir(), component.file))
        return Picture(0 if self.isVolumetric() else component.index + 1, path)


def has_critic(run: Any) -> bool:
    """Whether a training has a critic; without poses each has."""
    return run.training.adversarial_weight > 0 if run.data.posed else True


def citations_of_training(training: Any) -> List[str]:
    """Who made the networks of a training; of a VAE-GAN where there is none, or its settings cannot be read."""
    try:
        return ["Larsen2016"] if training is None or training.hasCritic() else ["KingmaWelling2014"]
    except errors.EngineError:
        return ["Larsen2016"]


def time_text(seconds: float) -> str:
    """Seconds as "1 h 05 min", "12 min" or "40 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
