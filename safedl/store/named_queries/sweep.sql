-- How results depend on one parameter, such as attack.poison_fraction or defense.threshold
-- needs: parameter
SELECT p.name AS parameter, p.value, d.dataset, d.model, d.attack, d.defense,
  round(avg(d.clean_after), 3) AS clean_accuracy, round(avg(d.asr_after), 3) AS asr,
  round(avg(d.adversarial_after), 3) AS adversarial_accuracy, round(avg(d.score), 3) AS score, count(*) AS runs
FROM newest_results d JOIN run_param p ON p.run_id = d.run_id
WHERE p.name = :parameter AND (:attack IS NULL OR d.attack = :attack)
  AND (:dataset IS NULL OR d.dataset = :dataset) AND (:model IS NULL OR d.model = :model)
GROUP BY p.name, p.value, d.dataset, d.model, d.attack, d.defense
ORDER BY d.dataset, d.model, d.attack, d.defense, p.value
