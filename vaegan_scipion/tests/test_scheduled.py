"""Scheduled runs see what is made after they were scheduled, however far up in the workflow."""
import argparse
import json
import logging
import os
import shutil
from unittest.mock import patch

from pwem.protocols import ProtImportParticles
from pyworkflow.apps.pw_schedule_run import RunScheduler
from pyworkflow.protocol import STATUS_ABORTED, STATUS_FINISHED, STATUS_SCHEDULED

from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.tests.phantom import ProjectTest, run_in_shell


class TestScheduled(ProjectTest):
    """What `scheduleProtocol` does, the upstream runs after it, and then the scheduler's own check."""

    FORKS_RUNS = False

    def saved(self, protocol_class, **values):
        """A form of the workflow."""
        protocol = self.filled(protocol_class, **values)
        self.proj.saveProtocol(protocol)
        return protocol

    def schedule(self, protocol):
        """A copy of the project as it is now, for the run to wait in."""
        protocol.setStatus(STATUS_SCHEDULED)
        self.proj._setupProtocol(protocol)
        protocol.makePathsAndClean()
        self.proj.mapper.commit()
        shutil.copyfile(self.proj.dbPath, protocol.getDbPath())

    def ended(self, protocol, status=STATUS_FINISHED):
        """The run has ended: what it made stands in its own copy of the project."""
        protocol.setStatus(status)
        self.proj._storeProtocol(protocol)
        self.proj.mapper.commit()
        shutil.copyfile(self.proj.dbPath, protocol.getDbPath())

    def run_steps(self, protocol):
        """All steps, in this process."""
        protocol._steps = []
        protocol.makePathsAndClean()
        protocol._insertAllSteps()
        with patch.object(protocol, "runJob", side_effect=run_in_shell):
            for step in protocol._steps:
                getattr(protocol, step.funcName.get())(*json.loads(step.argsStr.get()))
        self.ended(protocol)

    def assert_launched(self, protocol, name):
        """Nothing is missing, as the scheduler sees it."""
        scheduler = RunScheduler(argparse.Namespace(
            projPath=os.getcwd(), dbPath=protocol.getDbPath(), protId=protocol.getObjId(), sleepTime=15,
            initial_sleep=0), logging.getLogger("scheduler"))
        said = []
        with patch.object(scheduler, "_log", said.append):
            missing, _ = scheduler._checkMissingInput()
        self.assertFalse(missing, f"{name}: {[line for line in said if 'validate' in line or 'Waiting' in line]}")
        return scheduler.protocol

    def test_a_workflow_that_is_scheduled_before_its_import_has_run(self):
        imported, source = self.proj.newProtocol(ProtImportParticles), self.imported.outputParticles
        self.proj.saveProtocol(imported)
        particles = (imported, "outputParticles")
        states = self.saved(VaeganProtStates, inputParticles=particles, boxPx=16, particleDiameterAng=70)
        stopped = self.saved(VaeganProtTrain2D, inputParticles=particles, boxPx=16)
        training_3d = self.saved(VaeganProtTrain3D, inputStates=states)
        training_2d = self.saved(VaeganProtTrain2D, inputParticles=particles, boxPx=16, continueFrom=stopped, seed=1)
        clusters_3d = self.saved(VaeganProtCluster, inputTraining=training_3d, nNeighbors=5)
        clusters_2d = self.saved(VaeganProtCluster, inputTraining=training_2d, nNeighbors=5)
        waiting = {"train 3D": training_3d, "train 2D": training_2d, "cluster 3D": clusters_3d,
                   "cluster 2D": clusters_2d, "fullres": self.saved(VaeganProtFullres, inputStates=states)}
        for name, run in (("states", states), ("clusters 3D", clusters_3d), ("clusters 2D", clusters_2d)):
            waiting[f"select of {name}"] = self.saved(VaeganProtSelect, inputClusters=run, clusterNumbers="1")
        waiting["traverse"] = self.saved(VaeganProtTraverse, inputClusters=clusters_2d)
        for run in waiting.values():
            self.schedule(run)

        imported.makePathsAndClean()
        made = imported._createSetOfParticles()
        made.copyInfo(source)
        for particle in source:
            made.append(particle.clone(copyEnable=True))
        imported._defineOutputs(outputParticles=made)
        self.ended(imported)
        self.run_steps(states)
        self.run_steps(stopped)
        for name, run in waiting.items():
            seen = self.assert_launched(run, name)
            if run is training_3d:
                self.assertEqual(seen.getDataSettings().particle_radius_frac, 0.3125)  # of the particles' own box
            if name == "traverse":
                self.assertEqual(seen.inputClusters.get().getParticlesPointer().get().getSize(), source.getSize())
            if run is training_2d:
                self.run_steps(run)
                self.ended(stopped, STATUS_ABORTED)  # it was continued by another: nothing waits for it any more
            elif run in (training_3d, clusters_3d, clusters_2d):
                self.run_steps(run)

    def test_the_project_shows_the_forms_own_inputs_alone(self):
        """A name with a point in it is no field: a copy of a scheduled workflow looks for one."""
        states = self.saved(VaeganProtStates, inputParticles=(self.imported, "outputParticles"), boxPx=16)
        fullres = self.saved(VaeganProtFullres, inputStates=states)
        self.schedule(fullres)
        self.assertEqual([name for name, _ in fullres.iterInputAttributes()], ["inputStates"])
