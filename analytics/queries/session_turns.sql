-- title: The facts of one conversation
-- In the order in which they happened.
-- param session UUID : the call
-- column turn_id number : the user's turn; 0 before the first
-- column kind text : what happened
-- column actor text : user, agent or system
-- column at_ns ns since epoch : when it happened
-- column observed_ns ns since epoch : when it was known
-- column audio_ms ms : position on the media clock of the actor's stream; NULL if it has none
-- column reason text : why; NULL for kinds without a reason
-- column detector text : the detector that the decision rests on; NULL if none
-- column probability ratio : the predictor's; NULL if it gave none
-- column threshold as decided : what the decision was held against; NULL if none
-- column silence_ms ms : silence since the acoustic end of the user's speech; NULL if it played no part
-- column inputs JSON : the decision's other inputs; NULL if none
SELECT
    t.turn_id AS turn_id,
    toString(t.kind) AS kind,
    toString(t.actor) AS actor,
    toUnixTimestamp64Nano(t.at_ns) AS at_ns,
    toUnixTimestamp64Nano(t.observed_ns) AS observed_ns,
    t.audio_ms AS audio_ms,
    toString(t.reason) AS reason,
    toString(t.detector) AS detector,
    t.probability AS probability,
    t.threshold AS threshold,
    t.silence_ms AS silence_ms,
    t.inputs AS inputs
FROM sidetone.turns AS t
WHERE t.session_id = {session:UUID}
ORDER BY t.at_ns, t.observed_ns, t.kind
LIMIT 100000
