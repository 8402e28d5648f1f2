"""Whether particles are of the kind that a run was made of."""
from typing import Any, Dict, List, Tuple

from emtable import Table

from ..constants import PARTICLES_STAR
from ..convert.to_engine import POSE_COLUMNS
from ..engine_run import EngineError
from .protocol_base import made_of, missing_alignment, stars_differ
from .protocol_train import POSES_SEEN

PIXEL_TOLERANCE = 0.01


def validate_same_kind(particles: Any, trained_on: Any) -> List[str]:
    """What keeps a model from embedding particles that it was not trained on: their pixel size or field of view."""
    new, old = particles.getSamplingRate(), trained_on.getSamplingRate()
    if abs(new - old) > PIXEL_TOLERANCE * old:
        return [f"The particles have {new:.3f} Å/px, those of the training {old:.3f}. "
                "Give particles of the same pixel size."]
    new, old = particles.getXDim(), trained_on.getXDim()
    if new != old:
        return [f"The particles' box is {new} px, that of the training {old} px. Give particles of the same box."]
    return validate_same_flips(particles, trained_on, "the training")


def validate_same_flips(particles: Any, before: Any, what: str) -> List[str]:
    """Why particles cannot follow others, those of `what`: one set is phase-flipped, the other is not."""
    if particles.isPhaseFlipped() != before.isPhaseFlipped():
        return [f"Either the particles or those of {what} are phase-flipped, but not both. Give particles of the same "
                "kind."]
    return []


def validate_poses(particles: Any, training: Any) -> List[str]:
    """Why other particles cannot be embedded by a training with poses."""
    if not training.isPosed():
        return []
    if training.usesAlignment():
        return missing_alignment(particles, "The training took the poses that its particles carry, but 'Other "
                                 "particles' have no projection alignment. Give refined particles.")
    source, remedy = (("poses of states", "train on particles that carry their poses") if training.isVolumetric()
                      else ("alignment of classes 2D", "train without it"))
    return [f"The training took the {source}, which 'Other particles' are not in. Leave them empty, or {remedy}."]


def frame_notes(training: Any) -> List[str]:
    """What to look at before other particles are embedded at the poses that they carry."""
    return ["The training took the poses that its particles carry. Those of 'Other particles' must lie in the same "
            "frame (refined against the same map): two refinements from nothing are turned, and may be of the other "
            "hand."] if training.usesAlignment() else []


def validate_training_poses(training: Any) -> List[str]:
    """Why a training's networks know nothing of the poses that its particles have now: each run has a frame of its own.
    """
    if made_of(training, POSES_SEEN, training._posesDigest()):
        return []
    return [f"The poses that '{training.getRunName()}' was trained at are gone, or were found anew since: its networks "
            "know nothing of those of now. Train again first."]


def refuse_other_poses(run: Any, training: Any) -> None:
    """Raises EngineError where particles that are in the star files of both are aligned otherwise in a run's.

    A refinement that was run again may lie in another frame, of which the networks know nothing.
    """
    if not training.usesAlignment() or not stars_differ(run, training):
        return
    own, before = (poses_of(each._getExtraPath(PARTICLES_STAR)) for each in (run, training))
    other = sorted(i for i in set(own) & set(before) if own[i] != before[i])
    if other:
        raise EngineError(f"Particle {other[0]} has another alignment than in '{training.getRunName()}' ({len(other)} "
                          "such particles): they were refined anew since. Train again first.")


def poses_of(star: str) -> Dict[int, Tuple[float, ...]]:
    """Particle id -> angles and origins as a star file has them."""
    table = Table(fileName=star, tableName="particles")
    return {int(row.vaeParticleId): tuple(float(getattr(row, name)) for name in POSE_COLUMNS) for row in table}
