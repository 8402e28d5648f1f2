"""The HTML report: self-contained, true to the files, and alive in a browser."""
import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from fake_run import align_nothing, write_clusters, write_embedding, write_truth
from made_records import clustering, comparison, halves_row, junk_numbers, landscape, proof, state_row, states_summary
from vaegan_engine.cli import main
from vaegan_engine.contract import labels as cluster_labels
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.analysis_records import Classes2dSummary
from vaegan_engine.contract.answer import classes_answer
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.map_records import PlaneFigures
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.records import (
    ClusterRow,
    HalvesRow,
    MaskRow,
    NullDraw,
    Plateau,
    RestartRow,
    Stability,
    StartRow,
    SweepRow,
)
from vaegan_engine.contract.settings import (
    Classes2dRun,
    ComputeConfig,
    ConsensusRun,
    EvaluateRun,
    ReportRun,
    TrainingConfig,
    TrainRun,
    TraverseRun,
)
from vaegan_engine.contract.status import update_status
from vaegan_engine.contract.wording import with_ring
from vaegan_engine.data.junk_examples import write_junk_examples
from vaegan_engine.data.mrc_files import write_map, write_stack
from vaegan_engine.evaluation.checks.consensus import run_consensus
from vaegan_engine.evaluation.truth import evaluate
from vaegan_engine.latent import traverse
from vaegan_engine.report import page, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
IDS = 2 ** 60 + np.arange(3, 203) * 7  # neither rows nor whole in float64
CPU = ComputeConfig(device="cpu", threads=1)
SUMMARY = states_summary(
    verdict="2 <states>", masks=[MaskRow(80.0, 171.7, False), MaskRow(96.0, 138.0, True)],
    starts=[StartRow("alone", [88.8, 99.9], 110.1, False), StartRow("beside", [], 120.4, True)],
    restarts=[RestartRow(1.58, 0.75, 241.7, 223.2, True)], contrast_spread=0.234, junk=junk_numbers(10, 0.05),
    landscapes=[landscape(1, n_outliers=7), landscape(2, sizes=[61, 62])])


@pytest.fixture
def analysis(tmp_path, monkeypatch, fake_model):
    """Folders of an analysis of 200 particles, on a line: umap = (row, -row)."""
    label = np.repeat([0, 1, 2, -1], (80, 60, 50, 10))
    state = np.where(label < 0, 0, label)
    z = np.eye(3)[state] + 0.05 * np.random.default_rng(0).normal(size=(200, 3))
    line = np.arange(200.0)
    emb = write_embedding(tmp_path / "emb", z, particle_id=IDS)
    clu = write_clusters(tmp_path / "clu", label, particle_id=IDS, umap=np.stack((line, -line), 1), embedding_dir=emb)
    write_record(clu / result_files.CLUSTERING_JSON, clustering(sweep=[SweepRow(15, 3, 3, 0.05, 0.987)]))
    truth = write_truth(tmp_path / "truth.csv", state, particle_id=IDS)
    (tmp_path / "simulation.json").write_text(json.dumps(
        {"options": {"phantom": 3}, "map_files": ["phantom_0", "phantom_1", "phantom_2"]}))
    monkeypatch.setattr(evaluate, "align_map", align_nothing)
    evaluate.run_evaluate(EvaluateRun(clusters_dir=str(clu), truth_csv=str(truth), compute=CPU), tmp_path / "eva")
    traverse.run_traverse(TraverseRun(clusters_dir=str(clu)), tmp_path / "tra")
    run_json.write_run(TrainRun(training=TrainingConfig(critic_lr=0.00123)), tmp_path / "run" / result_files.RUN_JSON)
    update_status(tmp_path / "run", command="train3d", box_px=16, pixel_size_ang=4.5, device="CPU <1 & 2>",
                          versions={"engine": "0.1.0", "torch": "9.8.7"}, n_particles=200)
    for tick in range(1, 4):
        result_files.append_jsonl(tmp_path / "run" / result_files.LOG_JSONL, {"kimg": tick, "critic_loss": 1 / tick})
    write_records(tmp_path / "hal" / result_files.HALVES_JSON, [halves_row(0, comparison()), HalvesRow(
        1, 3, 3, "3 particles in one half, fewer than 10: not compared")])
    return ReportRun(
        run_dir=str(tmp_path / "run"), clusters_dir=str(clu), traverse_dir=str(tmp_path / "tra"),
        halves_dir=str(tmp_path / "hal"), evaluation_dir=str(tmp_path / "eva"), title="A <b>title</b>")


class Reader(HTMLParser):
    """Text, references and images of a page."""

    def __init__(self):
        super().__init__()
        self.text, self.references, self.images, self.open_tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img", "input"):
            self.open_tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href") and not value.startswith("#")]
        if tag == "img":
            self.images.append(values)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags and self.open_tags[-1] not in ("script", "style"):
            self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open_tags == []
    return reader, " ".join(" ".join(reader.text).split())


def test_the_page_asks_nothing_from_outside(tmp_path, analysis):
    path = page.write_report(analysis, tmp_path / "out" / "report.html")
    reader, _ = read(path)
    assert reader.references
    assert all(value.startswith(("data:image/png;base64,", "https://doi.org/")) for value in reader.references)
    for image in reader.images:
        assert base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG")
        assert image["alt"]
    source = re.sub(r'<a href="https://doi.org/[^"]+">', "", path.read_text())  # links ask for nothing by themselves
    assert not re.search(r"https?://|@import|url\(", source)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_the_page_says_what_the_files_say(tmp_path, analysis):
    reader, text = read(page.write_report(analysis, tmp_path / "report.html"))
    values = result_files.read_json(tmp_path / "eva" / result_files.EVALUATION_JSON)
    for words in ("A <b>title</b>", "200 particles, 3 clusters", "Nyquist 9.0", "CPU <1 & 2>", "9.8.7",
                  "80 (40.0 %)", "190 particles are in a cluster, 10 are unassigned", "0.99", f"{values['nmi']:.3f}",
                  "12.3 Å at FSC 0.143", "fewer than 10: not compared", "0.00123", "No verdict was stored",
                  "phantom_2", "cluster 3, component 1",
                  "particles of phantom_0 phantom_1 phantom_2 cluster 1 80 0 0 cluster 2 0 60 0"):
        assert words in text, words
    # six views of each of four groups, the points of three clusters, FSC and curves; maps beside references, their FSC
    assert len(reader.images) == 6 * 4 + 3 * TraverseRun().n_points + 1 + 1 + 3 * 12 + 1
    near = re.findall(r"(\d+) near", text)
    assert near == [row["n_near"] for row in result_files.read_csv(tmp_path / "tra" / result_files.TRAVERSAL_CSV)]


def test_the_embedding_is_whole(tmp_path, analysis):
    source = page.write_report(analysis, tmp_path / "report.html").read_text()
    stored = json.loads(re.search(r'id="umap-data">(.*?)</script>', source, re.DOTALL).group(1))

    def array(name, kind):
        return np.frombuffer(base64.b64decode(stored[name]), kind)

    np.testing.assert_array_equal(array("id", "<i8"), IDS)
    np.testing.assert_array_equal(array("x", "<f4"), np.arange(200))
    shown = stored["colourings"][0]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(shown["label"]), "<i2"),
                                  np.repeat([0, 1, 2, -1], (80, 60, 50, 10)))
    assert [(g["label"], g["colour"], g["count"]) for g in shown["groups"]] == [
        (label, cluster_labels.cluster_colour(label), n) for label, n in ((0, 80), (1, 60), (2, 50), (-1, 10))]


def test_a_verdict_that_was_stored_is_shown_with_its_numbers(tmp_path, analysis):
    path = tmp_path / "clu" / result_files.CLUSTERING_JSON
    write_record(path, clustering(
        clusters=2, verdict="2 <clusters>", valley=0.21, plateau=Plateau(3, 17, 71),
        stability=Stability(2, 160, 0.75, [0.91, 0.52], [2, 4]),
        null=[NullDraw(1, 1.0, [1]), NullDraw(5, 0.2, [6]), NullDraw(2, 0.22, [])],
        sweep=[SweepRow(15, 3, 3, 0.05, 0.987, [1, 6])]))
    rows = result_files.read_json(tmp_path / "clu" / result_files.CLUSTERS_JSON)
    rows[1]["stability"] = 0.523
    result_files.write_json(tmp_path / "clu" / result_files.CLUSTERS_JSON, rows)
    _, text = read(page.write_report(analysis, tmp_path / "report.html"))
    for words in ("2 <clusters>", "0.91, 0.52 (1 = the same in every repeat, stable from 0.75)",
                  "2, 4 (each on 160 particles)", "clusters in draws of the null 1, 5, 2",
                  "of them as many, parted as deeply 1 of 3 (none is asked for)", "0.21 (0 = nothing between",
                  "3 clusters, smallest size 17 to 71", "in the null unassigned agreement 15 3 1, 6 5.0 %",
                  "stability 0.52"):
        assert words in text, words
    assert "No verdict" not in text


@pytest.mark.slow
def test_a_refinement_is_shown(tmp_path, analysis):
    folder = tmp_path / "ref"
    for name in ("cluster_00", "cluster_01", "along_0", "along_1"):
        write_map(folder / f"maps/{name}.mrc", np.random.default_rng(1).normal(size=(16,) * 3).astype(np.float32), 4.5)
    along = [], ["maps/along_0.mrc", "maps/along_1.mrc"]
    write_records(folder / result_files.CLUSTERS_JSON, [
        state_row(label, 120 - 50 * label, 0.6 - 0.25 * label,
                  comparison(resolution_0143_ang=11.17 + label, resolution_05_ang=17.28 + label,
                             nyquist_frac_0143=0.81), proof(6, shared_ang=24.0, proven_0143=label == 0),
                  files=[f"maps/half{label}a.mrc", f"maps/half{label}b.mrc"], motion_files=along[label])
        for label in (0, 1)])
    write_record(folder / result_files.STATES_JSON, SUMMARY)
    result_files.write_csv(folder / result_files.PARTICLES_CSV, ["particle_id", "label", "rot_deg", "tilt_deg"],
                      [[i, label, 7 * k % 360 - 180, k % 180]
                       for k, (i, label) in enumerate(zip(IDS, np.repeat([0, 1, -1], (120, 70, 10)), strict=True))])
    plain, _ = read(page.write_report(analysis, tmp_path / "report.html"))
    reader, text = read(page.write_report(replace(analysis, states_dir=str(folder)), tmp_path / "report.html"))
    for words in ("2 <states>", "123.5 per image; 3 is asked for", "set aside as junk 10 (5.0 %)",
                  "(the best of 88.8, 99.9)", "random maps beside it: 120.4 per image, kept", "mask: radius 96 Å",
                  "standard deviation 23 %; below 8 % it is not modelled",
                  "state 1 120 60.0 % 11.2 Å 17.3 Å 0.81 halves agree to 11.2 Å",
                  "by direction 10.0 to 14.5 Å; what is coarser than 24.0 Å is shared, not proven maps/cluster_00.mrc",
                  "maps/half0a.mrc, maps/half0b.mrc",
                  "state 2 70 35.0 % 12.2 Å", "no resolution is proven: the halves fall apart at 12.2 Å",
                  "state 1 and state 2 0.98 0.04 0.01 312",
                  "misfit 1.58 (the best state's 0.75)", "241.7 per unseen image, 223.2 before, taken",
                  "groups of the images of one state one state, 7 outside",
                  "2 states of 61, 62 (log likelihood of the least valley 33)", "motion 2 of 2"):
        assert words in text, words
    n_shown = 2 * 6 + 1 + 2 + 1 + 1  # surfaces and sections, film and strip of a motion, FSC, viewing directions
    assert len(reader.images) - len(plain.images) == n_shown
    update_status(folder, n_particles=200, states=2, state="finished")
    alone, text = read(page.write_report(ReportRun(states_dir=str(folder)), tmp_path / "alone.html"))
    assert with_ring(text) == text and "Å" in text
    assert "States and poses 200 particles, 2 states" in text and "2 <states>" in text and "UMAP" not in text
    assert len(alone.images) == n_shown
    order = [text.index(words) for words in (
        "2 states, to trust and to go on with", "State 2 varies continuously", "of state 2 no resolution is proven",
        "5 % of the images fit no state", "state 1 120 60.0 %", "SCF after Baldwin", "123.5 per image"
    )]
    assert order == sorted(order)
    with pytest.raises(ConfigError, match="fullres_dir, classes_dir, consensus_dir or evaluation_dir alone"):
        page.write_report(ReportRun(states_dir=str(folder), traverse_dir=analysis.traverse_dir), tmp_path / "c.html")
    with pytest.raises(DataError, match="Run vaegan states first"):
        page.write_report(replace(analysis, states_dir=str(tmp_path)), tmp_path / "report.html")


def test_only_the_folders_that_are_named(tmp_path, analysis):
    least = ReportRun(run_dir=analysis.run_dir, clusters_dir=analysis.clusters_dir)
    _, text = read(page.write_report(least, tmp_path / "report.html"))
    assert "VAE-GAN train3d" in text
    assert "component 1" not in text
    assert "truth" not in text
    with pytest.raises(ConfigError, match="no run_dir or no clusters_dir"):
        page.write_report(ReportRun(run_dir=analysis.run_dir), tmp_path / "report.html")
    with pytest.raises(DataError, match="Run vaegan traverse first"):
        page.write_report(ReportRun(run_dir=analysis.run_dir, clusters_dir=analysis.clusters_dir,
                                           traverse_dir=str(tmp_path)), tmp_path / "report.html")


def test_names_that_are_no_text_are_shown_with_escapes(tmp_path, analysis):
    _, text = read(page.write_report(replace(analysis, title="donn\udce9es"), tmp_path / "report.html"))
    assert "donn\\udce9es" in text


@pytest.mark.slow
def test_by_request_and_by_command_line(tmp_path, analysis, monkeypatch):
    request = run_json.write_run(analysis, tmp_path / "request" / result_files.RUN_JSON)
    assert run_json.read_run(request) == analysis
    assert main.main(["run", str(request), "--out", str(tmp_path / "a")]) == 0
    by_request = (tmp_path / "a" / result_files.REPORT_HTML).read_text()
    monkeypatch.chdir(tmp_path)
    options = ["report", "--run", "run", "--clusters", "clu", "--traverse", "tra", "--halves", "hal", "--evaluation",
               "eva", "--title", analysis.title]
    assert main.main([*options, "--out", "b.html"]) == 0
    assert (tmp_path / "b.html").read_text() == by_request
    assert main.main([*options, "--out", "b.pdf"]) == 2
    assert main.main([*options, "--out", "b.html", "--truth", "truth.csv"]) == 2
    assert main.main([*options, "--out", "b.png", "--states", "ref"]) == 2
    assert report.SUFFIXES == (".html", ".png")


# What a person does, as events: draw around the first cluster, save; zoom; select all of one cluster.
ROBOT = """
<script>
const canvas = document.getElementById("umap-canvas"), box = canvas.getBoundingClientRect();
const told = {};
let saved = null;
URL.createObjectURL = (blob) => { saved = blob; return "#"; };
HTMLAnchorElement.prototype.click = function () { told.file = this.download; };
function send(target, kind, x, y, more) {
  target.dispatchEvent(new PointerEvent(kind, {clientX: box.left + x, clientY: box.top + y, bubbles: true, ...more}));
}
function pixels() {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 3; i < data.length; i += 4) { sum += data[i] > 0; }
  return sum;
}
const w = canvas.clientWidth, h = canvas.clientHeight;
told.drawn = pixels();
told.size = [w, h];
send(canvas, "pointermove", w / 2, h / 2);
told.hover = document.getElementById("umap-hover").textContent;
// rows run from the upper left to the lower right: a box over the upper left part
const corners = [[0, 0], [w * 0.45, 0], [w * 0.45, h * 0.45], [0, h * 0.45]];
send(canvas, "pointerdown", ...corners[0]);
corners.forEach((corner) => send(canvas, "pointermove", ...corner));
send(window, "pointerup", ...corners[3]);
told.info = document.getElementById("umap-info").textContent;
document.getElementById("umap-save-ids").click();
const before = pixels();
canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -800, clientX: box.left + w / 2, clientY: box.top + h / 2}));
told.zoomed = pixels() < before;
send(canvas, "pointermove", w / 2 , h / 2);
told.hoverZoomed = document.getElementById("umap-hover").textContent;
document.querySelectorAll("#umap-legend a")[1].dispatchEvent(new MouseEvent("click"));
told.second = document.getElementById("umap-info").textContent;
saved.text().then((text) => {
  told.ids = text;
  const out = document.createElement("pre");
  out.id = "told";
  out.textContent = JSON.stringify(told);
  document.body.append(out);
});
</script>
</body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_the_page_in_a_browser(tmp_path, analysis):
    """Zoom, lasso and export answer to the mouse, and what is exported is what lies inside the lasso."""
    path = page.write_report(analysis, tmp_path / "report.html")
    path.write_text(path.read_text().replace("</body>", ROBOT))
    made = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=1200,900", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="told">(.*?)</pre>', made.stdout, re.DOTALL)
    assert found, made.stdout[-500:] + made.stderr[-1000:]
    told = json.loads(found.group(1).replace("&amp;", "&"))
    assert told["drawn"] > 200
    assert told["file"] == "particle_ids.txt"
    ids = [int(line) for line in told["ids"].split()]
    # row 99.5 stands in the middle, 24 px are left at the edges, and both axes have one scale
    wide, high = told["size"]
    scale = min(wide - 48, high - 48) / 199
    n = len(ids)
    expected = sum(99.5 - row > 0.05 * max(wide, high) / scale for row in range(200))
    assert abs(n - expected) <= 1  # mouse positions are whole pixels, less than half a row
    assert ids == IDS[:n].tolist()
    assert told["info"] == f"{n} of 200 particles selected (cluster 1: 80, cluster 2: {n - 80})"
    assert told["zoomed"]
    centre = re.fullmatch(r"particle (\d+), cluster 2", told["hover"])
    assert int(centre.group(1)) in IDS[95:105]
    assert told["hoverZoomed"] in ("", told["hover"])
    assert told["second"] == "60 of 200 particles selected (cluster 2: 60)"


@pytest.mark.slow
def test_the_answer_comes_first_and_a_paragraph_can_be_pasted(tmp_path, analysis):
    """States and clusters crossed by particle id; what was done, with its citations as links."""
    folder = tmp_path / "ref"
    test_a_refinement_is_shown(tmp_path, analysis)
    reader, text = read(page.write_report(replace(analysis, states_dir=str(folder)), tmp_path / "report.html"))
    assert text.index("Trust the states.") < text.index("Every dot is a particle")
    assert text.index("Every dot is a particle") < text.index("No verdict was stored") < text.index("123.5 per image")
    assert "2 states: the embedding has 3 clusters, but it was made without poses. Trust the states." in text
    assert "particles of state 1 state 2 set aside cluster 1 80 0 0 cluster 2 40 20 0 cluster 3 0 50 0" in text
    assert "trained without poses" in text and "https://doi.org/10.21105/joss.00861" in reader.references


def write_junk(folder, reasons):
    """Junk of a results folder, by the writer that the engine has."""
    images = np.random.default_rng(2).standard_normal((len(reasons), 16, 16)).astype(np.float16)
    cache = SimpleNamespace(images=images, box_px=16, particle_id=IDS[:len(reasons)], pixel_size_ang=4.5)
    write_junk_examples(cache, reasons, folder)


def test_classes_in_the_plane_have_a_page(tmp_path):
    """Classes of particles before those of junk, what was set aside by reason, a paragraph to paste."""
    folder = tmp_path / "cls"
    write_stack(folder / "maps/classes.mrcs", np.random.default_rng(1).normal(size=(3, 16, 16)).astype(np.float32), 4.5)
    write_records(folder / result_files.CLUSTERS_JSON, [
        ClusterRow(label, 50 - 10 * label, 0.4, [], "maps/classes.mrcs", label, in_plane=PlaneFigures(
            junk, 4, 4.5, [1.0, 0.5], 2.0, 12.3 + label, 20.0)) for label, junk in enumerate(["", "", "off centre"])])
    details = Classes2dSummary("2 classes of 82 particles", 3, 2, 120, 38, 1.5, 6.0, 12.3)
    write_record(folder / result_files.CLASSES2D_JSON, details)
    write_junk(folder, ["", "unlike", "off centre", "off centre", ""])
    run_json.write_run(Classes2dRun(n_classes=20), folder / result_files.RUN_JSON)
    update_status(folder, n_particles=120, state="finished", versions={"engine": "0.1.0"})
    reader, text = read(page.write_report(ReportRun(classes_dir=str(folder)), tmp_path / "report.html"))
    assert "Class averages 120 particles, 3 classes in the plane" in text
    order = [text.index(words) for words in (
        "2 classes of 82 particles, the best resolved to 12.3 Å by its halves. 38 images (32 %) are junk.",
        "1: 50; 12.3 Å 2: 40; 13.3 Å", "3: 30; off centre", "stays off centre: 2 images", str(IDS[2]),
        "kept, to compare with: 2 images".capitalize(), "2 classes of 82 particles were kept")]
    assert order == sorted(order) and "engine 0.1.0" in text
    assert len(reader.images) == 3 + 5
    none = classes_answer(replace(details, n_junk=120, classes_of_particles=0))
    assert none.startswith("No class of particles was found.")


def test_several_runs_compared_have_a_page(tmp_path):
    """Groups with how often they came back, the runs, the maps of the run whose groups they are."""
    runs = [tmp_path / f"run{k}" for k in range(3)]
    for k, folder in enumerate(runs):
        write_clusters(folder, np.repeat([0, 1], (120, 80)) if k < 2 else np.repeat([0, 1], (100, 100)),
                       particle_id=IDS, umap=np.zeros((200, 2)), embedding_dir=tmp_path)
    run_consensus(ConsensusRun(clusters=tuple(map(str, runs))), tmp_path / "con")
    _, text = read(page.write_report(ReportRun(consensus_dir=str(tmp_path / "con")), tmp_path / "report.html"))
    order = [text.index(words) for words in ("Of 3 runs compared: 2 groups, stable", "cluster 1 120 3 of 3 runs 0.9",
                                             "run0 2", "its groups are shown", "run0 and run1 200 1.00 1.00")]
    assert order == sorted(order)
