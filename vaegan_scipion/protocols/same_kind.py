"""Whether particles are of the kind that a run was made of."""
from typing import Any, List

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
