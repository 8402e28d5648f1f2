"""Particles of states that vary continuously, with their place along the motion as a flexible coordinate."""
from typing import Any, Dict

from pwem.objects import FlexInfo, ParticleFlex, Transform
from pyworkflow.object import CsvList, Float, Integer

from ..constants import PROGRAM_NAME
from .from_engine import fresh_items, share_attributes
from .poses import Pose


def fill_motion(flexible: Any, particles: Any, poses: Dict[int, Pose], matrices: Dict[int, Any], states_dir: str
                ) -> None:
    """Copy the enabled particles that have a place along a motion, with pose, state and place.

    ``_zFlex`` is the place t alone, 0 to 1 in even quantiles of the state's particles; ``_zRed`` t and the number of
    the state: states are motions of their own, and lie apart in a picture. ``_vaeganZStd`` is the standard deviation of
    the posterior of t, where it is known.
    """
    flexible.copyInfo(particles)
    flexible.setHasCTF(particles.hasCTF())  # copyInfo of the flexible set leaves it out
    flexible.copyAttributes(particles, "_coordsPointer")
    flexible.setAlignmentProj()
    flexible.setFlexInfo(FlexInfo(PROGRAM_NAME))  # not the networks of flexible ones given
    flexible.getFlexInfo().setAttr("_vaeganStates", states_dir)
    item, source = ParticleFlex(progName=PROGRAM_NAME), None
    for particle in fresh_items(particles):
        pose = poses.get(particle.getObjId())
        if pose is None or pose.motion is None or not particle.isEnabled():
            continue
        if particle is not source:  # Scipion fills one object again for each row, or makes a new one: its setting
            share_attributes(item, particle)
            item._vaeganLabel, item._vaeganProbability, item._rlnRandomSubset = Integer(), Float(), Integer()
            item._vaeganZStd = CsvList(pType=float)
            source = particle
        item.setObjId(particle.getObjId())
        item.setTransform(Transform(matrices[particle.getObjId()]))
        item._zFlex.set([pose.motion])
        item._vaeganZStd.set([] if pose.motion_std is None else [pose.motion_std])
        item._zRed.set([pose.motion, float(pose.label + 1)])
        item.setClassId(pose.label + 1)
        item._vaeganLabel.set(pose.label)
        item._vaeganProbability.set(pose.probability)
        item._rlnRandomSubset.set(pose.half_set)
        flexible.append(item)
