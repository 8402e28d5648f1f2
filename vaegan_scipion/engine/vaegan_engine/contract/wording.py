"""Short texts about results, the same in logs, viewers and reports."""
from __future__ import annotations

from typing import Any, Mapping, Sequence


def start_text(row: Mapping[str, Any]) -> str:
    """A row of ``starts`` of ``states.json`` in words."""
    if row["kind"] == "given":
        dealt = ", ".join(f"{value:.1f}" for value in row["coarse_log_evidence"])
        return (f"the poses that were given: {row['log_evidence']:.1f} per image; their angles dealt out at random: "
                f"{dealt}")
    kind = {"alone": "one random map", "grown": "copies of it", "beside": "random maps beside it",
            "clusters": "the clusters' maps"}[row["kind"]]
    tried = ", ".join(f"{value:.1f}" for value in row["coarse_log_evidence"])
    return (f"{kind}: {row['log_evidence']:.1f} per image" + (f" (the best of {tried})" if tried else "")
            + (", kept" if row["kept"] else ""))


def mask_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """``masks`` of ``states.json`` in words, with what to do where the widest mask is the best."""
    kept = next(row for row in rows if row["kept"])
    tried = ", ".join(f"{row['radius_ang']:.0f} A {row['misfit']:.1f}" for row in rows)
    text = f"mask: radius {kept['radius_ang']:.0f} A (misfit of unseen images by radius: {tried})"
    if kept is rows[-1]:
        text += "; the particle reaches to the edge or past it: take a larger particle diameter, or a larger box"
    return text


def restart_text(row: Mapping[str, Any]) -> str:
    """A row of ``restarts`` of ``states.json`` in words."""
    return (f"a state of misfit {row['misfit']:.2f} (the best state's {row['best']:.2f}) was started anew from its own "
            f"images: {row['log_evidence']:.1f} per unseen image, {row['log_evidence_before']:.1f} before, "
            f"{'taken' if row['kept'] else 'not taken'}")


def landscape_text(row: Mapping[str, Any]) -> str:
    """A landscape of the log in words."""
    if row["n_states"] == 1:
        text = "one state" if row["n_groups"] == 1 else f"one state ({row['n_groups']} groups without valleys between)"
    else:
        least = min(pair["valley"] for pair in row["pairs"])
        text = (f"{row['n_states']} states of {', '.join(str(size) for size in row['sizes'])} "
                f"(log likelihood of the least valley {least:.0f})")
    return text + (f", {row['n_outliers']} outside" if row["n_outliers"] else "")


def halves_text(row: Mapping[str, Any]) -> str:
    """What the half maps of a row of ``clusters.json`` (or ``halves.json``) prove, in words."""
    if not row.get("proven_0.143", True):
        return (f"no resolution is proven: the halves fall apart at {row['resolution_0.143_ang']:.1f} A, and share "
                f"their start down to {row['shared_ang']:.1f} A")
    text = (f"halves agree to {row['resolution_0.143_ang']:.1f} A at FSC 0.143 "
            f"({row['nyquist_frac_0.143']:.2f} of Nyquist), {row['resolution_0.5_ang']:.1f} A at 0.5")
    if "shared_ang" in row:
        text += (f"; without mask {row['resolution_raw_0.143_ang']:.1f} A; by direction "
                 f"{row['direction_best_ang']:.1f} to {row['direction_worst_ang']:.1f} A; what is coarser than "
                 f"{row['shared_ang']:.1f} A is shared, not proven")
    return text
