-- Defenses that no other beats in both ASR and clean accuracy, over the means of their seeds
-- needs: attack
WITH mean AS MATERIALIZED (
  SELECT dataset, model, recipe, attack_recipe, defense, avg(asr_after) AS asr, avg(clean_after) AS clean_accuracy,
    count(DISTINCT seed) AS seeds
  FROM newest_results
  WHERE attack = :attack AND (:dataset IS NULL OR dataset = :dataset) AND (:model IS NULL OR model = :model)
  GROUP BY dataset, model, recipe, attack_recipe, defense
)
SELECT x.dataset, x.model, substr(x.attack_recipe, 1, 8) AS attack_recipe, x.defense, round(x.asr, 3) AS asr,
  round(x.clean_accuracy, 3) AS clean_accuracy, x.seeds
FROM mean x
WHERE x.asr IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM mean y
  WHERE y.dataset = x.dataset AND y.model = x.model AND y.attack_recipe IS x.attack_recipe
    AND y.asr <= x.asr AND y.clean_accuracy >= x.clean_accuracy
    AND (y.asr < x.asr OR y.clean_accuracy > x.clean_accuracy)
)
ORDER BY x.dataset, x.model, x.attack_recipe, x.asr
