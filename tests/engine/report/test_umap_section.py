"""The interactive embedding: colours of clusters or states, and what a browser makes of them."""
import json
import re
import shutil
import subprocess
from string import Template

import numpy as np
import pytest
from vaegan_engine.contract.labels import STATES, UNASSIGNED_COLOUR
from vaegan_engine.data.particle_tables import Clusters
from vaegan_engine.report import page
from vaegan_engine.report.umap_section import umap_data, umap_section

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IDS = np.array([11, 12, 13, 14, 15, 16])
CLUSTERS = Clusters(IDS, np.array([0, 0, 0, 1, 1, -1]), np.ones(6), np.arange(12.0).reshape(6, 2))
STATE_OF = {11: 1, 12: 1, 13: 0, 14: 0, 15: -1, 99: 0}  # 16 is not among the states
ROBOT = """
<script>
const told = {}, colour = document.getElementById("umap-colour");
let saved = null;
URL.createObjectURL = (blob) => { saved = blob; return "#"; };
HTMLAnchorElement.prototype.click = function () {};
const legend = () => [...document.querySelectorAll("#umap-legend label")].map((each) => each.textContent.trim());
told.first = legend();
colour.value = "1"; colour.dispatchEvent(new Event("change"));
told.second = legend();
document.querySelectorAll("#umap-legend a")[0].dispatchEvent(new MouseEvent("click"));
told.info = document.getElementById("umap-info").textContent;
document.getElementById("umap-save-table").click();
saved.text().then((text) => {
  told.table = text;
  const out = document.createElement("pre");
  out.id = "told"; out.textContent = JSON.stringify(told);
  document.body.append(out);
});
</script>
</body>
"""


def test_states_are_colours_of_their_own():
    cluster, state = json.loads(umap_data(CLUSTERS, STATE_OF))["colourings"]
    assert [(group["name"], group["count"]) for group in cluster["groups"]] == [
        ("cluster 1", 3), ("cluster 2", 2), ("unassigned", 1)]
    assert [(group["name"], group["count"], group["colour"]) for group in state["groups"]] == [
        ("state 1", 2, STATES.colour(0)), ("state 2", 2, STATES.colour(1)), ("set aside", 2, UNASSIGNED_COLOUR)]


def test_without_states_there_is_nothing_to_choose():
    assert len(json.loads(umap_data(CLUSTERS))["colourings"]) == 1
    assert "umap-colour" not in umap_section(False).body and "by state" in umap_section(True).body


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_colours_in_a_browser(tmp_path):
    """What the legend lists is what is selected by it, and a saved table has both labels."""
    parts = {"title": "t", "css": "", "lead": "", "nav": "", "footer": "", "sections": umap_section(True).body,
             "data": umap_data(CLUSTERS, STATE_OF), "js": (page.PAGE / "page.js").read_text()}
    path = tmp_path / "page.html"
    path.write_text(Template((page.PAGE / "page.html").read_text()).substitute(parts).replace("</body>", ROBOT))
    made = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="told">(.*?)</pre>', made.stdout, re.DOTALL)
    assert found, made.stdout[-500:] + made.stderr[-1000:]
    told = json.loads(found.group(1))
    assert told["first"] == ["cluster 1 (3)", "cluster 2 (2)", "unassigned (1)"]
    assert told["second"] == ["state 1 (2)", "state 2 (2)", "set aside (2)"]
    assert told["info"] == "2 of 6 particles selected (state 1: 2)"
    assert told["table"].split() == ["particle_id,label,umap_1,umap_2,state", "13,0,4,5,0", "14,1,6,7,0"]
