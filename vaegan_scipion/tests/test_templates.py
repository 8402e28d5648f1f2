"""The workflow templates: found by Scipion's menu, complete, and run to their end once their fields are filled in."""
import os
import unittest

from pwem.protocols import ProtImportParticles
from pyworkflow.config import Config
from pyworkflow.template import TemplateList

from vaegan_scipion import protocols
from vaegan_scipion.tests.phantom import ProjectTest
from vaegan_scipion.tests.test_chain import IDS, NEEDS_RELION, RATE_ANG, write_relion_particles


def templates():
    """Templates of this plugin by name, as the GUI's menu lists them."""
    found = TemplateList()
    for template in Config.getDomain().getPlugins()["vaegan_scipion"]._pluginInstance.getTemplates():
        found.addTemplate(template)
    return {template.name: template for template in found.templates}


class TestTemplates(ProjectTest):
    """Loaded through pyworkflow."""

    def load(self, name, **values):
        """Protocols of a template in the project, by label."""
        template = templates()[name]
        template.replaceEnvVariables()
        template.parseContent()
        for alias, value in values.items():
            self.assertGreater(template.setParamValue(alias, value), 0, alias)
        path = template.createTemplateFile()
        try:
            return {protocol.getClassName(): protocol for protocol in self.proj.loadProtocols(path).values()}
        finally:
            os.remove(path)

    def star(self):
        """A star file with the workflow's fields."""
        return {"star": write_relion_particles(os.getcwd()), "pixel": str(RATE_ANG), "gpu": "false"}

    def test_menu_lists_both_with_a_description(self):
        self.assertEqual(set(templates()), {"vaegan_2d", "vaegan_3d"})
        self.assertIn("without poses", templates()["vaegan_2d"].description)
        self.assertIn("find states and poses, train 3D with their poses", templates()["vaegan_3d"].description)

    def test_every_key_is_a_field_of_its_form(self):
        for name, kind in (("vaegan_2d", "2D"), ("vaegan_3d", "3D")):
            made = self.load(name, **self.star())
            landscape = [f"VaeganProtTrain{kind}", "VaeganProtCluster", "VaeganProtTraverse"]
            self.assertEqual(list(made), ["ProtImportParticles", *(
                ["VaeganProtStates", *landscape, "VaeganProtSelect"] if kind == "3D"
                else [*landscape, "VaeganProtSelect"])])
            self.assertEqual(made["ProtImportParticles"].importFrom.get(), ProtImportParticles.IMPORT_FROM_RELION)
            template = templates()[name]
            template.replaceEnvVariables()
            keys = [line.split('"')[1] for line in "~".join(template.content).replace("{", "\n").replace(
                "        ", "\n").splitlines() if line.startswith('"')]
            known = {field for protocol in made.values() for field, _ in protocol._definition.iterParams()}
            self.assertEqual({key for key in keys if not key.startswith("object.")} - known, set())
            for class_name in list(made)[1:]:
                self.assertTrue(hasattr(protocols, class_name))

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_3d_runs_to_its_end(self):
        """The road: each protocol takes the one before it, and the state that is selected keeps its poses."""
        made = self.load("vaegan_3d", clusters="2", **self.star())
        for protocol in made.values():
            self.assertEqual(protocol.validate(), [])
            self.launch(protocol)
        expected = [i for i in IDS if i % 2 == 1 and i % 10]
        particles = made["VaeganProtSelect"].outputParticles
        self.assertEqual(sorted(item.getObjId() for item in particles), expected)
        self.assertEqual(made["VaeganProtTrain3D"].getStates().getObjId(), made["VaeganProtStates"].getObjId())
        self.assertEqual(made["VaeganProtCluster"].outputParticles.getSize(), len([i for i in IDS if i % 10]))

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_2d_runs_to_its_end(self):
        made = self.load("vaegan_2d", clusters="2", **self.star())
        for protocol in made.values():
            self.assertEqual(protocol.validate(), [])
            self.launch(protocol)
        expected = [i for i in IDS if i % 3 == 1 and i % 10]
        particles = made["VaeganProtSelect"].outputParticles
        self.assertEqual(sorted(item.getObjId() for item in particles), expected)
        self.assertAlmostEqual(particles.getSamplingRate(), RATE_ANG, 4)
