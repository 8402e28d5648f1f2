"""Form, settings and steps that 2D and 3D training share."""
import json
from typing import Any, Dict, List

import pyworkflow.protocol.params as params

from ..constants import PARTICLES_STAR, RUN_DIR
from ..convert import Picture
from ..engine.vaegan_engine import contract, errors, presets, results
from ..engine_run import read_status, result_file
from .protocol_base import VaeganProtBase, set_digest, validate_particles

AS_PRESET = 0  # box, length, batch
CATEGORIES_AS_PRESET = -1
N_PARTICLES_MIN = 16
COMPONENTS_JSON = "components.json"
N_PARTICLES_FEW = 1000


class VaeganProtTrain(VaeganProtBase):
    """Base of the trainings; a subclass names the command, the outputs and the citations."""

    COMMAND = ""

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        data, fast, thesis = contract.DataConfig(), self._preset("fast"), self._preset("thesis")
        form.addSection(label="Input")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles",
                      important=True, label="Input particles",
                      help="Particles with CTF; no poses are needed. They may be uncurated.")
        form.addParam("preset", params.EnumParam, choices=self._presets(), default=0, label="Preset",
                      help="fast: learns in minutes to hours. thesis: the numbers of the thesis.")
        form.addParam("boxPx", params.IntParam, default=AS_PRESET, label="Training box (px)",
                      help="Images are Fourier-cropped to this box, a multiple of 8. 0 = as the preset "
                           f"(fast {fast.data.box_px}, thesis {thesis.data.box_px}).")
        form.addParam("cropFrac", params.FloatParam, default=data.crop_frac, label="Part of the box kept",
                      help="Central part of the image that is used, 0.1 to 1. Keep 1.3 particle diameters.")
        form.addParam("invertContrast", params.BooleanParam, default=data.invert_contrast,
                      label="Is the protein dark?",
                      help="Yes for particles from micrographs whose contrast was not inverted.")
        form.addParam("maxImages", params.IntParam, default=data.max_images, label="Particles to train on",
                      help="Only the first ones, for a quick try. 0 = all.")
        form.addParam("nCategories", params.IntParam, default=CATEGORIES_AS_PRESET,
                      label="Number of components",
                      help="More than the species you expect; unused ones empty themselves. -1 = as the "
                           f"preset (fast {fast.model.n_categories}, thesis {thesis.model.n_categories}).")
        form.addParam("totalKimg", params.FloatParam, default=AS_PRESET, label="Training length (kimg)",
                      help="Thousands of images seen. 0 = as the preset "
                           f"(fast {fast.training.total_kimg:g}, thesis {thesis.training.total_kimg:g}).")
        self._defineAdvancedParams(form, fast, thesis)
        self._defineComputeParams(form)

    def _defineAdvancedParams(self, form: Any, fast: contract.TrainRun, thesis: contract.TrainRun) -> None:
        data, advanced = contract.DataConfig(), params.LEVEL_ADVANCED
        form.addParam("particleRadiusFrac", params.FloatParam, default=data.particle_radius_frac,
                      expertLevel=advanced, label="Particle radius / box",
                      help="Circle that holds the particle, as fraction of the kept box, 0.05 to 0.5.")
        form.addParam("maxShiftFrac", params.FloatParam, default=contract.ModelConfig().max_shift_frac,
                      expertLevel=advanced, label="Largest shift / box",
                      help="How far particles may be off centre, as fraction of the kept box, 0 to 0.5.")
        form.addParam("ignoreCtf", params.BooleanParam, default=data.ignore_ctf, expertLevel=advanced,
                      label="Images without a CTF",
                      help="Yes: take the CTF as 1, for class averages or negative stain.")
        form.addParam("batchSize", params.IntParam, default=AS_PRESET, expertLevel=advanced, label="Batch size",
                      help="Images per step. 0 = as the preset "
                           f"(fast {fast.training.batch_size}, thesis {thesis.training.batch_size}).")
        form.addParam("extraSettings", params.StringParam, default="", expertLevel=advanced,
                      label="Other settings",
                      help="SECTION.KEY=VALUE, separated by spaces, as on the engine's command line; "
                           "for example training.critic_lr=1e-4 model.dropout=0.1")

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = set_digest(self.inputParticles.get())
        # Continue compares the arguments of each step alone: whatever matters goes to all of them
        settings = json.dumps(contract.to_dict(self._getSettings()), sort_keys=True)
        self._insertFunctionStep(self.convertInputStep, digest, needsGPU=False)
        self._insertFunctionStep(self.trainStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str) -> None:
        self._writeParticles(self.inputParticles.get())

    def trainStep(self, digest: str, settings: str) -> None:
        status = self._runEngine(self._getSettings(), self.COMMAND, RUN_DIR)
        self.info(f"trained on {status.get('images_seen')} images, on {status.get('device')}")

    def createOutputStep(self, digest: str, settings: str) -> None:
        raise NotImplementedError("a subclass creates the outputs")

    # --------------------------- INFO functions ---------------------------
    def _validate(self) -> List[str]:
        problems = self._validateCompute()
        try:
            settings = self._getSettings()
        except errors.EngineError as error:
            return problems + [str(error)]
        particles = self.inputParticles.get()
        if particles is None:
            return problems
        problems += validate_particles(particles, not self.ignoreCtf.get(), N_PARTICLES_MIN)
        box_px = particles.getXDim()
        kept_px = box_px * self.cropFrac.get()
        if settings.data.box_px > kept_px:
            problems.append(f"The training box is {settings.data.box_px} px, more than the {kept_px:.0f} px kept "
                            f"of the images ({box_px} px). Use a smaller training box.")
        return problems

    def _warnings(self) -> List[str]:
        particles, notes = self.inputParticles.get(), []
        if particles is not None and particles.getSize() < N_PARTICLES_FEW:
            notes.append(f"The input set has {particles.getSize()} particles; below {N_PARTICLES_FEW} "
                         "a training seldom separates species.")
        return notes

    def _summary(self) -> List[str]:
        status = read_status(self._getExtraPath(RUN_DIR))
        if "images_seen" not in status:
            return ["The training has not begun."]
        lines = [f"{status['images_seen'] / 1000:.1f} of {status['total_images'] / 1000:.1f} kimg seen, "
                 f"{status['n_particles']} particles, on {status['device']}",
                 f"Box {status['box_px']} px, {status['pixel_size_ang']:.3f} A/px "
                 f"(Nyquist {2 * status['pixel_size_ang']:.1f} A)"]
        if "images_per_second" in status:
            lines.append(f"{status['images_per_second']:g} images/s")
        if status.get("error"):
            lines.append(f"{status['error']['message']} {status['error']['hint']}")
        return lines

    def _methods(self) -> List[str]:
        status = read_status(self._getExtraPath(RUN_DIR))
        if status.get("state") != "finished":
            return []
        kind = "3D" if self.COMMAND == "train3d" else "2D"
        return [f"A {kind} VAE-GAN was trained without poses on {status['n_particles']} particles of "
                f"{status['box_px']} px ({status['pixel_size_ang']:.2f} A/px) for "
                f"{status['images_seen'] / 1000:.0f} thousand images."]

    # --------------------------- UTILS functions ---------------------------
    @classmethod
    def _presets(cls) -> List[str]:
        return list(presets.PRESETS[cls.COMMAND])

    @classmethod
    def _preset(cls, name: str) -> contract.TrainRun:
        return presets.build_run(cls.COMMAND, name, {})

    def _getSettings(self) -> contract.TrainRun:
        """The form as settings of the engine, paths relative to extra/. Raises ConfigError or DataError."""
        particles = self.inputParticles.get()
        changes: Dict[str, Dict[str, Any]] = {
            "data": {"particles": PARTICLES_STAR, "crop_frac": self.cropFrac.get(),
                     "particle_radius_frac": self.particleRadiusFrac.get(),
                     "invert_contrast": self.invertContrast.get(), "max_images": self.maxImages.get(),
                     "ignore_ctf": self.ignoreCtf.get(),
                     "phase_flipped": bool(particles is not None and particles.isPhaseFlipped())},
            "model": {"max_shift_frac": self.maxShiftFrac.get()},
            "training": {}, "compute": vars(self._getCompute())}
        for section, key, value, as_preset in (
                ("data", "box_px", self.boxPx.get(), AS_PRESET),
                ("model", "n_categories", self.nCategories.get(), CATEGORIES_AS_PRESET),
                ("training", "total_kimg", self.totalKimg.get(), AS_PRESET),
                ("training", "batch_size", self.batchSize.get(), AS_PRESET)):
            if value != as_preset:
                changes[section][key] = value
        for text in (self.extraSettings.get() or "").split():
            changes = contract.merged(changes, presets.parse_setting(text))
        return presets.build_run(self.COMMAND, self.getEnumText("preset"), changes)

    def getRunDir(self) -> str:
        """Results folder of the training."""
        return str(self._getExtraPath(RUN_DIR))

    def getTrainingPixelSize(self) -> float:
        """Pixel size of the training images and of every map made from them, in A."""
        return float(read_status(self.getRunDir())["pixel_size_ang"])

    def isVolumetric(self) -> bool:
        """Whether the trained model makes maps (3D) rather than images (2D)."""
        return self.COMMAND == "train3d"

    def _readComponents(self) -> List[Dict[str, Any]]:
        """What the training says each component looks like: picture and latent."""
        folder = result_file(self.getRunDir(), COMPONENTS_JSON).parent
        rows = results.read_json(folder / COMPONENTS_JSON)
        for row in rows:
            path = str(result_file(folder, row["file"]))
            row["picture"] = Picture(0 if self.isVolumetric() else row["index"] + 1, path)
        return list(rows)
