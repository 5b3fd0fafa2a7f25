-- The best defense of each attack, by mean score above 0 (attacks with other parameters are other attacks)
SELECT dataset, model, attack, substr(attack_recipe, 1, 8) AS attack_recipe, defense, round(score, 3) AS score,
  round(clean_delta, 3) AS clean_delta, round(asr_delta, 3) AS asr_delta, seeds
FROM leaderboard
WHERE place = 1 AND score > 0 AND (:dataset IS NULL OR dataset = :dataset) AND (:model IS NULL OR model = :model)
ORDER BY dataset, model, attack, attack_recipe, defense
