-- Pairs of attack and defense of one category that have not been measured yet, among those in the store
SELECT a.dataset, a.model, a.attack, d.defense
FROM (SELECT DISTINCT dataset, model, attack, threat FROM run WHERE kind = 'attack') a
  JOIN (SELECT DISTINCT defense, threat FROM run WHERE kind = 'defense') d ON d.threat = a.threat
WHERE (:dataset IS NULL OR a.dataset = :dataset) AND (:model IS NULL OR a.model = :model)
  AND NOT EXISTS (
    SELECT 1 FROM run r
    WHERE r.dataset = a.dataset AND r.model = a.model AND r.attack = a.attack AND r.defense = d.defense
      AND r.kind = 'defense' AND r.status = 'completed'
  )
ORDER BY 1, 2, 3, 4
