-- The best defense of each attack, by mean score
SELECT dataset, model, attack, defense, round(score, 3) AS score, round(clean_delta, 3) AS clean_delta,
  round(asr_delta, 3) AS asr_delta, seeds
FROM leaderboard
WHERE place = 1 AND (:dataset IS NULL OR dataset = :dataset) AND (:model IS NULL OR model = :model)
ORDER BY dataset, model, attack, defense
