"""Every bound of the engine in one place, and what happens at it."""

# Operations of one call to a script. The rest goes with the next call of the same pipeline.
BATCH_OPS_MAX = 128
# Pipelines under way per process. What arrives meanwhile is batched for the next.
PIPELINES_MAX = 3
# Operations that wait in one process. Beyond it QueueFull: 503 with Retry-After.
QUEUE_OPS_MAX = 20_000
# How long an operation may take from being sent, in the partition's clock. Later it is refused (`D`).
OPERATION_MS_MAX = 4_000
# How long a process waits for Redis' reply. Longer than OPERATION_MS_MAX, so that an unanswered operation is
# past its deadline when its caller is told that the outcome is unknown, and cannot happen after that.
REPLY_S_MAX = 5.0
# How long a batch waits for its replicas (policy `replica`), and an answer for Postgres (policy `postgres`).
# Then the outcome is told as unknown.
WAIT_MS_MAX = 2_000
COMMIT_S_MAX = 5.0
# Connections of one process to Redis: PIPELINES_MAX, one for the feed of events, one for reads.
REDIS_CONNECTIONS_MAX = PIPELINES_MAX + 3
# Attempts to claim a guard whose holder has to be resolved first. Beyond it: unknown, ask again.
CLAIM_ATTEMPTS_MAX = 3
# Events that the persister reads per partition and round, and so rows of one transaction.
PERSIST_EVENTS_MAX = 2_000
# Persisted events kept in an outbox for readers that are a little behind; one further behind reloads.
OUTBOX_TAIL_EVENTS = 10_000
# Python's collector, per generation: a request makes some hundred objects, nearly all freed by their counts.
# With the default (700, 10, 10) it ran every few requests and found nothing.
COLLECTOR_THRESHOLDS = (50_000, 20, 50)
# Body of a request. Larger ones: 413.
BODY_BYTES_MAX = 16_384
# Lines of a session.
LINES_MAX = 400
# Alternatives that a refusal names.
ALTERNATIVES_MAX = 3
# Places that one search answers with, pairs of slots named for each, and locations that it looks at.
PLACES_MAX = 20
PAIRS_PER_PLACE = 3
SEARCH_LOCATIONS_MAX = 256
# Distance of a search in km.
RADIUS_KM_MAX = 500.0
# Sessions of dose 1, the earliest that can be had, among which a place's sample is drawn.
SAMPLED_SESSIONS_MAX = 28
# Events that a follower of the outboxes takes per partition and read: a read holds up no booking for long.
FOLLOW_EVENTS_MAX = 500
# Session keys of one MGET, while a partition's masks are loaded.
LOAD_KEYS_MAX = 500
# Connections of one process to Postgres; what comes beyond waits for one.
POSTGRES_CONNECTIONS_MAX = 8
# Registrations of one statement, statements under way, and people who wait for one. Beyond it QueueFull: 503.
REGISTER_ROWS_MAX = 500
REGISTER_STATEMENTS_MAX = 2
REGISTER_QUEUE_MAX = 20_000
# How long a process waits for a connection to Postgres, and for one statement.
POSTGRES_CONNECT_S_MAX = 5.0
STATEMENT_S_MAX = 60.0
# Events that the persister reads of each partition and round at least, however many partitions share
# PERSIST_EVENTS_MAX: a round's transaction stays below 100 × this.
PERSIST_PARTITION_EVENTS_MIN = 100
# Events that Postgres may lack of all partitions of one Redis server, and the used share of that server's
# maxmemory: the bounds that Pressure measures by. From these shares of them on bookings are slowed down, and
# holds end.
BACKLOG_EVENTS_MAX = 20_000_000
MEMORY_SHARE_MAX = 0.8
PRESSURE_SLOW = 0.5
PRESSURE_HOLDS = 0.75
# How long the persister waits between two rounds, so that batches fold, and for the first event when idle.
PERSIST_PAUSE_S = 0.015
PERSIST_IDLE_S = 1.0
# How often a reader asks for events where it cannot wait for them: no read spans several servers.
POLL_S = 0.02
# How long an owner of partitions may say nothing to Postgres; then another may take over. Longer than it
# waits for a reply of Redis; the next one asks every PERSIST_LOCK_S.
OWNER_SILENT_MS_MAX = 7_000
# How often a persister that does not own the partitions asks again, and tells of its backlog.
PERSIST_LOCK_S = 0.5
PERSIST_REPORT_S = 1.0
# Waits between attempts to reach Redis or Postgres again: doubled from the first to the last, without end.
RECONNECT_S_MIN = 0.1
RECONNECT_S_MAX = 1.0
# Courses of one page of a rebuild, and buckets or stocks of one pipeline of it.
REBUILD_COURSES_MAX = 5_000
REBUILD_KEYS_MAX = 500
# How long a rebuild waits for the persister to commit what other partitions have, without its coming nearer.
REBUILD_WAIT_S_MAX = 15.0
# Events that a trim removes at least: trimming one by one would cost more than it frees.
TRIM_EVENTS_MIN = 1_000
# A claim seen in two sweeps this far apart is resolved. Longer than any caller takes for its steps.
SWEEP_S = 20.0
# Keys that a reading of all keys passes at once, and the sweep's rest after them: bookings go on meanwhile.
SCAN_KEYS_MAX = 2_000
SWEEP_PAUSE_S = 0.02
# Sessions that are opened, or compared by the audit, at once.
OPEN_SESSIONS_MAX = 4_096
AUDIT_SESSIONS_MAX = 8_192
# Stocks whose presence one command asks for.
EXISTS_KEYS_MAX = 256
# How long the audit waits for Postgres without its coming nearer to the ends of the outboxes, how often it
# looks, how long it rests before it reads what differed again, and how often it does so while the system
# moves.
AUDIT_WAIT_S_MAX = 60.0
AUDIT_POLL_S = 0.05
AUDIT_PAUSE_S = 0.5
AUDIT_PASSES_MAX = 6
# How long the audit waits for Redis' reply: it asks for much at once.
AUDIT_REPLY_S_MAX = 30.0
# The follower's pauses in s: between reads, a read's wait for events, before asking a lost Redis again,
# between checks that the outbox is still the one that was followed.
FOLLOW_PAUSE_S = 0.05
FOLLOW_BLOCK_S = 0.4
FOLLOW_RETRY_S = 0.5
FOLLOW_CHECK_S = 5.0
# How often a process reads the partitions' standing from Postgres and who Redis is, and how long it waits for
# Redis to say whether they are open.
STANDING_S = 1.0
PROBE_S_MAX = 1.0
