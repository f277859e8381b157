"""Every bound of the engine in one place, and what happens at it.

At the end is GROWTH: what each thing that can grow takes, how many there can be, and what happens there.
"""

from typing import Literal, NamedTuple

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
# How long a node of a cluster is waited for when it is asked where the partitions are: as long as the other
# nodes wait before they replace it. One that was silent then is waited for this long from then on.
SILENT_S_MAX = 2.0
SILENT_AGAIN_S_MAX = 0.2
# Connections of one process to Redis: PIPELINES_MAX, one for the feed of events, one for reads.
REDIS_CONNECTIONS_MAX = PIPELINES_MAX + 3
# Attempts to claim a guard whose holder has to be resolved first. Beyond it: unknown, ask again.
CLAIM_ATTEMPTS_MAX = 3
# How often a batch is folded and proved again without the events that broke a proof. Beyond it, what
# depended on one of them goes to quarantine with it.
REFOLDS_MAX = 4
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
# Changes of one course that the engine remembers, so that a late duplicate of any of them gets its old
# answer. A campaign may allow fewer, never more.
CHANGES_MAX = 8
# Groups that people can declare: they are packed into 32 bits.
GROUPS_MAX = 32
# People who book together: one call takes all their seats.
HOUSEHOLD_MAX = 8
# Plans that one request tries, one after the other, before it says that nothing was free.
WISH_ATTEMPTS_MAX = 5
# How far back those who gave a seat up are asked for, and how many of them a process remembers by itself:
# Postgres has the older ones.
FREED_BY_S = 172_800.0
FREERS_MAX = 100_000
# Alternatives that a refusal names.
ALTERNATIVES_MAX = 3
# Places that one search answers with, pairs of slots named for each, and locations that it looks at.
PLACES_MAX = 20
PAIRS_PER_PLACE = 3
SEARCH_LOCATIONS_MAX = 256
# Plans that one search for a preference answers with, and programmes and sessions that it looks at, some six
# microseconds each. Beyond it the search ends with what it has found: within 10 km of the densest place that
# is after eight weeks of sessions in which nothing fits.
PLANS_MAX = 20
PLAN_LOOKS_MAX = 6_000
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
# The memory of the Redis that we start, never more than half of the machine's (engine/servers/redis.py), and
# of what its connections may buffer (config/redis/redis.conf).
REDIS_MEMORY_BYTES = 4 * 1024**3
REDIS_BUFFERS_BYTES = 128 * 1024**2
# Events that Postgres may lack of all partitions of one Redis server, and the used share of that server's
# maxmemory: the bounds that Pressure measures by. From these shares of them on bookings are slowed down, and
# holds end. Courses stay in memory, so a used half of it is nothing unusual: memory slows down from
# MEMORY_SHARE_SLOW of maxmemory on.
BACKLOG_EVENTS_MAX = 11_000_000
MEMORY_SHARE_MAX = 0.8
MEMORY_SHARE_SLOW = 0.7
PRESSURE_SLOW = 0.5
PRESSURE_HOLDS = 0.75
# How long the persister waits between two rounds, so that batches fold, and for the first event when idle.
PERSIST_PAUSE_S = 0.015
PERSIST_IDLE_S = 1.0
# How often a reader asks for events where it cannot wait for them: no read spans several servers.
POLL_S = 0.02
# Events that it reads of each partition where nothing can be written before one is found that lies behind.
# Beyond it the partition waits until the others move, which its backlog tells.
PERSIST_AHEAD_EVENTS_MAX = 50_000
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
# A claim, or a part in doubt, seen in two sweeps this far apart is resolved: within 30 s of a crash. Longer
# than any caller takes for a step; one that takes longer for all of them finds a tombstone, and begins anew.
SWEEP_S = 14.0
# How often the janitor ends holds that are over, and how many with one operation.
EXPIRE_S = 1.0
EXPIRE_HOLDS_MAX = 64
# How long a hold may outlive its end before the audit counts it.
HOLD_OVERDUE_S_MAX = 10
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
# What the stores of one country are laid out for: people, cancellations, claims whose take never came,
# changes of courses, seats at another location than the course's, holds that run at once, sessions, buckets
# of people (65,536 a partition, of which a server has a few).
PEOPLE_PLANNED = 10_000_000
CANCELLATIONS_PLANNED = 2_000_000
TOMBSTONES_PLANNED = 1_000_000
CHANGES_PLANNED = 2_000_000
PARTS_PLANNED = 200_000
HOLDS_PLANNED = 200_000
SESSIONS_PLANNED = 200_000
BUCKETS_PLANNED = 4 * 65_536
# Partitions that a deployment may have: keys name them with two digits.
PARTITIONS_MAX = 100

# People of one entry of the waitlist, entries that one person and that one deployment may have waiting, and
# how an entry may be made: km around its place, days from the first to the last, vaccines, and the characters
# of its shape. Beyond each: joining is refused. The deployment's are counted every WAITLIST_COUNT_S, so what
# joins in that time may come on top.
WAITLIST_PEOPLE_MAX = 8
WAITLIST_PER_PERSON_MAX = 3
WAITLIST_ENTRIES_MAX = 1_000_000
WAITLIST_RADIUS_KM_MAX = 100.0
WAITLIST_DAYS_MAX = 366
WAITLIST_VACCINES_MAX = 16
WAITLIST_SHAPE_CHARS_MAX = 64
# Up to where a place in line is counted; then it is told as "more than".
WAITLIST_PLACE_MAX = 1_000
# Forms (shape and size) that one decision plans for, and attempts to find somebody in line whom nothing
# excludes. Beyond it the slot waits for the next tick.
WAITLIST_FORMS_MAX = 64
WAITLIST_PASSES_MAX = 64
# Slots that wait to be looked at, and those looked at between two rests (a tick rests after
# TICK_S of it too). Beyond it a wake is dropped: the tick finds the slot.
WAITLIST_WAKES_MAX = 10_000
WAITLIST_SLOTS_MAX = 200
# How often the worker looks by itself, how long it rests with slots to look at and without, and locations
# asked for at once.
WAITLIST_TICK_S = 1.0
WAITLIST_PAUSE_S = 0.05
WAITLIST_IDLE_S = 0.2
WAITLIST_COUNT_S = 30.0
WAITLIST_LOCATIONS_MAX = 256
# Rows that one tick passes on its way through all entries, and deletes of each table.
WAITLIST_SWEEP_ROWS_MAX = 2_000
# How long closed entries, lots and offers are kept, and what alerts have told.
WAITLIST_KEPT_DAYS = 30
# An offer: entries that are offered the same seats at most, how long they have (unless the campaign says
# otherwise), how long they must have at least (else nobody is offered the seats), how long before the slot it
# ends, and how much longer than the offer the seats are held, for whoever accepts in the last second.
OFFERS_PARALLEL_MAX = 30
OFFER_S_MAX = 900.0
OFFER_S_MIN = 180.0
OFFER_BEFORE_SLOT_S = 1_800.0
OFFER_GRACE_S = 60.0
# Lots that are not closed. Beyond it freed seats are not offered, and everybody may book them.
LOTS_MAX = 20_000
# An acceptance that was begun so long ago has been abandoned by its process: the worker concludes it. Longer
# than a booking takes.
ACCEPTANCE_S_MAX = 15.0


class Growth(NamedTuple):
    """Something that can grow: at most ``bytes_each`` × ``maximum`` (None: nothing bounds it), and then.

    ``where``: the store, the disk, or the process, of which there may be several.
    """

    what: str
    where: Literal["redis", "disk", "postgres", "api", "persister"]
    bytes_each: int
    maximum: int | None
    then: str


_MEMORY = "Memory slows bookings down from 70 % of maxmemory on and ends them at 80 %."
_DISK = "A full disk stops Postgres and leaves Redis refusing writes (MISCONF); nothing is lost."

# tests/integration/test_growth.py measures the bytes on real stores, and fails where a row says less, or more
# than double. tests/unit/test_limits.py adds up what is in Redis.
GROWTH: tuple[Growth, ...] = (
    Growth(
        "live course with its guard",
        "redis",
        120,
        PEOPLE_PLANNED,
        f"One for each person. {_MEMORY} A bucket of more than 512 entries, so more than some 15 million"
        " people in a partition, takes several times as much: take more partitions.",
    ),
    Growth(
        "cancelled course",
        "redis",
        96,
        CANCELLATIONS_PLANNED,
        f"Stays, so that a late duplicate gets its old answer. {_MEMORY}",
    ),
    Growth(
        "op in a guard's memory",
        "redis",
        28,
        CANCELLATIONS_PLANNED,
        "A guard remembers its last four; the oldest goes.",
    ),
    Growth(
        "change that a course remembers",
        "redis",
        46,
        CHANGES_PLANNED,
        "A move, an extension, a confirmation; a course remembers 16. Stays, so that a late duplicate gets"
        f" its old answer. {_MEMORY} A record of more than 512 bytes turns its bucket into a table, which"
        " takes several times as much.",
    ),
    Growth(
        "seat elsewhere",
        "redis",
        58,
        PARTS_PLANNED,
        f"In the seat's own partition, until the course gives it up. {_MEMORY}",
    ),
    Growth(
        "hold that runs",
        "redis",
        120,
        HOLDS_PLANNED,
        "Beside its course; the janitor ends it. No holds are made from three quarters of a bound on.",
    ),
    Growth("tombstone", "redis", 50, TOMBSTONES_PLANNED, f"Stays, so that a late take is refused. {_MEMORY}"),
    Growth("bucket of people", "redis", 100, BUCKETS_PLANNED, "All there are; there never are more."),
    Growth("session's stock", "redis", 200, SESSIONS_PLANNED, f"As many as agencies open. {_MEMORY}"),
    Growth(
        "event in an outbox",
        "redis",
        130,
        BACKLOG_EVENTS_MAX,
        "Postgres lacks it. Bookings slow down from half of this on, holds end at three quarters, at the"
        " maximum bookings are refused (Backlogged: 503 with Retry-After); cancellations still add some.",
    ),
    Growth(
        "event in an outbox's tail",
        "redis",
        112,
        (OUTBOX_TAIL_EVENTS + TRIM_EVENTS_MIN) * PARTITIONS_MAX,
        "Trimmed by the persister; a reader that is further behind reloads.",
    ),
    Growth("library", "redis", 600_000, 1, "With its Lua machine. Replaced when it is loaded again."),
    Growth(
        "buffers of connections",
        "redis",
        REDIS_BUFFERS_BYTES,
        1,
        "maxmemory-clients: Redis closes the connection that buffers most; its callers get OutcomeUnknown.",
    ),
    Growth(
        "appended to the append-only file by a booking",
        "disk",
        480,
        4 * REDIS_MEMORY_BYTES // 480,
        "Rewritten when it is three times what it was after the last rewrite, and that is written beside it:"
        f" four times the memory in all. {_DISK}",
    ),
    Growth(
        "WAL of a booking",
        "disk",
        1_300,
        2 * 1024**3 // 1_300,
        f"A checkpoint, and the segments are used again (max_wal_size); in a rush somewhat more. {_DISK}",
    ),
    Growth(
        "line in the log of a process",
        "disk",
        200,
        None,
        "Nothing rotates log/ of a data directory: rotate it by copying and truncating, the files stay open.",
    ),
    Growth(
        "line of an acknowledgement log",
        "disk",
        240,
        None,
        "Written by test clients only; the audit reads all of it into memory. Start a new file for each run.",
    ),
    Growth("person", "postgres", 290, PEOPLE_PLANNED, f"One for each person who registers. {_DISK}"),
    Growth(
        "registration",
        "postgres",
        145,
        2 * PEOPLE_PLANNED,
        f"One for each Idempotency-Key; none is removed. {_DISK}",
    ),
    Growth(
        "course with its appointments",
        "postgres",
        760,
        PEOPLE_PLANNED + CANCELLATIONS_PLANNED,
        f"Stays when it is cancelled. {_DISK}",
    ),
    Growth("session", "postgres", 300, SESSIONS_PLANNED, "As many as agencies open."),
    Growth(
        "quarantined event", "postgres", 240, 100_000, "None in a sound system: the first one is an alert."
    ),
    Growth(
        "entry of the waitlist, with a member and its cells",
        "postgres",
        1_500,
        WAITLIST_ENTRIES_MAX,
        f"Joining is refused. Closed ones are deleted after {WAITLIST_KEPT_DAYS} days.",
    ),
    Growth(
        "offer of a freed seat",
        "postgres",
        450,
        None,
        f"As many as seats that come free, times at most {OFFERS_PARALLEL_MAX}; deleted after"
        f" {WAITLIST_KEPT_DAYS} days.",
    ),
    Growth(
        "alert told",
        "postgres",
        170,
        None,
        f"At most one a day for each alert and location; deleted after {WAITLIST_KEPT_DAYS} days.",
    ),
    Growth("schema", "postgres", 12_000_000, 1, "An empty database."),
    Growth("session in catalogue and board", "api", 1_200, SESSIONS_PLANNED, "Read at the start only."),
    Growth(
        "operation queued or under way, with its booking",
        "api",
        2_000,
        QUEUE_OPS_MAX,
        "QueueFull: 503 with Retry-After, nothing was sent.",
    ),
    Growth("registration queued", "api", 2_100, REGISTER_QUEUE_MAX, "QueueFull: 503 with Retry-After."),
    Growth(
        "call that waits for Postgres",
        "api",
        720,
        QUEUE_OPS_MAX,
        "Policy postgres. It counts as under way; after COMMIT_S_MAX its outcome is told as unknown: 202.",
    ),
    Growth(
        "connection of a client",
        "api",
        20_000,
        20_000,
        "The open files that the process may have (ulimit -n); what comes beyond waits in the listen queue.",
    ),
    Growth(
        "event of a round",
        "persister",
        3_500,
        max(PERSIST_EVENTS_MAX, PERSIST_PARTITION_EVENTS_MIN * PARTITIONS_MAX),
        "The rest is read in the next round.",
    ),
)
