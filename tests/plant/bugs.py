"""The bugs that are planted: one small change each, of the kind that a tired person makes.

``old`` occurs exactly once in ``file``; ``suites`` are pytest paths that pass without the change and must
fail with it. A bug belongs here when it would lose, double or tear a booking, and no type checker sees it.
"""

import msgspec

SCRIPTS = "engine/inventory/scripts"
STEP, LATE = "tests/scripts/test_step.py", "tests/scripts/test_late_copies.py"
PERSISTER = "tests/integration/test_persister.py"
READING = "tests/integration/test_cluster_reading.py"
FAULTS = "tests/integration/test_cluster_faults.py"


class Bug(msgspec.Struct, frozen=True):
    """A change of ``file`` from ``old`` to ``new``, why it is wrong, and which suites must see it."""

    name: str
    file: str
    old: str
    new: str
    why: str
    suites: tuple[str, ...]


BUGS = (
    Bug(
        "no tombstone",
        f"{SCRIPTS}/resolve.lua",
        "    call('HSET', key, field, course_record('t', NO_OP, 0, ''))\n",
        "",
        "a take that was given up arrives late and books a second course",
        (f"{LATE}::test_a_late_take_meets_the_tombstone",),
    ),
    Bug(
        "take forgets",
        f"{SCRIPTS}/take.lua",
        "  if before then return taken_before(before, op) end\n",
        "",
        "a repeated take sells two more seats to the same course",
        (LATE,),
    ),
    Bug(
        "late take granted",
        f"{SCRIPTS}/take.lua",
        "  if partition.now > not_after then return 'D' end\n",
        "",
        "a take happens after its caller was told that it cannot",
        (f"{STEP}::test_after_the_deadline_nothing_is_booked",),
    ),
    Bug(
        "event after the seats",
        f"{SCRIPTS}/take.lua",
        "  emit(partition, 'b', person, kind, generation, op, appointments)\n"
        "  call('HSET', key, field, course_record('b', op, #writes, appointments))\n"
        "  write_bytes(writes)\n",
        "  call('HSET', key, field, course_record('b', op, #writes, appointments))\n"
        "  write_bytes(writes)\n"
        "  emit(partition, 'b', person, kind, generation, op, appointments)\n",
        "an error in the middle leaves seats sold that no event tells of",
        (f"{STEP}::test_a_key_of_the_wrong_type_stops_the_item_before_its_first_write",),
    ),
    Bug(
        "claim not joined",
        f"{SCRIPTS}/claim.lua",
        "call('HSET', key, field, 'j' .. sub(guard, 2))",
        "answer = answer",
        "a refused twin frees the claim under which the other one books",
        (f"{LATE}::test_a_refused_twin_does_not_free_the_claim_of_the_other",),
    ),
    Bug(
        "live guard claimed",
        f"{SCRIPTS}/claim.lua",
        "  if state ~= 'f' then return nil, 'L' .. pack('<c1I4I4', state, current, where) end\n",
        "",
        "a person with a booking books again",
        (f"{STEP}::test_one_live_course_per_person",),
    ),
    Bug(
        "joined claim given back",
        f"{SCRIPTS}/unclaim.lua",
        "(state == 'c' or state == 'j' and buried == 1)",
        "(state == 'c' or state == 'j')",
        "the guard is free while another take of its generation may be granted",
        (f"{LATE}::test_a_refused_twin_does_not_free_the_claim_of_the_other",),
    ),
    Bug(
        "unclaim of another generation",
        f"{SCRIPTS}/unclaim.lua",
        "current ~= generation or not",
        "not",
        "a late unclaim frees the claim of a later course",
        (LATE,),
    ),
    Bug(
        "free of another generation",
        f"{SCRIPTS}/free.lua",
        "current ~= generation or state == 'f'",
        "state == 'f'",
        "a cancellation that is told late frees the guard of a later course",
        (LATE,),
    ),
    Bug(
        "settle of another generation",
        f"{SCRIPTS}/settle.lua",
        "current ~= generation or state == 'f'",
        "state == 'f'",
        "a claim without seats is taken for a booking for ever",
        (LATE,),
    ),
    Bug(
        "no memory after a cancellation",
        f"{SCRIPTS}/layout.lua",
        " .. pack('<c16I4I4', op, generation, location) .. memories",
        " .. memories",
        "a late duplicate of the cancelled booking books once more",
        (f"{STEP}::test_a_late_duplicate_after_the_cancellation_gets_the_old_answer",),
    ),
    Bug(
        "key without its digest",
        f"{SCRIPTS}/layout.lua",
        "      return past == op and 'same' or 'conflict', past_generation, past_location\n",
        "      return 'same', past_generation, past_location\n",
        "a key that is used for another wish after a cancellation is answered with the old booking",
        (f"{STEP}::test_a_key_of_a_cancelled_booking_with_another_body_is_refused",),
    ),
    Bug(
        "booking without its guard",
        f"{SCRIPTS}/book.lua",
        "bucket, guard_field, guard_record('b', generation, location, op, guard),\n    field,",
        "bucket, field,",
        "the fused booking leaves the person free to book again",
        (f"{STEP}::test_one_live_course_per_person",),
    ),
    Bug(
        "booked over a tombstone",
        f"{SCRIPTS}/book.lua",
        "  if call('HEXISTS', bucket, field) == 1 then return 'T' end\n",
        "",
        "a course that was given up comes to life",
        (f"{LATE}::test_nothing_is_booked_over_a_tombstone",),
    ),
    Bug(
        "seats kept by a cancellation",
        f"{SCRIPTS}/cancel.lua",
        "  write_bytes(writes)\n",
        "",
        "cancelled seats are never sold again",
        (f"{STEP}::test_cancelling_gives_both_seats_back_and_frees_the_person",),
    ),
    Bug(
        "opening gives sold seats back",
        f"{SCRIPTS}/open.lua",
        ", 'NX')",
        ")",
        "opening the country a second time oversells every session",
        (f"{STEP}::test_opening_twice_gives_no_seat_back",),
    ),
    Bug(
        "epoch not compared",
        f"{SCRIPTS}/step.lua",
        "if meta[1] ~= epoch then",
        "if not meta[1] then",
        "a process sells in a partition that was rebuilt without it",
        (f"{STEP}::test_a_partition_of_another_epoch_does_nothing",),
    ),
    Bug(
        "clock goes back",
        f"{SCRIPTS}/step.lua",
        "return now > last and now or last",
        "return now",
        "a deadline that had passed lies ahead again",
        (f"{STEP}::test_events_have_no_gap_and_the_clock_never_goes_back",),
    ),
    Bug(
        "trim by length",
        "engine/outbox/rounds.py",
        'minid=b"%d-%d" % (position.epoch, floor)',
        "maxlen=limits.OUTBOX_TAIL_EVENTS",
        "events that Postgres has not yet are thrown away under a backlog",
        (f"{PERSISTER}::test_trimming_spares_a_backlog",),
    ),
    Bug(
        "trim past what is not settled",
        "engine/outbox/rounds.py",
        "done = min(position.sequence, self._unsettled.get(partition, position.sequence + 1) - 1)",
        "done = position.sequence",
        "a guard elsewhere never hears what became of its course",
        (f"{PERSISTER}::test_trimming_spares_what_is_not_settled",),
    ),
    Bug(
        "courses written out of their order",
        "engine/outbox/commit.py",
        "not_younger(entries, cut)",
        "dict(entries)",
        "behind a backlog, a good course is taken for a second live one, and quarantined",
        (f"{PERSISTER}::test_a_person_who_left_a_partition_with_a_backlog",),
    ),
    Bug(
        "watermark without compare-and-set",
        "engine/storage/sql/partition.sql",
        " and p.watermark = n.earlier",
        "",
        "a persister that was stopped and woke up writes over the one that replaced it",
        (f"{PERSISTER}::test_a_batch_behind_the_watermark_is_not_written",),
    ),
    Bug(
        "two persisters",
        "engine/storage/sql/partition.sql",
        "select pg_try_advisory_lock(1685021542, $1)",
        "select pg_try_advisory_xact_lock(1685021542, $1)",
        "the lock ends with the statement that took it, and everybody owns the partition",
        (f"{PERSISTER}::test_one_connection_owns_a_partition",),
    ),
    Bug(
        "a lost reply is sent again",
        "engine/redis/connection.py",
        "Retry(NoBackoff(), 0)",
        "Retry(NoBackoff(), 3)",
        "the client library repeats calls below the protocol, after their deadline was told",
        ("tests/integration/test_batch.py::test_a_call_is_sent_once",),
    ),
    Bug(
        "a lost reply is told as refused",
        "engine/redis/batch.py",
        'return OutcomeUnknown(f"partition {partition}: {type(error).__name__}: {text}")',
        'return PartitionClosed(f"partition {partition}: {type(error).__name__}: {text}")',
        "the caller hears that nothing was booked, though it may have been",
        ("tests/integration/test_batch.py::test_a_call_is_sent_once",),
    ),
    Bug(
        "claims resolved at first sight",
        "engine/recovery/sweep.py",
        "if self._seen.get(guard) == live}",
        "if live}",
        "the sweep gives up bookings that are just being made",
        ("tests/integration/test_sweep.py::test_a_claim_seen_twice_is_resolved",),
    ),
    Bug(
        "a torn reading taken for a whole one",
        "engine/outbox/feed.py",
        "away=away, at_once=False)",
        "away=away)",
        "a course is read before the cancellation on another server that it follows from, and quarantined",
        (f"{READING}::test_people_who_move_between_masters_break_no_proof",),
    ),
    Bug(
        "a cut partition judges nothing",
        "engine/outbox/rounds.py",
        "if missing <= {partition}}",
        "if not missing}",
        "a broken event with more behind it than one read takes holds its partition up for ever",
        (f"{READING}::test_a_broken_event_is_judged_though_more_is_behind_it_than_one_read_takes",),
    ),
    Bug(
        "a course before its claim's mark",
        "engine/outbox/rounds.py",
        "return without(entries, unmarked) if unmarked else entries",
        "return entries",
        "Postgres has a course whose claim may be missing when the server of its guard comes back",
        (f"{FAULTS}::test_a_master_that_is_away_takes_its_own_partitions_along_only",),
    ),
    Bug(
        "replicas counted behind a refused write",
        "engine/redis/nodes.py",
        "return touched == 1 and isinstance(count, int)",
        "return isinstance(count, int)",
        "if the write before WAIT is refused, the replicas are counted for an earlier one",
        ("tests/integration/test_acknowledge.py::test_a_refused_write_counts_for_no_replica",),
    ),
)
