"""What ``gui.py`` does in the GUI: project window, every form, every viewer, a lasso by mouse.

``bin/scipion3 python scripts/gui_session.py PICTURES SCALE [PROJECT]`` on an X display. Exit code 1 when a window does
not come up, a picture is blank, a run does not finish, or the subset is not what lies inside the lasso.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from gui_driver import Driver, GuiError, widgets, with_text
from gui_project import make_project
from gui_views import MAY_BE_EMPTY, VIEWS
from pyworkflow.gui.project import ProjectWindow
from pyworkflow.gui.project.viewprotocols import FormWindow
from pyworkflow.project import Manager
from pyworkflow.protocol import getProtocolFromDb

import vaegan_scipion.protocols
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)

RUN_S = 120
ANALYZE = "Analyze results"
CLOSES = ("Close", "OK", "Cancel")
FORECAST_S = 300.0


class Session:
    """The steps, in order."""

    def __init__(self, window, driver, made_here):
        self.window, self.driver, self.forms, self.made_here = window, driver, [], made_here
        original = FormWindow.__init__

        def remembering(form, *args, **kwargs):
            self.forms.append(form)
            original(form, *args, **kwargs)

        FormWindow.__init__ = remembering

    # ------------------------------- parts -------------------------------
    def protocols_view(self):
        """The view of runs in the project window."""
        return self.window.viewWidget

    def newest_run(self, protocol_class):
        """The last run of a kind in the project."""
        found = self.runs_of(protocol_class)
        if not found:
            raise GuiError(f"the project has no run of {protocol_class.__name__}")
        return found[-1]

    def runs_of(self, protocol_class, volumetric=True):
        """Runs of a kind in the project; of clusterings and traversals those of 3D trainings, or of 2D ones."""
        found = [run for run in self.driver.ask(lambda: self.window.project.getRuns(refresh=True))
                 if type(run) is protocol_class]
        if protocol_class not in (VaeganProtCluster, VaeganProtTraverse):
            return found
        return [run for run in found if volumetric is (
            run if protocol_class is VaeganProtCluster else run.inputClusters.get()).isVolumetric()]

    def new_form(self, count_before):
        """The form that was opened last, once it can be seen."""
        return self.driver.wait(lambda: len(self.forms) > count_before and self.forms[-1].root.winfo_viewable()
                                and self.forms[-1], "a form")

    def close(self, toplevel):
        """Press a window's Close button."""
        button = self.driver.wait(lambda: with_text(toplevel, *CLOSES), "a Close button")
        self.driver.click_widget(button)
        self.driver.wait(lambda: not toplevel.winfo_exists(), "the window to close")

    def select_run(self, run):
        """Click a run's box in the tree."""
        view = self.protocols_view()
        self.driver.ask(view.refreshRuns)
        canvas = view.runsGraphCanvas

        def place():
            for item in canvas.items.values():
                node = getattr(item, "node", None)
                if node is not None and node.run is not None and node.run.getObjId() == run.getObjId():
                    left, top, right, bottom = canvas.bbox(item.id)
                    return (canvas.winfo_rootx() + (left + right) / 2 - canvas.canvasx(0),
                            canvas.winfo_rooty() + (top + bottom) / 2 - canvas.canvasy(0))
            return None

        self.driver.click(*self.driver.wait(place, f"the box of {run.getObjLabel()}"))
        self.driver.ask(lambda: canvas.onLeave(None))  # or its tool tip stays, on a slow machine
        chosen = self.driver.ask(view.getSelectedProtocol)
        if chosen is None or chosen.getObjId() != run.getObjId():
            raise GuiError(f"a click on the box did not select run {run.getObjId()}")

    def open_viewer(self, run):
        """Select a run, press Analyze Results, return the viewer's form."""
        self.select_run(run)
        count = len(self.forms)
        self.driver.click_widget(self.driver.wait(lambda: with_text(self.window.root, ANALYZE), ANALYZE))
        return self.new_form(count)

    def press_eye(self, viewer, name):
        """Press the button of one line of a viewer's form."""
        buttons = self.driver.ask(lambda: viewer.widgetDict[name].btnFrame.winfo_children())
        self.driver.click_widget(buttons[0])

    def open_figure(self, viewer, name):
        """Press a line's button and return the number of the figure that comes up."""
        before = set(self.driver.ask(plt.get_fignums))
        self.press_eye(viewer, name)
        number = self.driver.wait(lambda: next(iter(set(plt.get_fignums()) - before), None), f"the figure of {name}")
        self.driver.wait(lambda: plt.figure(number).canvas.manager.window.winfo_viewable(), f"the window of {name}")
        time.sleep(1.0)
        return number

    # ------------------------------- steps -------------------------------
    def forms_of_all(self):
        """The form of every protocol of the plugin."""
        for name in vaegan_scipion.protocols.__all__:
            protocol_class = getattr(vaegan_scipion.protocols, name)
            count = len(self.forms)
            self.driver.root.after(0, lambda kind=protocol_class: self.protocols_view()._openProtocolForm(
                self.window.project.newProtocol(kind)))
            form = self.new_form(count)
            self.tabs(form, "form_" + name.replace("VaeganProt", "").lower())
            self.close(form.root)

    def tabs(self, form, name):
        """A picture of each tab of a form."""
        notebook = next((widget for widget in widgets(form.root) if widget.winfo_class() == "TNotebook"), None)
        tabs = self.driver.ask(notebook.tabs) if notebook is not None else [None]
        for number, tab in enumerate(tabs, start=1):
            if tab is not None:
                self.driver.ask(lambda tab=tab: notebook.select(tab))
            self.driver.picture(name if number == 1 else f"{name}_{number}", form.root)

    def wizards(self):
        """The size and the cost, from the form of states with the project's particles."""
        protocol = self.window.project.newProtocol(VaeganProtStates)
        protocol.useGpu.set(False)
        known = self.newest_run(VaeganProtStates)
        protocol.inputParticles.copy(known.inputParticles)
        count = len(self.forms)
        self.driver.root.after(0, lambda: self.protocols_view()._openProtocolForm(protocol))
        form = self.new_form(count)
        time.sleep(2)  # a new window may be moved yet
        for name, picture in (("expectedCost", "wizard_cost"), ("particleDiameterAng", "wizard_size")):
            if name == "expectedCost" and self.made_here:
                continue  # the small set of the tests has fewer particles than the form takes
            if name == "particleDiameterAng":
                notebook = next(widget for widget in widgets(form.root) if widget.winfo_class() == "TNotebook")
                self.driver.ask(lambda notebook=notebook: notebook.select(1))
            self.press_eye(form, name)
            shown = self.driver.wait(lambda: next((widget for widget in form.root.winfo_children()
                                                   if widget.winfo_class() == "Toplevel"
                                                   and widget.winfo_viewable()), None), f"the wizard of {name}")
            if name == "expectedCost":
                self.driver.picture(f"{picture}_measuring", shown)
                self.driver.wait(lambda shown=shown: shown.text.get().startswith("Expected"), "a forecast", FORECAST_S)
            self.driver.picture(picture, shown)
            self.close(shown)
        self.close(form.root)

    def figures_of(self, run, suffix=""):
        """Every figure of a viewer."""
        viewer = self.open_viewer(run)
        kind = type(run).__name__.replace("VaeganProt", "").lower()
        self.driver.picture(f"viewer_{kind}{suffix}", viewer.root)
        for button, name in VIEWS[type(run)].items():
            if button not in MAY_BE_EMPTY or (self.made_here and button != "showPreview"):
                self.one_figure(viewer, button, name + suffix)
            elif not self.made_here:
                self.figure_or_message(viewer, button, name + suffix)
        return viewer

    def figure_or_message(self, viewer, button, name):
        """A picture of what a button shows, where that may be a message."""
        before = set(self.driver.ask(plt.get_fignums))
        self.press_eye(viewer, button)

        def shown():
            new = set(plt.get_fignums()) - before
            if new:
                return plt.figure(next(iter(new))).canvas.manager.window
            return next((widget for widget in viewer.root.winfo_children() if widget.winfo_class() == "Toplevel"
                         and widget.winfo_viewable()), None)

        window = self.driver.wait(shown, f"the figure or the message of {name}")
        time.sleep(1.0)
        self.driver.picture(name, window)
        new = set(self.driver.ask(plt.get_fignums)) - before
        if new:
            self.driver.ask(lambda: plt.close(next(iter(new))))
        else:
            self.close(window)

    def one_figure(self, viewer, button, name):
        """Open a figure, keep its picture, close it."""
        number = self.open_figure(viewer, button)
        self.driver.picture(name, self.driver.ask(lambda: plt.figure(number).canvas.manager.window))
        self.driver.ask(lambda: plt.close(number))

    def chimera_says_what_is_missing(self, viewer):
        """Without ChimeraX a message names the variable to set."""
        self.press_eye(viewer, "showChimera")

        def message():
            return next((widget for widget in viewer.root.winfo_children() if widget.winfo_class() == "Toplevel"
                         and widget.winfo_viewable()), None)

        dialog = self.driver.wait(message, "the message about ChimeraX")
        self.driver.picture("no_chimerax", dialog)
        self.close(dialog)

    def report(self, viewer, clustering):
        """The report is there after its button was pressed; its picture is made by chromium, where there is one."""
        page = Path(clustering._getExtraPath("report", "report.html")).absolute()
        before = page.stat().st_mtime if page.exists() else 0
        self.press_eye(viewer, "showReport")
        self.driver.wait(lambda: page.exists() and page.stat().st_mtime > before, str(page), RUN_S)
        if shutil.which("chromium") is None:
            print("no chromium: no picture of the report", flush=True)
            return
        path = self.driver.folder / "report.png"
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                            f"--user-data-dir={profile}", "--window-size=1250,1650", f"--screenshot={path}",
                            page.as_uri()], check=True, capture_output=True)
        self.driver.shrink(path)

    def table(self, viewer):
        """Classes in Scipion's metadata viewer, a program of its own."""
        self.press_eye(viewer, "showClasses")
        found = self.driver.x_window("Metadata viewer|SetOfClasses|classes", 40)
        time.sleep(2)
        self.driver.save("classes", found)
        self.driver.close_x_window(found)

    def lasso(self, viewer, clustering):
        """Draw around dots, press Create subset, compare the run's ids with the dots inside."""
        number = self.open_figure(viewer, "showUmap")
        explorer = self.driver.ask(lambda: plt.figure(number).content)
        canvas = self.driver.ask(lambda: plt.figure(number).canvas.get_tk_widget())
        window = self.driver.ask(lambda: plt.figure(number).canvas.manager.window)

        def on_screen(points):
            """Screen pixels of points in display coordinates, whose y runs upwards."""
            return [(round(canvas.winfo_rootx() + x), round(canvas.winfo_rooty() + canvas.winfo_height() - y))
                    for x, y in points]

        umap, ids = explorer.clusters.umap[:, :2], explorer.clusters.particle_id
        first = explorer.clusters.label == 0
        dots = self.driver.ask(lambda: explorer.axes.transData.transform(umap))
        self.driver.mouse("mousemove", *self.driver.ask(lambda: on_screen([dots[np.flatnonzero(first)[0]]]))[0])
        self.driver.wait(lambda: explorer.shown is not None, "the particle under the mouse")
        box = self.driver.ask(lambda: explorer.axes.bbox.extents)
        corners = polygon_around(dots[first], box)
        screen = self.driver.ask(lambda: on_screen(corners))
        # whole pixels, as the mouse knows them
        pixels = [(x - self.driver.ask(canvas.winfo_rootx), self.driver.ask(canvas.winfo_height)
                   - (y - self.driver.ask(canvas.winfo_rooty))) for x, y in screen]
        expected = sorted(int(i) for i, dot in zip(ids, dots, strict=True) if inside(dot, pixels))
        if not 0 < len(expected) < len(ids):
            raise GuiError(f"the lasso holds {len(expected)} of {len(ids)} particles: it proves nothing")
        self.driver.drag(screen)
        self.driver.wait(lambda: explorer.selected_ids, "a selection")
        self.driver.picture("umap_lasso", window)
        middle = self.driver.ask(lambda: explorer.create_button.ax.bbox.extents)
        self.driver.click(*self.driver.ask(lambda: on_screen([((middle[0] + middle[2]) / 2,
                                                               (middle[1] + middle[3]) / 2)]))[0])

        told = self.driver.wait(lambda: re.search(r"run (\d+)", explorer.status.get_text()), "a run of the lasso")
        project, run_id = Path(self.window.project.getPath()), int(told.group(1))

        def ended():
            # as the run's own process wrote it: a GUI that looks too often calls a run failed that has just ended
            database = next(project.glob(f"Runs/{run_id:06d}_*/logs/run.db"), None)
            stored = database and getProtocolFromDb(str(project), str(database.relative_to(project)), run_id)
            return stored if stored is not None and not stored.isActive() else None

        run = self.driver.wait(ended, "the end of the lasso's run", RUN_S)
        self.driver.picture("umap_created", window)
        self.driver.ask(lambda: plt.close(number))
        if type(run) is not VaeganProtSelect or not run.isFinished():
            raise GuiError(f"the lasso's run is {type(run).__name__}, {run.getStatus()}: {run.getErrorMessage()}")
        made = self.driver.ask(lambda: [particle.getObjId() for particle in run.outputParticles])
        if made != expected:
            raise GuiError(f"the subset holds {len(made)} particles, {len(expected)} lie inside the lasso; they differ "
                           f"in {sorted(set(made) ^ set(expected))[:10]}")
        print(f"lasso: {len(made)} of {len(ids)} particles, exactly those inside the polygon", flush=True)

    def run(self):
        """All steps."""
        driver = self.driver
        driver.wait(lambda: self.protocols_view() is not None and self.window.root.winfo_viewable(), "project window")
        time.sleep(2)
        clustering = self.newest_run(VaeganProtCluster)
        self.select_run(clustering)
        driver.picture("project", self.window.root)
        self.forms_of_all()
        self.wizards()
        self.close(self.figures_of(self.newest_run(VaeganProtTrain3D)).root)
        viewer = self.figures_of(self.newest_run(VaeganProtTraverse))
        self.chimera_says_what_is_missing(viewer)
        self.close(viewer.root)
        for protocol_class in (VaeganProtEvaluate, VaeganProtStates, VaeganProtClasses2D, VaeganProtFullres,
                               VaeganProtConsensus):
            for run in self.runs_of(protocol_class)[-1:]:
                self.close(self.figures_of(run).root)
        for run in [*self.runs_of(VaeganProtTrain2D)[-1:], *self.runs_of(VaeganProtCluster, False)[-1:],
                    *self.runs_of(VaeganProtTraverse, False)[-1:]]:
            self.close(self.figures_of(run, "_2d").root)
        viewer = self.figures_of(clustering)
        self.table(viewer)
        self.report(viewer, clustering)
        self.lasso(viewer, clustering)
        self.close(viewer.root)
        driver.ask(self.protocols_view().refreshRuns)
        driver.picture("project_after", self.window.root)


def polygon_around(dots, box):
    """Corners (display px) of a slanted quadrilateral over about half of the dots, inside the axes' box."""
    middle, spread = np.median(dots, axis=0), np.maximum(np.ptp(dots, axis=0) * 0.3, 30)
    corners = middle + spread * np.array([(-1.0, -0.8), (0.9, -1.0), (1.0, 0.8), (-0.8, 1.0)])
    return np.clip(corners, np.array(box[:2]) + 3, np.array(box[2:]) - 3)


def inside(dot, corners):
    """Whether a dot lies in a polygon: an odd number of edges lie to its right."""
    x, y = dot
    odd = False
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            odd = not odd
    return odd


def main():
    """Open the project, drive it, leave with the outcome."""
    folder, scale = sys.argv[1], float(sys.argv[2])
    path = Manager().getProjectPath(sys.argv[3]) if len(sys.argv) > 3 else make_project()
    window = ProjectWindow(path)
    driver = Driver(window.root, folder, scale)
    session = Session(window, driver, made_here=len(sys.argv) <= 3)

    def work():
        code = 1
        try:
            session.run()
            code = 0
        except Exception:
            traceback.print_exc()
            try:
                driver.picture("failed")
            except Exception:
                traceback.print_exc()
        finally:
            print(f"gui: {'done' if code == 0 else 'FAILED'}", flush=True)
            os._exit(code)  # the GUI's own threads do not end

    threading.Thread(target=work, daemon=True).start()
    window.show()


if __name__ == "__main__":
    main()
