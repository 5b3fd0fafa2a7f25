-- Pairs of attack and defense that have not been measured yet, among those in the store
SELECT a.dataset, a.model, a.attack, d.defense
FROM (SELECT DISTINCT dataset, model, attack FROM run WHERE kind = 'attack') a
  CROSS JOIN (SELECT DISTINCT defense FROM run WHERE kind = 'defense') d
WHERE (:dataset IS NULL OR a.dataset = :dataset) AND (:model IS NULL OR a.model = :model)
EXCEPT SELECT dataset, model, attack, defense FROM run WHERE kind = 'defense' AND status = 'completed'
ORDER BY 1, 2, 3, 4
