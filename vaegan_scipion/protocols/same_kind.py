"""Whether particles are of the kind that a run was made of."""
from typing import Any, List

from .protocol_base import missing_alignment

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
