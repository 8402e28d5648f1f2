"""Paths through a latent space that keep to where particles are."""
from __future__ import annotations

import numpy as np

N_NEIGHBOURS = 20  # of the graph; doubled until it holds together between the ends
MOST_NODES = 20_000  # particles that the graph is made of


def density_path(z: np.ndarray, ends: tuple[int, int], n_points: int, seed: int = 0) -> np.ndarray:
    """``n_points`` latents ``(n_points, k)`` from one particle to another, through others, z ``(n, k)``.

    The shortest way in the graph of nearest neighbours with squared distances: many short steps, where particles are
    dense, are shorter than one long one. Every particle on the way is replaced by the mean of its neighbours, the ends
    stay, and the points are spread evenly over the length.
    """
    from scipy.sparse.csgraph import dijkstra
    from sklearn.neighbors import NearestNeighbors

    chosen = np.arange(len(z))
    if len(z) > MOST_NODES:
        chosen = np.union1d(np.random.default_rng(seed).choice(len(z), MOST_NODES, replace=False), ends)
    nodes, (first, last) = np.asarray(z[chosen], np.float64), np.searchsorted(chosen, ends)
    search, k = NearestNeighbors().fit(nodes), min(N_NEIGHBOURS, len(nodes) - 1)
    while True:
        graph = search.kneighbors_graph(n_neighbors=k, mode="distance")
        graph.data = np.maximum(graph.data, 1e-12) ** 2  # equal latents are neighbours too
        length, before = dijkstra(graph, directed=False, indices=first, return_predecessors=True)
        if np.isfinite(length[last]) or k == len(nodes) - 1:
            break
        k = min(2 * k, len(nodes) - 1)
    way = [int(last)]
    while way[-1] != first:
        way.append(int(before[way[-1]]))
    near = search.kneighbors(nodes[way[::-1]], min(N_NEIGHBOURS, len(nodes)), return_distance=False)
    line = nodes[near].mean(1)
    line[0], line[-1] = nodes[first], nodes[last]
    return evenly_along(line, n_points)


def evenly_along(line: np.ndarray, n_points: int) -> np.ndarray:
    """Points ``(n_points, k)`` at even steps of length along a polyline ``(m, k)``, its ends among them."""
    at = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
    wanted = np.linspace(0, at[-1], n_points)
    return np.stack([np.interp(wanted, at, column) for column in line.T], 1)
