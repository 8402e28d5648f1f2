"""Stability, null and verdict: by hand, by closed form, and on groups whose number is known."""
import numpy as np
import pytest
from fake_run import soft_one_hot
from vaegan_engine.contract.records import NullDraw, Plateau
from vaegan_engine.contract.settings import ClusterRun, ComputeConfig
from vaegan_engine.data.particle_tables import Clusters
from vaegan_engine.latent import cluster, density_clustering, stability
from vaegan_engine.latent.stability import StabilityEvidence, best_overlaps, null_latents, plateau, verdict

ALONE = NullDraw(1, 1.0, [])
pytestmark = pytest.mark.xdist_group("umap")  # which compiles for long, in each process


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def assessed(z, n_categories=0, repeats=3, **settings):
    """What ``cluster`` says about z, and its labels."""
    run = ClusterRun(min_cluster_frac=0.1, stability_repeats=repeats,
                     compute=ComputeConfig(device="cpu", threads=1), **settings)
    noisy = density_clustering.jittered(z, 0)
    points = density_clustering.embed_2d(noisy, run.n_neighbors, run.min_dist, 0)
    group = cluster.grouped(run, noisy, points, len(z))
    details = cluster.describe(run, noisy, Clusters(np.arange(len(z)), group.labels, group.probability, points),
                               cluster.LaidOut(np.arange(len(z)), points, group))
    latents = cluster.LatentsAsClustered(z, noisy, n_categories)
    return cluster.assess(run, latents, group, details), group.labels


def test_overlaps_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, -1, -1])
    repeat = np.array([1, 1, 1, 0, 0, 0, 0, -1])
    # cluster 0: {0..3} with {0, 1, 2}: 3 / 4; cluster 1: {4, 5} with {3, 4, 5, 6}: 2 / 4
    np.testing.assert_allclose(best_overlaps(labels, repeat), [0.75, 0.5])
    np.testing.assert_allclose(best_overlaps(labels, np.full(8, -1)), [0, 0])
    assert np.isnan(best_overlaps(np.array([1, 1]), np.array([0, 0]))[0])


def test_stability_is_one_for_what_comes_again_and_low_for_what_does_not(rng):
    labels = np.repeat([0, 1, 2], (400, 400, 200))
    z = np.eye(3)[labels] + 0.0

    def truth(part, seed):
        return part.argmax(axis=1)

    def first_two_joined(part, seed):
        return part.argmax(axis=1) // 2

    def chance(part, seed):
        return np.random.default_rng(seed).integers(2, size=len(part))

    figures, numbers = stability.repeated(z, labels, truth, 4, 0)
    np.testing.assert_array_equal(figures, [1, 1, 1])
    assert numbers == [3, 3, 3, 3]
    figures, numbers = stability.repeated(z, labels, first_two_joined, 40, 0)
    np.testing.assert_allclose(figures, [0.5, 0.5, 1], atol=0.02)
    assert set(numbers) == {2}
    # half of the 400 in a group of 500, and of the 200: 200 / 700, 100 / 600
    figures, _ = stability.repeated(z, labels, chance, 40, 0)
    np.testing.assert_allclose(figures, [2 / 7, 2 / 7, 1 / 6], atol=0.03)


def test_clusters_that_no_repeat_has_a_particle_of_have_no_stability():
    labels = np.repeat([0, 1, 2, 3, 4], (300_000, 18_000, 2, 1, 1))  # a repeat has 3,000 of them
    z = labels[:, None].astype(float)
    for seed in range(5):
        figures, numbers = stability.repeated(z, labels, lambda part, _: (part[:, 0] > 0).astype(np.int64), 4, seed)
        assert figures.shape == (5,) and len(numbers) == 4
        assert figures[0] == 1 and (figures[3:] < 1).all()


def test_a_repeat_is_a_part_of_the_particles_and_other_ones_each_time():
    seen = []

    def look(part, seed):
        seen.append((seed, part[:, 0].astype(int)))
        return np.zeros(len(part), np.int64)

    stability.repeated(np.arange(200.0)[:, None], np.zeros(200, np.int64), look, 3, 10)
    assert [seed for seed, _ in seen] == [11, 12, 13]
    assert [len(set(rows.tolist())) for _, rows in seen] == [160, 160, 160]
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert stability.subset_size(10**6) == stability.MOST_PARTICLES


def test_null_keeps_mean_and_covariance_of_the_log_ratios_and_coordinates(rng):
    mixing = rng.normal(size=(5, 5))
    plain = rng.normal(size=(4000, 5)) @ mixing
    plain[2000:] += 4  # two groups
    plain[:, :3] -= plain[:, :3].mean(axis=1, keepdims=True)
    share = np.exp(plain[:, :3])
    z = np.concatenate((share / share.sum(axis=1, keepdims=True), plain[:, 3:]), axis=1)
    before = z.copy()
    drawn = null_latents(z, 3, 40000, rng)
    np.testing.assert_array_equal(z, before)
    np.testing.assert_allclose(drawn[:, :3].sum(axis=1), 1)
    back = np.log(drawn[:, :3])
    back = np.concatenate((back - back.mean(axis=1, keepdims=True), drawn[:, 3:]), axis=1)
    scale = np.sqrt(np.diag(np.cov(plain.T)))
    np.testing.assert_allclose((back.mean(0) - plain.mean(0)) / scale, 0, atol=0.03)
    np.testing.assert_allclose(np.cov(back.T) / np.outer(scale, scale), np.cov(plain.T) / np.outer(scale, scale),
                               atol=0.04)
    # the two groups are gone: a normal cloud has kurtosis 3, two equal far groups 1
    u = (back[:, 3] - back[:, 3].mean()) / back[:, 3].std()
    assert (u ** 4).mean() == pytest.approx(3, abs=0.15)
    assert null_latents(z[:, 3:], 0, 7, rng).shape == (7, 2)


def test_permuted_columns_of_probabilities_would_be_no_null(rng):
    """Why the null is not that: three corners become groups again, at combinations of columns."""
    z = soft_one_hot(np.repeat([0, 1, 2], 200), rng, 9.0)
    permuted = np.stack([rng.permutation(column) for column in z.T], axis=1)
    corners = {tuple(row) for row in (permuted > 0.5).astype(int).tolist()}
    assert len(corners) == 8
    assert (np.minimum(permuted, 1 - permuted).max(axis=1) < 0.1).mean() > 0.8  # near the corners, as dense as before


def test_plateau_is_the_longest_ratio_of_sizes():
    assert plateau([10, 20, 40, 80, 100], [4, 3, 3, 2, 2]) == Plateau(3, 20, 40)
    assert plateau([10, 20, 40, 80, 160], [3, 3, 2, 1, 1]) == Plateau(3, 10, 20)
    assert plateau([15], [2]) == Plateau(2, 15, 15)


@pytest.mark.parametrize(("size", "n", "part", "expected"), [
    (270, 9000, 3000, 90), (20, 1000, 300, 15), (5, 1000, 300, 5), (2, 10, 8, 2), (900, 10**6, 3000, 15)])
def test_the_smallest_cluster_of_a_part_keeps_its_share(size, n, part, expected):
    assert density_clustering.part_size(size, n, part) == expected


@pytest.mark.parametrize(("figures", "numbers", "unassigned_frac", "valley", "null", "longest", "words"), [
    ([0.98, 0.93], [2, 2], 0.1, 0.1, [ALONE], 2, "2 clusters, stable (lowest stability 0.93)"),
    ([0.98, 0.56], [2, 3], 0.1, 0.1, [ALONE], 2, "2 clusters, of which 1 unstable (stability 0.56; 0.75 is asked)"),
    ([0.5, 0.4], [2, 3], 0.1, 0.1, [ALONE], 3, "2 clusters, none of them stable (stability 0.40, 0.50; 0.75 is asked); "
                                               "the longest plateau of the smallest cluster size has 3"),
    ([1.0], [1, 1], 0.0, 1.0, [ALONE], 1, "one group, no second one found: continuous or a single state"),
    ([0.7], [1, 3], 0.0, 1.0, [ALONE], 1, "one group, but 1 of 2 repeats found more: not decided"),
    ([0.9, 0.9], [2, 2], 0.0, 0.4, [NullDraw(2, 0.3, []), ALONE], 2,
     "no structure found beyond one cloud: 2 clusters (lowest stability 0.90), but 1 of 2 draws of one cloud with the "
     "same spread falls into as many, parted as deeply (valley here 0.40, there 0.30)"),
    ([0.9, 0.9], [2, 2], 0.6, 0.1, [NullDraw(2, 0.11, []), NullDraw(1, 0.0, [])], 2,
     "mostly unassigned, 60 % of the particles are in no cluster; 2 clusters, stable (lowest stability 0.90)")])
def test_verdicts(figures, numbers, unassigned_frac, valley, null, longest, words):
    evidence = StabilityEvidence(np.array(figures), numbers, unassigned_frac, valley, null, Plateau(longest, 1, 2))
    assert verdict(evidence) == words


@pytest.mark.parametrize(("clusters", "valley", "expected"), [
    (3, 0.2, True), (4, 0.19, True), (3, 0.21, False), (2, 0.1, False), (1, 1.0, False)])
def test_a_draw_is_as_deep_with_as_many_clusters_and_no_higher_valley(clusters, valley, expected):
    assert stability.as_deep(NullDraw(clusters, valley, []), 3, 0.2) is expected


@pytest.mark.slow
def test_a_mixture_is_stable(rng):
    state = np.repeat([0, 1, 2], (200, 160, 120))
    found, labels = assessed(7 * np.eye(3, 5)[state] / np.sqrt(2) + rng.normal(size=(480, 5)))
    assert labels.max() + 1 == 3
    assert found.verdict.startswith("3 clusters, stable"), found
    assert min(found.stability.per_cluster) > 0.9
    assert found.stability.clusters == [3, 3, 3]
    assert [draw.clusters for draw in found.null] == [1] * stability.NULL_DRAWS
    assert all(len(row.null_clusters) == 3 for row in found.sweep)


@pytest.mark.slow
def test_sure_categories_of_true_states_are_more_than_their_null(rng):
    """Probabilities near the corners: the null falls into corners too, but is parted less deeply."""
    found, labels = assessed(soft_one_hot(np.repeat([0, 1, 2], (200, 160, 120)), rng, 9.0), n_categories=3)
    assert labels.max() + 1 == 3
    assert found.verdict.startswith("3 clusters, stable"), found


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["blob", "ring"])
def test_what_has_no_gap_is_no_stable_clusters(rng, shape):
    if shape == "blob":
        z = rng.normal(size=(480, 5))
    else:
        angle = rng.uniform(0, 2 * np.pi, 480)
        z = np.stack((np.cos(angle), np.sin(angle)), axis=1) + 0.1 * rng.normal(size=(480, 2))
    found, _ = assessed(z)
    assert "stable (lowest" not in found.verdict, found
    if shape == "blob":
        assert found.verdict.startswith("one group, no second one found"), found
        assert len(found.null) == 3  # nothing to decide


@pytest.mark.slow
def test_corners_that_the_softmax_makes_of_one_cloud_are_no_structure(rng):
    logits = 6 * rng.normal(size=(480, 1)) * [1.0, -1.0] + rng.normal(size=(480, 2))
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    found, labels = assessed(power / power.sum(axis=1, keepdims=True), n_categories=2)
    assert labels.max() + 1 == 2  # the clustering takes them for groups
    assert found.verdict.startswith("no structure found"), found
    as_deep = [stability.as_deep(draw, 2, found.valley) for draw in found.null]
    assert True in as_deep[:3] or as_deep.index(True) == len(as_deep) - 1  # no more draws once it is decided
    assert len(as_deep) < stability.NULL_DRAWS


def test_a_number_that_was_given_is_not_called_found(rng):
    found, _ = assessed(rng.normal(size=(300, 3)), method="kmeans", n_clusters=3)
    assert found.verdict.startswith("3 clusters as asked for, ")
    assert found.verdict.endswith("whether they are parted was not tested")
    assert found.null is None
