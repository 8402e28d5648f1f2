"""Short texts about results, the same in logs, viewers and reports."""
from __future__ import annotations

import re
from math import log
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from .map_records import HalvesProof, MapComparison
from .records import Forecast, JunkNumbers, LandscapeNumbers, MaskRow, RestartRow, Separation, StartRow
from .status import StageCost

LEAST_END_FRAC = 0.01  # of all images, set aside as outliers: fewer are no end of a motion worth a word
_ANGSTROM = re.compile(r"(?:(?<=\d )|(?<=\b[Ii]n )|(?<=\bper )|(?<=[\d/])|(?<=\()(?=A(?:\^2)?[);,/]))A(\^2)?"
                       r"(?=$|[\s).,;:/\]])")


def with_ring(text: str) -> str:
    """A text with Å where A stands for the unit: what the engine says to terminals and logs is ASCII, forms are not."""
    return _ANGSTROM.sub(lambda match: "Å²" if match.group(1) else "Å", text)


def duration_text(seconds: float) -> str:
    """Seconds in the unit that people would say."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def costs_text(costs: Sequence[StageCost]) -> str:
    """What the stages of a run took, as a table: seconds, part of the whole, millions of image poses."""
    whole = sum(cost.seconds for cost in costs) or 1.0
    lines = [f"{'stage':<28}{'seconds':>9}{'%':>6}{'10^6 image poses':>19}"]
    lines += [f"{cost.stage:<28}{cost.seconds:>9.1f}{100 * cost.seconds / whole:>6.1f}{cost.image_poses / 1e6:>19.1f}"
              for cost in costs]
    return "\n".join(lines)


def forecast_text(expected: Forecast) -> str:
    """What a run was expected to take, in a sentence."""
    longer = (f" ({duration_text(expected.long_seconds)} where the particles need more)"
              if expected.long_seconds > 1.1 * expected.seconds else "")
    return (f"expected for {expected.n_images:,} particles on this machine: about {duration_text(expected.seconds)}"
            f"{longer}, {expected.memory_gb:.1f} GB of memory, {expected.disk_gb:.2g} GB on disk")

JUNK_REASONS: Dict[str, str] = {  # junk_reason of particles.csv -> why an image was set aside, in words
    "": "kept, to compare with",
    "empty": "nothing of a state or class is seen",
    "misfit": "holds what its state does not: aggregate, neighbour, other molecule",
    "outlier": "like no group of images, and fits badly",
    "faint": "shows little of its state, and what it shows fits badly",
    "unlike": "unlike the other images of its class",
    "second particle": "another particle lies beside it",
    "not reproduced": "the other half of the images does not show its class",
    "off centre": "its class stays off centre",
    "no features": "its class has no features",
    "mixed": "most images of its class are unlike it",
    "in no class": "belongs to no class",
}


def start_text(row: StartRow) -> str:
    """A row of ``starts`` of ``states.json`` in words."""
    tried = ", ".join(f"{value:.1f}" for value in row.coarse_log_evidence)
    if row.kind == "given":
        return (f"the poses that were given: {row.log_evidence:.1f} per image; their angles dealt out at random: "
                f"{tried}")
    kind = {"alone": "one random map", "cubic": "one of cubic symmetry, then of none", "grown": "copies of it",
            "beside": "random maps beside it", "clusters": "the clusters' maps"}[row.kind]
    return (f"{kind}: {row.log_evidence:.1f} per image" + (f" (the best of {tried})" if tried else "")
            + (", kept" if row.kept else ""))


def mask_text(rows: Sequence[MaskRow]) -> str:
    """``masks`` of ``states.json`` in words, with what to do where the widest mask is the best."""
    kept, spheres = next(row for row in rows if row.kept), [row for row in rows if not row.given]
    tried = ", ".join(f"{row.radius_ang:.0f} A {row.misfit:.1f}" for row in spheres)
    if kept.given:
        best = min(spheres, key=lambda row: row.misfit)
        text = (f"mask: as given, out to {kept.radius_ang:.0f} A (misfit of unseen images {kept.misfit:.1f}, of "
                f"spheres by radius: {tried})")
        return text if best.misfit >= kept.misfit else (
            f"{text}; a sphere of {best.radius_ang:.0f} A explains unseen images better: the particle may reach past "
            "the mask")
    text = f"mask: radius {kept.radius_ang:.0f} A (misfit of unseen images by radius: {tried})"
    if kept is rows[-1]:
        text += ("; the widest mask is the best: the particle may reach to its edge or past it (then take a larger "
                 "particle diameter, or a larger box), or neighbours stand that near")
    return text


def restart_text(row: RestartRow) -> str:
    """A row of ``restarts`` of ``states.json`` in words."""
    return (f"a state of misfit {row.misfit:.2f} (the best state's {row.best:.2f}) was started anew from its own "
            f"images: {row.log_evidence:.1f} per unseen image, {row.log_evidence_before:.1f} before, "
            f"{'taken' if row.kept else 'not taken'}")


def landscape_text(row: LandscapeNumbers) -> str:
    """A landscape in words."""
    if row.n_states == 1:
        text = "one state" if row.n_groups == 1 else f"one state ({row.n_groups} groups without valleys between)"
    else:
        least = min(pair.valley for pair in row.pairs)
        text = (f"{row.n_states} states of {', '.join(str(size) for size in row.sizes)} "
                f"(log likelihood of the least valley {least:.0f})")
    return text + (f", {row.n_outliers} outside" if row.n_outliers else "")


def lost_end_text(junk: JunkNumbers) -> str:
    """What images set aside as outliers may be where a state varies; "" where they are few.

    Of adenylate kinase's opening half of the closed end was set aside so: its images were in wrong poses.
    """
    if not junk.n_junk or junk.fraction * junk.n_outliers / junk.n_junk < LEAST_END_FRAC:
        return ""
    return f"{junk.n_outliers} of them lie beside what varies, and may be an end of the motion that few images show"


def halves_text(halves: MapComparison, proof: Optional[HalvesProof] = None) -> str:
    """What two half maps prove, in words."""
    if proof is not None and not proof.proven_0143:
        until = (f"fall apart at {halves.resolution_0143_ang:.1f} A, and" if halves.crossed_0143 else
                 f"agree to {halves.resolution_0143_ang:.1f} A (Nyquist), but")
        return f"no resolution is proven: the halves {until} share their start down to {proof.shared_ang:.1f} A"
    text = (f"halves agree to {halves.resolution_0143_ang:.1f} A at FSC 0.143 "
            f"({halves.nyquist_frac_0143:.2f} of Nyquist), {halves.resolution_05_ang:.1f} A at 0.5")
    if proof is not None:
        text += (f"; without mask {proof.resolution_raw_0143_ang:.1f} A; by direction "
                 f"{proof.direction_best_ang:.1f} to {proof.direction_worst_ang:.1f} A; what is coarser than "
                 f"{proof.shared_ang:.1f} A is shared, not proven")
    return text


def unproven_text(n_groups: int) -> str:
    """What the grey of a picture of so many groups' FSCs means: it reaches as far as that of any of them."""
    return f"not proven{' of at least one' if n_groups > 1 else ''}: shared by the halves"


def views_text(scf: Optional[float], unsampled_frac: Optional[float]) -> str:
    """How completely the views of a state fill Fourier space, in words; "" where it is not known."""
    if scf is None:
        return ""
    if unsampled_frac:
        return f"SCF {scf:.2f}; {100 * unsampled_frac:.1f} % of Fourier space is reached by no view"
    return f"SCF {scf:.2f} (1 = even views)"


def separation_text(pair: Separation) -> str:
    """The evidence that two states differ, in words."""
    return (f"agreement {pair.agreement:.2f}, valley {pair.valley:.2f}, by view {pair.by_view:.2f}, "
            f"all images {pair.valley_evidence:.0f}")


NOTHING, MOST = 0.1, 0.9  # NMI below which nothing, and from which nearly all was separated


class Rung(NamedTuple):
    """Three ribosome states at one SNR, trained on without poses (``reproduce fast-ladder``)."""

    snr: float  # as estimated from the prepared images: what a user's set is compared by
    nmi: float  # of the clusters that were found, with the states


# The best that was measured at each: docs/results/thesis.rst
LADDER: Tuple[Rung, ...] = (Rung(0.21, 0.0), Rung(1.0, 0.48), Rung(9.4, 0.575))


def expected_nmi(snr: float) -> float:
    """NMI of clusters at an SNR: between two rungs linear in log SNR, beyond the last ones as at them."""
    below = LADDER[0]
    if snr <= below.snr:
        return below.nmi
    for above in LADDER[1:]:
        if snr <= above.snr:
            part = log(snr / below.snr) / log(above.snr / below.snr)
            return below.nmi + part * (above.nmi - below.nmi)
        below = above
    return below.nmi


def pose_free_note(snr: float) -> str:
    """What an embedding without poses can be expected to separate at an estimated SNR, in two sentences."""
    nmi = expected_nmi(snr)
    part = "nothing" if nmi < NOTHING else "a part" if nmi < MOST else "nearly all"
    return (f"Estimated SNR {snr:.2g}: at this SNR an embedding without poses separated {part} in our tests (preset "
            f"fast, 3D: NMI {nmi:.2f} with three ribosome states). Find states and poses first, and train at these.")
