"""Activation clustering: poisoned samples of a class form a cluster of their own in feature space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.distance import cdist
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
    scores, flagged = torch.zeros(len(labels)), torch.zeros(len(labels), dtype=torch.bool)
    reference = torch.zeros(len(space.known)) if space else None
    decisions: dict[str, Any] = {}
    for label, name in enumerate(scenario.classes):
        scenario.bench.progress.step("cluster", label, scenario.num_classes)
        members = (labels == label).nonzero().flatten()
        if len(members) < 2 * params.num_clusters:
            continue
        known = space.trusted[space.known == label].numpy() if space else None
        posterior, inside, clusters = split_class(features[members].numpy(), known, params.num_clusters, scenario.seed)
        if known is not None and any(cluster["suspicious"] for cluster in clusters):
            _confirm(scenario, label, posterior.argmax(1), inside.argmax(1), clusters, params.num_clusters)
        poison = [cluster["suspicious"] for cluster in clusters]
        weight = np.array([cluster["weight"] for cluster in clusters])
        scores[members] = torch.from_numpy(posterior @ weight).float()
        if space is not None and reference is not None:
            reference[space.known == label] = torch.from_numpy(inside @ weight).float()
        flagged[members] = torch.from_numpy(np.isin(posterior.argmax(1), np.flatnonzero(poison)))
        decisions[name] = {"suspicious": any(poison), "clusters": clusters}
    suspicious = [name for name, decision in decisions.items() if decision["suspicious"]]
    trusted_used = len(scenario.trusted) if use_trusted else 0
    details = {"trusted_used": trusted_used, "suspicious_classes": suspicious, "classes": decisions}
    return Detection(scores, flagged, details, reference)


def _confirm(
    scenario: Scenario, label: int, assigned: Array, seen: Array, clusters: list[dict[str, Any]], num_clusters: int
) -> None:
    """Clear suspicious clusters of a class in which trusted images do lie once the whitening has not seen them.

    Whitening evens out what the trusted images themselves differ in, more than what others of their kind do: those
    that it was fitted to lie in the middle, and outer clusters seem to hold fewer of them than they should. Where a
    fold has no such cluster, what the trusted images of the class are in counts as `seen` (int [m]); `assigned`: int
    [n], the cluster of each training sample of the class.
    """
    features, trusted, known = scenario.features(), scenario.trusted_features(), scenario.trusted.labels
    members, folds = scenario.data.labels == label, trusted_space.folds_of(scenario)
    inside = np.zeros(len(clusters))
    for fold in range(trusted_space.FOLDS):
        held = (folds == fold) & (known == label)
        whitening = trusted_space.Whitening.fit(trusted[folds != fold], known[folds != fold], scenario.num_classes)
        own, others = (whitening.apply(f, torch.full((len(f),), label)) for f in (features[members], trusted[held]))
        posterior, where, _ = split_class(own.numpy(), others.numpy(), num_clusters, scenario.seed)
        before, now = np.eye(len(clusters))[assigned], np.eye(posterior.shape[1])[posterior.argmax(1)]
        shared = before.T @ now
        alike = shared / (before.sum(0)[:, None] + now.sum(0) - shared).clip(1)  # Jaccard's index
        place = where.argmax(1)
        as_seen = seen[(folds == fold)[known == label].numpy()]
        found = np.where(alike.max(0)[place] >= SAME_CLUSTER, alike.argmax(0)[place], as_seen)
        inside += np.bincount(found, minlength=len(clusters))
    count = int((known == label).sum())
    for cluster, size in zip(clusters, inside, strict=True):
        cluster["trusted_share"] = float(size / count)
        cluster["weight"] = float(np.clip(1 - size / count / cluster["share"], 0, 1)) if cluster["share"] else 0.0
        cluster["suspicious"] &= trusted_space.foreign(cluster["share"], int(size), count)


def split_class(
    features: Array, trusted: Array | None, num_clusters: int, seed: int
) -> tuple[Array, Array, list[dict[str, Any]]]:
    """Cluster one class; return posteriors [n, num_clusters] and [m, num_clusters], and what was decided about each.

    `features` [n, D] are the class's training samples, `trusted` [m, D] its trusted ones, or None to decide by size
    and silhouette. A cluster's `weight` in [0, 1] says how much it looks like poison.
    """
    components = COMPONENTS if trusted is None else WHITENED_COMPONENTS
    pca = PCA(min(components, *features.shape), random_state=seed).fit(features)
    reduced = pca.transform(features).astype(np.float64)
    means = KMeans(num_clusters, n_init=STARTS, random_state=seed).fit(reduced)
    if not np.bincount(means.labels_, minlength=num_clusters).all():  # fewer different samples than clusters
        return _undivided(len(features), None if trusted is None else len(trusted))
    mixture = _mixture(reduced, means.labels_, num_clusters)
    posterior = mixture.predict_proba(reduced)
    assigned = posterior.argmax(1)
    shares = np.bincount(assigned, minlength=num_clusters) / len(assigned)
    apart = silhouette(reduced, assigned, seed)
    if trusted is None:
        # Halves are natural, however far apart they lie: they must not outweigh the poison of another class.
        small = [j == int(shares.argmin()) and bool(share < MAX_SHARE) for j, share in enumerate(shares)]
        return (
            posterior,
            posterior[:0],
            [
                {
                    "suspicious": small[j] and apart > MIN_SILHOUETTE,
                    "share": float(share),
                    "silhouette": apart,
                    "weight": max(apart, 0.0) if small[j] else 0.0,
                }
                for j, share in enumerate(shares)
            ],
        )
    known = mixture.predict_proba(pca.transform(trusted).astype(np.float64))
    inside = np.bincount(known.argmax(1), minlength=num_clusters)
    return (
        posterior,
        known,
        [
            {
                "suspicious": apart > WHITENED_SILHOUETTE
                and trusted_space.foreign(float(share), int(count), len(trusted)),
                "share": float(share),
                "silhouette": apart,
                "trusted_share": float(count / len(trusted)),
                "weight": float(np.clip(1 - count / len(trusted) / share, 0, 1)) if share else 0.0,
            }
            for share, count in zip(shares, inside, strict=True)
        ],
    )


def _undivided(count: int, trusted: int | None) -> tuple[Array, Array, list[dict[str, Any]]]:
    """Return what `split_class` does, of a class that is one cluster: there is nothing apart to suspect."""
    whole: dict[str, Any] = {"suspicious": False, "share": 1.0, "silhouette": 0.0, "weight": 0.0}
    return (
        np.ones((count, 1)),
        np.ones((trusted or 0, 1)),
        [whole | ({} if trusted is None else {"trusted_share": 1.0})],
    )


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

    0 if those drawn lie in one cluster; a point that is alone in its cluster counts as 0.
    """
    drawn = np.random.default_rng(seed).permutation(len(points))[:SILHOUETTE_SAMPLE]
    points, (present, cluster) = points[drawn], np.unique(assigned[drawn], return_inverse=True)
    if len(present) < 2:
        return 0.0
    rows, sizes = np.arange(len(points)), np.bincount(cluster)
    totals = cdist(points, points) @ np.eye(len(present))[cluster]
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
