"""Activation clustering: poisoned samples of a class form a cluster of their own in feature space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from safedl.catalog.defenses.backdoor import ActivationClusteringParams
from safedl.defenses import trusted_space
from safedl.defenses.contract import Detection, Scenario

COMPONENTS = 10
WHITENED_COMPONENTS = 5
"""Whitened features need fewer: what is foreign to the trusted images leads."""
MAX_SHARE = 0.35
MIN_SILHOUETTE = 0.10
WHITENED_SILHOUETTE = 0.30
"""Natural clusters without trusted images reached 0.27 on clean digits, poison started at 0.39."""
SAME_CLUSTER = 0.5
"""Jaccard's index from which clusters of two folds are the same one."""
STARTS = 5
"""Of k-means. On features of Fashion-MNIST five end within 2 % of the best of ten; the mixture moves on from there."""
TOLERANCE = 1e-2
"""Of the mean log-likelihood: closer fits flag as many poisoned and as many clean samples."""
SILHOUETTE_SAMPLE = 1000
"""Of a class: tells the silhouette to about 0.01, where natural clusters and poison are 0.1 apart."""

Array = npt.NDArray[Any]


def detect(scenario: Scenario, params: ActivationClusteringParams) -> Detection:
    """Flag the samples in clusters that look like poison (Chen et al. 2018).

    Within each given class the penultimate features, reduced by PCA, are split by k-means and refined by a
    Gaussian mixture. With trusted data a cluster is poison if almost no trusted image of the class falls into it;
    without, if it holds less than 35 % of the class; the clusters must be well apart (silhouette) in both cases.
    Scores are in [0, 1]. `variant="literal"`: one k-means over all classes, its smallest cluster is removed.
    """
    if params.variant == "literal":
        return _smallest_cluster(scenario, params.num_clusters)
    use_trusted = params.trusted and trusted_space.usable(scenario)
    space = trusted_space.whitened(scenario) if use_trusted else None
    features = space.training if space else scenario.features()
    labels = scenario.data.labels
    splits: dict[int, Split] = {}
    for label in range(scenario.num_classes):
        scenario.bench.progress.step("cluster", label, scenario.num_classes)
        members = labels == label
        if members.sum() >= 2 * params.num_clusters:
            known = space.trusted[space.known == label].numpy() if space else None
            splits[label] = split_class(features[members].numpy(), known, params.num_clusters, scenario.seed)
    judged = _by_trusted(scenario, splits) if space else {label: by_size(split) for label, split in splits.items()}
    scores, flagged = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    reference = torch.zeros(len(space.known)) if space else None
    decisions: dict[str, Any] = {}
    for label, clusters in judged.items():
        split, members = splits[label], labels == label
        poison = [cluster["suspicious"] for cluster in clusters]
        weight = np.array([cluster["weight"] for cluster in clusters])
        scores[members] = torch.from_numpy(split.posterior @ weight).float()
        if space is not None and reference is not None:
            reference[space.known == label] = torch.from_numpy(split.known @ weight).float()
        flagged[members] = torch.from_numpy(np.isin(split.posterior.argmax(1), np.flatnonzero(poison)))
        decisions[scenario.classes[label]] = {"suspicious": any(poison), "clusters": clusters}
    suspicious = [name for name, decision in decisions.items() if decision["suspicious"]]
    trusted_used = len(scenario.trusted) if use_trusted else 0
    details = {"trusted_used": trusted_used, "suspicious_classes": suspicious, "classes": decisions}
    return Detection(scores, flagged, details, reference)


@dataclass(frozen=True)
class Split:
    """The clusters of one class: posteriors of its training samples [n, k] and its trusted ones [m, k].

    `apart`: the mean silhouette, how far apart the clusters lie.
    """

    posterior: Array
    known: Array
    apart: float

    @property
    def shares(self) -> Array:
        """The share of the training samples that is in each cluster [k]."""
        count, clusters = self.posterior.shape
        shares: Array = np.bincount(self.posterior.argmax(1), minlength=clusters) / count
        return shares


def split_class(features: Array, trusted: Array | None, num_clusters: int, seed: int) -> Split:
    """Cluster the training samples of one class, `features` [n, D]; tell in which clusters `trusted` [m, D] are.

    Where these are None, there are none, and the features are not whitened. Fewer different samples than clusters are
    one cluster.
    """
    components = COMPONENTS if trusted is None else WHITENED_COMPONENTS
    pca = PCA(min(components, *features.shape), random_state=seed).fit(features)
    reduced = pca.transform(features).astype(np.float64)
    means = KMeans(num_clusters, n_init=STARTS, random_state=seed).fit(reduced)
    if not np.bincount(means.labels_, minlength=num_clusters).all():
        return Split(np.ones((len(features), 1)), np.ones((0 if trusted is None else len(trusted), 1)), 0.0)
    mixture = _mixture(reduced, means.labels_, num_clusters)
    posterior = mixture.predict_proba(reduced)
    known = posterior[:0] if trusted is None else mixture.predict_proba(pca.transform(trusted).astype(np.float64))
    return Split(posterior, known, silhouette(reduced, posterior.argmax(1), seed))


def by_size(split: Split) -> list[dict[str, Any]]:
    """Return what is decided about each cluster by its size; its `weight` in [0, 1]: how much it looks like poison.

    Halves are natural, however far apart they lie: they must not outweigh the poison of another class.
    """
    shares = split.shares
    small = [j == int(shares.argmin()) and bool(share < MAX_SHARE) for j, share in enumerate(shares)]
    return [
        {
            "suspicious": small[j] and split.apart > MIN_SILHOUETTE,
            "share": float(share),
            "silhouette": split.apart,
            "weight": max(split.apart, 0.0) if small[j] else 0.0,
        }
        for j, share in enumerate(shares)
    ]


def by_places(split: Split, places: Array, certain_ratio: float = trusted_space.TRUSTED_RATIO) -> list[dict[str, Any]]:
    """Return what is decided about each cluster by the trusted images in it; `places`: the cluster of each, int [m].

    `certain_ratio`: see `trusted_space.foreign`.
    """
    inside = np.bincount(places, minlength=len(split.shares))
    return [
        {
            "suspicious": split.apart > WHITENED_SILHOUETTE
            and trusted_space.foreign(float(share), int(count), len(places), certain_ratio),
            "share": float(share),
            "silhouette": split.apart,
            "trusted_share": float(count / len(places)),
            "weight": float(np.clip(1 - count / len(places) / share, 0, 1)) if share else 0.0,
        }
        for share, count in zip(split.shares, inside, strict=True)
    ]


def _by_trusted(scenario: Scenario, splits: Mapping[int, Split]) -> dict[int, list[dict[str, Any]]]:
    """Return what is decided about each class's clusters; those suspicious are so to a whitening without the image too.

    Whitening evens out what the trusted images themselves differ in, more than what others of their kind do: those
    that it was fitted to lie in the middle, and outer clusters seem to hold fewer of them than they should. Of images
    that it has not seen, some stray into poison: two of 20 in the demo.
    """
    found = {label: by_places(split, split.known.argmax(1)) for label, split in splits.items()}
    doubted = {label: splits[label] for label, clusters in found.items() if any(c["suspicious"] for c in clusters)}
    for label, places in _unseen_places(scenario, doubted).items():
        again = by_places(splits[label], places, trusted_space.CERTAIN_RATIO)
        for first, cluster in zip(found[label], again, strict=True):
            cluster["suspicious"] &= first["suspicious"]
        found[label] = again
    return found


def _unseen_places(scenario: Scenario, splits: Mapping[int, Split]) -> dict[int, Array]:
    """Return in which cluster of its class each trusted image lies, int [m], where the whitening has not seen it.

    By five folds, whose clusters are matched with the given ones; without a match the image stays where it was.
    """
    places = {label: split.known.argmax(1) for label, split in splits.items()}
    if not splits:
        return places
    features, trusted, known = scenario.features(), scenario.trusted_features(), scenario.trusted.labels
    folds = trusted_space.folds_of(scenario)
    for fold in range(trusted_space.FOLDS):
        scenario.bench.progress.step("confirm", fold, trusted_space.FOLDS)
        seen = folds != fold
        whitening = trusted_space.Whitening.fit(trusted[seen], known[seen], scenario.num_classes)
        for label, split in splits.items():
            parts = features[scenario.data.labels == label], trusted[~seen & (known == label)]
            own, held = (whitening.apply(part, torch.full((len(part),), label)).numpy() for part in parts)
            anew = split_class(own, held, split.posterior.shape[1], scenario.seed)
            before, now = (np.eye(s.posterior.shape[1])[s.posterior.argmax(1)] for s in (split, anew))
            shared = before.T @ now
            alike = shared / (before.sum(0)[:, None] + now.sum(0) - shared).clip(1)  # Jaccard's index
            inside = anew.known.argmax(1)
            mine = ~seen[known == label].numpy()
            match = alike.max(0)[inside] >= SAME_CLUSTER
            places[label][mine] = np.where(match, alike.argmax(0)[inside], places[label][mine])
    return places


def _mixture(reduced: Array, assigned: Array, num_clusters: int) -> GaussianMixture:
    """Refine clusters by a mixture of Gaussians with full covariances that starts from them."""
    ridge = 1e-2 * float(reduced.var(axis=0).mean()) + 1e-9
    groups = [reduced[assigned == j] for j in range(num_clusters)]
    start = {
        "weights_init": np.array([len(group) for group in groups]) / len(reduced),
        "means_init": np.stack([group.mean(axis=0) for group in groups]),
        "precisions_init": np.stack([_precision(group, ridge) for group in groups]),
    }
    settings = {"covariance_type": "full", "reg_covar": ridge, "tol": TOLERANCE, "random_state": 0}
    return GaussianMixture(num_clusters, **settings, **start).fit(reduced)


def _precision(group: Array, ridge: float) -> Array:
    centred = group - group.mean(axis=0)
    return np.linalg.inv(centred.T @ centred / len(group) + ridge * np.eye(group.shape[1]))


def silhouette(points: Array, assigned: Array, seed: int) -> float:
    """Return the mean silhouette (Rousseeuw 1987) of at most 1,000 of `points` [n, D], in [-1, 1].

    0 if those drawn lie in one cluster; a point that is alone in its cluster counts as 0. Distances in single precision
    tell it to 0.0001.
    """
    drawn = np.random.default_rng(seed).permutation(len(points))[:SILHOUETTE_SAMPLE]
    points, (present, cluster) = points[drawn], np.unique(assigned[drawn], return_inverse=True)
    if len(present) < 2:
        return 0.0
    rows, sizes = np.arange(len(points)), np.bincount(cluster)
    centred = torch.from_numpy(points - points.mean(0)).float()
    totals = (torch.cdist(centred, centred) @ F.one_hot(torch.from_numpy(cluster)).float()).double().numpy()
    inside = totals[rows, cluster] / np.maximum(sizes[cluster] - 1, 1)
    means = totals / sizes
    means[rows, cluster] = np.inf
    nearest = means.min(1)
    larger = np.maximum(np.maximum(nearest, inside), np.finfo(float).tiny)
    return float(np.where(sizes[cluster] > 1, (nearest - inside) / larger, 0.0).mean())


def _smallest_cluster(scenario: Scenario, num_clusters: int) -> Detection:
    features = scenario.features().numpy()
    means = KMeans(num_clusters, n_init=10, random_state=scenario.seed).fit(features)
    sizes = np.bincount(means.labels_, minlength=num_clusters)
    smallest = int(sizes.argmin())
    distances = torch.from_numpy(means.transform(features)).float()
    others = torch.cat([distances[:, :smallest], distances[:, smallest + 1 :]], dim=1).amin(1)
    flagged = torch.from_numpy(means.labels_ == smallest)
    return Detection(others - distances[:, smallest], flagged, {"trusted_used": 0, "cluster_sizes": sizes.tolist()})
