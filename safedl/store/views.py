"""The store's views. They are no part of the migrations: dropped before, made again after each.

Metrics are rows; the views make columns of them by scalar sub-selects, which SQLite evaluates only where a query uses
the column. A GROUP BY pivot would be computed whole for every query.
"""

from __future__ import annotations

METRICS = (
    "clean_accuracy",
    "asr",
    "robust_accuracy",
    "adversarial_accuracy",
    "source_target_rate",
    "tpr",
    "fpr",
    "precision",
    "auroc",
    "removed",
    "seconds",
    "memory_mb",
    "epsilon_spent",
    "score.mitigation",
    "score.cad",
    "score.cost",
    "score.final",
)
"""The metrics that are columns of `run_metrics`; `score.final` is its `score`, other prefixes fall away."""


def column(metric: str) -> str:
    """Return the column of `run_metrics` that shows a metric."""
    return "score" if metric == "score.final" else metric.removeprefix("score.")


def _run_metrics() -> str:
    columns = ",\n  ".join(
        f"(SELECT value FROM metric WHERE run_id = r.id AND name = '{name}') AS {column(name)}" for name in METRICS
    )
    return f"SELECT r.*,\n  {columns}\nFROM run r"


def _before_after(name: str, metric: str) -> str:
    """Columns of metric `metric` at the attack `a`, at its child `d`, and the difference."""
    return f"a.{metric} AS {name}_before, d.{metric} AS {name}_after, d.{metric} - a.{metric} AS {name}_delta"


_CHANGES = ",\n  ".join(
    [
        _before_after("clean", "clean_accuracy"),
        _before_after("asr", "asr"),
        _before_after("robust", "robust_accuracy"),
        _before_after("adversarial", "adversarial_accuracy"),
        _before_after("source_target", "source_target_rate"),
    ]
)

_AVERAGED = ("clean_delta", "asr_delta", "robust_delta", "adversarial_delta", "seconds")
_MEANS = ", ".join(f"avg({name}) AS {name}" for name in _AVERAGED)

VIEWS = {
    "run_metrics": _run_metrics(),
    "current_run": """SELECT r.* FROM run r WHERE NOT EXISTS (SELECT 1 FROM run n WHERE n.retry_of = r.id)""",
    "attack_results": """SELECT a.id AS run_id, a.uid, a.recipe, a.dataset, a.model, a.threat, a.attack, a.seed,
  b.clean_accuracy AS clean_before, a.clean_accuracy AS clean_after,
  a.clean_accuracy - b.clean_accuracy AS clean_delta,
  a.asr, a.robust_accuracy, a.adversarial_accuracy, a.source_target_rate, a.seconds, a.memory_mb, a.finished_at
FROM run_metrics a LEFT JOIN run_metrics b ON b.id = a.parent_id
WHERE a.kind = 'attack' AND a.status = 'completed'""",
    "defense_results": f"""SELECT d.id AS run_id, d.uid, d.recipe, d.dataset, d.model, d.threat, d.attack,
  a.recipe AS attack_recipe, d.defense, d.seed, b.clean_accuracy AS baseline_accuracy,
  {_CHANGES},
  d.tpr, d.fpr, d.precision, d.auroc, d.removed, d.epsilon_spent,
  d.mitigation, d.cad, d.cost, d.score, d.seconds, d.memory_mb, d.finished_at
FROM run_metrics d JOIN run_metrics a ON a.id = d.parent_id LEFT JOIN run_metrics b ON b.id = a.parent_id
WHERE d.kind = 'defense' AND d.status = 'completed'""",
    "bound_results": f"""SELECT d.id AS run_id, d.uid, d.recipe, d.dataset, d.model, d.threat, d.attack,
  d.defense AS bound, d.detector, d.seed,
  {_CHANGES},
  d.removed, d.seconds, d.memory_mb, d.finished_at
FROM run_metrics d JOIN run_metrics a ON a.id = d.parent_id
WHERE d.kind = 'bound' AND d.status = 'completed'""",
    "newest_results": """SELECT d.* FROM defense_results d WHERE NOT EXISTS (
  SELECT 1 FROM run n
  WHERE n.recipe = d.recipe AND n.seed = d.seed AND n.kind = 'defense' AND n.status = 'completed' AND n.id > d.run_id
)""",
    # Grouped by recipe: other parameters are another experiment, only seeds are averaged.
    "leaderboard": f"""SELECT recipe, dataset, model, threat, attack, attack_recipe, defense, count(*) AS seeds,
  count(score) AS scored, avg(score) AS score, min(score) AS score_min, max(score) AS score_max,
  {_MEANS},
  CASE WHEN avg(score) IS NOT NULL
    THEN rank() OVER (PARTITION BY dataset, model, attack, attack_recipe ORDER BY avg(score) DESC) END AS place
FROM newest_results
GROUP BY recipe, dataset, model, threat, attack, attack_recipe, defense""",
    # Parameters have names with dots; json_tree quotes such keys.
    "run_param": """SELECT r.id AS run_id, replace(substr(j.fullkey, 3), '"', '') AS name, j.atom AS value
FROM run r, json_tree(r.params) j WHERE j.atom IS NOT NULL""",
    "open_runs": """SELECT r.id, r.uid, e.uid AS experiment, r.kind, r.attack, r.defense, r.status, r.host, r.pid,
  r.progress, r.created_at, r.started_at
FROM run r LEFT JOIN experiment e ON e.id = r.experiment_id
WHERE r.status IN (SELECT name FROM run_status WHERE NOT final)""",
}


def statements() -> dict[str, str]:
    """Return the CREATE VIEW statement of each view, in an order in which they can be made."""
    return {name: f"CREATE VIEW {name} AS {body}" for name, body in VIEWS.items()}
