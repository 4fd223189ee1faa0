-- Dead letters stand in a topic of the log, `sidetone.dead-letters`, whole, where they can be replayed from.

DROP TABLE IF EXISTS sidetone.dead_letters;
