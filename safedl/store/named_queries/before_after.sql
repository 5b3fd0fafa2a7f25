-- What each defense changed, run by run: ASR and clean accuracy before and after
-- needs: attack
SELECT dataset, model, defense, seed, round(asr_before, 3) AS asr_before, round(asr_after, 3) AS asr_after,
  round(asr_delta, 3) AS asr_delta, round(clean_before, 3) AS clean_before, round(clean_after, 3) AS clean_after,
  round(clean_delta, 3) AS clean_delta, uid
FROM defense_results
WHERE attack = :attack AND (:dataset IS NULL OR dataset = :dataset) AND (:model IS NULL OR model = :model)
ORDER BY dataset, model, asr_delta, clean_delta DESC, defense, seed
