-- Defenses that do well against many attacks: mean place, wins, attacks tried
SELECT defense, round(avg(place), 2) AS mean_place, sum(place = 1 AND score > 0) AS wins, count(*) AS cells,
  round(avg(score), 3) AS mean_score
FROM leaderboard
WHERE place IS NOT NULL AND (:dataset IS NULL OR dataset = :dataset) AND (:model IS NULL OR model = :model)
GROUP BY defense
ORDER BY mean_place, wins DESC, defense
