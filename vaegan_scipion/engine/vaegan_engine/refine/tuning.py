"""The numbers that ``states`` was set with, in one record: what each is, on what it was set, how sensitive it is.

A user's settings are in ``StatesRun``; these are the method's own. "Set on" names the data of
docs/history/method-notes.rst.
"Single": the value lies between single observations on a few molecules, and another one may need it elsewhere;
"wide": little lies near it, or little depends on it. Shells are cycles per box. What holds for every search and every
least squares (chunk sizes, Wiener term, damping) stays with the code of ``reconstruction``.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from ..runtime.step_store import UNDER_WAY_SECONDS


@dataclass(frozen=True)
class ShellTuning:
    """Resolutions that fit the particle (``resolutions``), where the user left them to it."""

    start: float = 10.0  # shells of the start; one dirty set of the 50S, where 4 are blind and 8 slow
    search: float = 10.0  # of the pose search; as of the start
    states: float = 12.0  # at which states are told apart
    typical_radius_frac: float = 0.32  # radius / box of the particles that these three were set on
    max_finer: float = 2.0  # the most they are multiplied by for a smaller particle; wide
    n_images: int = 1000  # that the particle's size is measured on; wide
    power_shells: float = 6.0  # low pass before it is measured
    edge_frac: float = 0.9  # of the circle: beyond it there is only noise
    min_power_frac: float = 0.02  # of all power that must be the particle's, or its size is unknown
    min_ball_share: float = 0.05  # of a shell's signal: a ball explains it; apoferritin to shell 8, ribosome, exosome 2
    min_signal: float = 0.05  # of the noise: below it a shell has too little to ask; wide
    noise_frac: float = 0.75  # of Nyquist: the shells beyond it are noise
    times_ball: float = 1.75  # the last such shell, for the start: real apoferritin 14; wide for solid particles
    times_ball_search: float = 2.25  # the same for the pose search: on apoferritin 14 shells do not tell wrong poses
    ball_finer_shifts: float = 2.0  # times finer shifts there; apoferritin: with 1 wrong poses explain more


@dataclass(frozen=True)
class StartTuning:
    """Ab initio maps (``ab_initio``, ``starting_maps``)."""

    n_rotations: int = 2304  # of the grid, about 18 degrees apart; 4608 are no better
    search_n_rotations: int = 2304  # the same of what goes on
    least_batch: int = 48  # images per step where there are few; phantom of 400: as good as 128
    max_batch_frac: float = 0.25  # of all images, per step; wide
    n_looks: int = 3  # parts of the steps, after which unseen images are looked at; wide
    min_part_gain: float = 0.01  # of unseen log likelihood, by a part of the steps, for another part; wide
    agree_deg: float = 25.0  # of the poses of unseen images in two starts, in one frame
    min_agree: float = 0.6  # of these images: the starts have found the same; ribo3 0.94, wrong starts 0.03 to 0.18
    tries_cubic: bool = False  # starts of cubic symmetry too, which is then given up: hollow shells (``with_grids``)
    times_symmetric: int = 2  # more starts of a symmetric map; on real apoferritin 3 of 5 went to the model; single
    min_displaced_frac: float = 0.02  # of the box: a map that stands so far off its images' centre is moved; wide
    min_displaced_errors: float = 4.0  # standard errors of that distance; wide
    larger_batches: int = 2  # times the batch of the starts, for what goes on; wide
    n_images_power: int = 1000  # that starting noise and scale are measured on; wide
    n_rotations_scale: int = 256  # that the power of the maps' slices is averaged over; wide
    random_amplitude: float = 0.5  # of random maps, relative to the signal's; wide
    blob_radius_frac: float = 0.25  # of the box: sphere that random maps fill; wide
    blob_edge_frac: float = 0.12
    noise_shell: int = -3  # from the highest: where the images' power is noise alone
    held_out_frac: float = 0.1  # of the images, that take no part and choose between starts
    max_held_out: int = 300
    growth_noise: float = 0.3  # norm of what is added to a copy / the map's; single: adenylate kinase
    plain_errors: float = 3.0  # standard errors by which one kind of start must be better; single: exosome needs more
    min_share: float = 0.03  # of the images: a map below it after the start is dropped; wide
    typical_spread: float = 0.25  # of the contrasts, before it is known
    min_log_evidence: float = 3.0  # per unseen image, maps against none; ribosomes have 100 to 220, noise 0.4
    min_ball_errors: float = 2.0  # standard errors by which maps must explain unseen images better than balls
    min_near_errors: float = 4.0  # the same at the shifts that balls find; octahedral shell 8, balls -14
    min_ball_frac: float = 0.01  # of what balls explain: a ball's own map reaches 0.003 by the grid of its shifts
    max_open_deg: float = 45.0  # of rotation that an unseen image may leave open, where halves prove no resolution


@dataclass(frozen=True)
class SearchTuning:
    """Pose searches (all modules) and the second, finer one (``second_search``)."""

    n_rotations: int = 4608  # of the grid, about 14 degrees apart
    finer_shifts: float = 1.0  # times finer than the band needs, in searches and starts (``with_grids``)
    second_n_rotations: int = 9216  # of the second search; wrong poses of a dirty set: 10 %, then 5.2, 4.5 with 18432
    second_sample: int = 500  # images that are searched first; single: blind to small states
    max_changed_frac: float = 0.01  # of the sample: where more has changed, all images are searched again; single
    moved_deg: float = 10.0  # to another pose, not along the way of a refinement
    second_pose_iterations: int = 4


@dataclass(frozen=True)
class RoundTuning:
    """The loop over the decisions (``rounds``) and the settling between them (``assignment``)."""

    max_rounds: int = 5  # three like states at SNR 0.5 took three
    finer_shells: float = 2.0  # added to the states' shells from the second round on
    first_settle_rounds: int = 2  # of states and poses, before states are joined
    pose_iterations: int = 2  # per settling round
    min_posterior: float = 1e-4  # of a state / of the likeliest, for an image's pose in it to be refined again


@dataclass(frozen=True)
class SplitTuning:
    """What makes two states two (``separation``), and poses and principal maps before (``first_principal_map``)."""

    min_agreement: float = 0.5  # adjusted mutual information of two halves' labels; true splits have 0.94 to 1; single
    max_valley: float = 0.6  # density between the sides / at them; true splits 0.04 to 0.40, a motion 0.95; single
    min_valley_evidence: float = 20.0  # log likelihood of a valley, over all images; as of the landscape
    min_agreement_adding: float = 0.2  # of two halves, where the images together show a valley that single ones do not
    max_by_view: float = 0.5  # of the sides' variance; single: exosome 0.66 false, 0.60 true with plain evidence
    plain_agreement: float = 0.9  # with plain_valley: enough, whatever the view explains; single
    plain_valley: float = 0.2
    settle_rounds: int = 3  # of map and poses before a state's landscape
    pose_iterations: int = 3
    em_iterations: int = 12  # of the principal map
    preference_quantile: float = 0.95  # beyond it preferences are cut: extreme images must not set the scale


@dataclass(frozen=True)
class LandscapeTuning:
    """Groups in the landscape of principal maps (``landscape``)."""

    n_components: int = 6  # four states need 3, foreign molecules among them more; the mixture bears idle ones
    map_rounds: int = 30  # of expectation maximisation, of the images of the state
    whole_rounds: int = 10  # of these, the last; where images are many, each before is of a part of them; wide
    most_parts: int = 4  # of the images, in turn; wide
    part_images: int = 1000  # at least, in a part; ribo3 and dirty exosome as with 3000 (NMI within 0.003)
    view_rounds: int = 8  # of the part of z that the view tells
    max_groups: int = 16
    min_valley: float = 20.0  # log likelihood of a valley between two states; even lines reach 6, motions 15 to 19


@dataclass(frozen=True)
class JoinTuning:
    """Joins of states that are the same (``join_states``)."""

    sure_agreement: float = 0.97  # beyond both, two states need no second look; single
    sure_valley: float = 0.2
    pose_iterations: int = 3  # of poses that are carried over


@dataclass(frozen=True)
class JunkTuning:
    """Images that no state explains (``junk``)."""

    misfit_widths: float = 6.0  # above the median; one noise level assumed; ribo3 with 25 % junk: recall 0.98; single
    outlier_widths: float = 2.0  # above the median, of images outside the landscape's groups; one dirty set
    faint_apart: float = 2.0  # widths between the misfits of particles and junk, to tell faint junk; as ``LEAST_APART``
    faint_errors: float = 4.0  # Poisson errors above the mirror image; dirty exosome 24 to 38, ribosome 44; wide
    min_gain: float = 3.0  # log likelihood against an empty map, where noise cannot be told from particles
    n_noise_images: int = 150  # that are searched; wide
    noise_percentile: float = 98.0  # of their gains: the limit; wide
    plain_gain: float = 2.5  # times the limit, of a typical particle; one dirty set has 11
    max_junk_frac: float = 0.5  # of a state: above it the state is dissolved
    rounds: int = 3
    mostly_frac: float = 0.5  # of all images, for "mostly junk"


@dataclass(frozen=True)
class RestartTuning:
    """States that are started anew (``restart_states``)."""

    misfit_widths: float = 3.0  # of the best state's: median so much higher; right states differ by less than 1
    max_images: int = 10_000  # of a state, that it is started from


@dataclass(frozen=True)
class ContrastTuning:
    """Contrasts of the particles (``contrast``)."""

    min_spread: float = 0.08  # below it all contrasts are 1
    group_shells: int = 2  # asked alone; the first maps of clean ribo3 and phantom show 0.00, 0.04 in the lowest
    max_group_noise: float = 0.16  # of a group that can tell: twice min_spread; at SNR 1 the lowest has 0.07; wide
    min_contrast: float = 0.1
    spreads_below: float = 2.0  # of the spread, below 1: an empty image must not pass for a faint particle
    spreads_above: float = 6.0  # strong ones do occur


@dataclass(frozen=True)
class MaskTuning:
    """Radii of the maps' mask that are tried (``mask_choice``)."""

    beyond_fracs: tuple[float, ...] = (-0.05, 0.03, 0.10)  # of the box: full mask to the particle's circle and so much
    first: int = 1  # of them, before there are poses
    edge_frac: float = 0.08
    max_images: int = 2000  # of a state
    image_edge_frac: float = 0.06  # of the box: soft edge of the images' mask; wide, RELION's is 5 px
    nearest_frac: float = 0.75  # of the particle's diameter: nearer neighbours overlap, or are the same particle
    most_overlapping_frac: float = 0.25  # of the images: coordinates that say more are not believed


@dataclass(frozen=True)
class HalfMapTuning:
    """Detail from independent halves (``half_maps``, ``each_state``)."""

    rounds: int = 5
    pose_iterations: int = 3
    min_fsc: float = 0.143
    wider_shells: int = 4  # of the maps beyond the band of the poses, so that their FSC can tell where it ends
    next_shells: int = 2  # of the next round's band past the fall of the FSC
    shared_frac: float = 0.6  # of the search's shells: the cut of the map that both halves begin with; 0.4 loses poses
    max_searches: int = 3  # of each half in the finest band, while poses change
    spread_shells: int = 2  # that a mask spreads what the halves share
    min_half_frac: float = 0.1  # of a state's images, in the smaller of its half sets


@dataclass(frozen=True)
class MotionTuning:
    """Continuous variation inside a state (``motion``) and poses along it (``moving_poses``)."""

    n_nodes: int = 6  # maps along the motion
    pose_turns: int = 2  # of poses
    curve_rounds: int = 2  # of coordinates and maps in each
    min_images: int = 100  # of a state, in each half
    min_agreement: float = 0.5  # of the two halves; rigid states have 0.04 to 0.45, moving ones 0.71 to 0.997
    max_curve_images: int = 20_000  # of a state, that its curve is made from; the others get their place on it
    trial_rounds: int = 2  # of each starting order
    trial_images: int = 2000
    n_components: int = 3  # principal maps whose scores are starting orders
    n_neighbours: int = 20  # of the graph whose Fiedler vector is one
    n_places: int = 51  # values of t that are tried
    node_pose_iterations: int = 1
    max_follow_turns: int = 6
    finer_shifts: float = 5 / 3  # than other searches' when poses are followed: maps along a motion differ by little
    min_rise: float = 0.01  # of the agreement, for another turn
    sample: int = 2000  # images of a state that tell whether it moves
    follow_pose_iterations: int = 3


@dataclass(frozen=True)
class RelaxTuning:
    """Copies of poses that are right up to a symmetry (``relaxed_poses``)."""

    max_turns: int = 12  # of copies and map
    max_changed_frac: float = 0.01  # of the images at another copy, to end


@dataclass(frozen=True)
class RefineTuning:
    """All of them."""

    min_state: int = 50  # particles of a state, however small a part of the set that is
    checkpoint_seconds: float = UNDER_WAY_SECONDS  # between two checkpoints inside of a step
    shells: ShellTuning = field(default_factory=ShellTuning)
    start: StartTuning = field(default_factory=StartTuning)
    search: SearchTuning = field(default_factory=SearchTuning)
    rounds: RoundTuning = field(default_factory=RoundTuning)
    split: SplitTuning = field(default_factory=SplitTuning)
    landscape: LandscapeTuning = field(default_factory=LandscapeTuning)
    relax: RelaxTuning = field(default_factory=RelaxTuning)
    join: JoinTuning = field(default_factory=JoinTuning)
    junk: JunkTuning = field(default_factory=JunkTuning)
    restart: RestartTuning = field(default_factory=RestartTuning)
    contrast: ContrastTuning = field(default_factory=ContrastTuning)
    mask: MaskTuning = field(default_factory=MaskTuning)
    half_maps: HalfMapTuning = field(default_factory=HalfMapTuning)
    motion: MotionTuning = field(default_factory=MotionTuning)


TUNING = RefineTuning()
