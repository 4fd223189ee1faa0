-- title: Answers stored so far
-- Cheap: for waiting until a call shows.
-- param from DateTime64(9, 'UTC') = now-1h : facts observed at or after
-- param to DateTime64(9, 'UTC') = now : facts observed before
-- column answers count : answers that began
-- column newest_ns ns since epoch : observation of the newest; NULL if there is none
SELECT
    count() AS answers,
    if(answers = 0, NULL, toUnixTimestamp64Nano(max(observed_ns))) AS newest_ns
FROM sidetone.turns
WHERE kind = 'agent_audio_started' AND observed_ns >= {from:DateTime64(9, 'UTC')} AND observed_ns < {to:DateTime64(9, 'UTC')}
