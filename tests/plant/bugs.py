"""The bugs that are planted: one small change each, of the kind that a tired person makes.

``old`` occurs exactly once in ``file``; ``suites`` are pytest paths that pass without the change and must
fail with it. A bug belongs here when it would lose, double or tear a booking, and no type checker sees it.
"""

import msgspec

SCRIPTS = "engine/inventory/scripts"
STEP, LATE = "tests/scripts/test_step.py", "tests/scripts/test_late_copies.py"
READING = "tests/integration/test_cluster_reading.py"
FAULTS = "tests/integration/test_cluster_faults.py"
SEATS, DOORS = "tests/scripts/test_seats.py", "tests/scripts/test_doors.py"
PERSISTER, CERTIFY = "tests/integration/test_persister.py", "tests/integration/test_certify.py"
REBUILD, SWEEP = "tests/integration/test_rebuild.py", "tests/integration/test_sweep.py"
SERVERS = "tests/servers/test_redis_and_postgres.py"
ACKNOWLEDGE = "tests/integration/test_acknowledge.py"


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
        "if not stored then return now > last and now or last, now end",
        "do return now, now end",
        "a deadline that had passed lies ahead again",
        (f"{STEP}::test_events_have_no_gap_and_the_clock_never_goes_back",),
    ),
    Bug(
        "trim by length",
        "engine/outbox/rounds.py",
        '"MINID", "~", least',
        '"MAXLEN", "~", limits.OUTBOX_TAIL_EVENTS',
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
        (f"{SWEEP}::test_a_claim_seen_twice_is_resolved",),
    ),
    Bug(
        "everysec",
        "engine/servers/redis.py",
        'appendfsync: str = "always"',
        'appendfsync: str = "everysec"',
        "a power cut loses a second of bookings that people were told of",
        (f"{SERVERS}::test_what_redis_answers_is_on_disk_unless_somebody_asks_for_less",),
    ),
    Bug(
        "everysec in the file",
        "config/redis/redis.conf",
        "appendfsync always\n",
        "appendfsync everysec\n",
        "the same, for a Redis that somebody starts with our file",
        (f"{SERVERS}::test_what_redis_answers_is_on_disk_unless_somebody_asks_for_less",),
    ),
    Bug(
        "certificate not checked",
        f"{SCRIPTS}/step.lua",
        "~= (own_run_id or run_id())",
        "== nil",
        "a Redis that came back older sells what was sold before anybody has compared it",
        (f"{DOORS}::test_a_partition_that_is_certified_for_another_process_does_nothing",),
    ),
    Bug(
        "another process certified",
        f"{SCRIPTS}/step.lua",
        "  if compared ~= run_id() then return not_certified(compared) end\n",
        "",
        "what was compared before a restart opens what the restart brought back",
        (f"{DOORS}::test_what_was_compared_in_another_process_is_not_certified",),
    ),
    Bug(
        "digest not compared",
        "engine/outbox/certify.py",
        "if digest is not None and digest_of(",
        "if digest is None and digest_of(",
        "another history of the same length is certified",
        (f"{CERTIFY}::test_another_history_of_the_same_length_stays_closed",),
    ),
    Bug(
        "mark not compared",
        "engine/outbox/certify.py",
        "if seen.mark < mark:",
        "if seen.mark < 0:",
        "guards that are older than the courses claimed under them let people book twice",
        (f"{CERTIFY}::test_a_copy_without_the_mark_stays_closed",),
    ),
    Bug(
        "founded over what is there",
        f"{SCRIPTS}/step.lua",
        "  if call('EXISTS', prefix .. 'meta', keys[1]) > 0 then return 0 end\n",
        "",
        "a start gives a partition that lost its meta a new one, and it sells",
        (f"{DOORS}::test_what_is_there_is_not_founded",),
    ),
    Bug(
        "reopened without the token",
        f"{SCRIPTS}/step.lua",
        "call('GET', prefix .. 'rebuild') ~= token or ",
        "",
        "a rebuild opens a Redis that was emptied while it was written",
        (f"{DOORS}::test_what_was_disturbed_is_not_reopened",),
    ),
    Bug(
        "reopened in another process",
        f"{SCRIPTS}/step.lua",
        "  if written ~= run_id() then return not_certified(written) end\n",
        "",
        "a rebuild opens what a restart left of it",
        (f"{DOORS}::test_what_was_rebuilt_in_another_process_is_not_reopened",),
    ),
    Bug(
        "rebuilt without waiting",
        "engine/recovery/rebuild.py",
        "            await self._wait_for_others(lost)\n",
        "            pass\n",
        "a take that was on its way is granted for a claim that the rebuilt guard never heard of",
        (f"{REBUILD}::test_a_claim_lost_with_its_guard_cannot_become_a_second_course",),
    ),
    Bug(
        "rebuilt without saving",
        "engine/recovery/rebuild.py",
        "        await self._save(lost)\n",
        "        await commit.prepare(self._connection)\n",
        "bookings that the outbox still tells of are emptied away",
        (f"{REBUILD}::test_events_past_the_watermark_are_saved_first",),
    ),
    Bug(
        "selling at the memory limit",
        f"{SCRIPTS}/step.lua",
        "local DRAINS = { s = true,",
        "local DRAINS = { t = true, s = true,",
        "takes fill the memory that cancellations and settlements need",
        (f"{DOORS}::test_only_what_gives_back_or_tells_passes_the_drain",),
    ),
    Bug(
        "guard freed by time",
        "engine/recovery/sweep.py",
        "booked = await self._resolve(person, kind, live)",
        "booked = await self._client.hdel(self._keyspace.bucket(self._keyspace.of_person(person), person),"
        " codec.PERSON_KIND.pack(person, kind)) == 0",
        "a take that comes late books a person who has booked again by then",
        (SWEEP,),
    ),
    Bug(
        "event after the seats of a booking",
        f"{SCRIPTS}/book.lua",
        "  emit(partition, 'b', person, kind, generation, op, appointments)\n"
        "  call('HSET', bucket, guard_field, guard_record('b', generation, location, op, guard),\n"
        "    field, course_record('b', op, #writes, appointments))\n"
        "  write_bytes(writes)\n",
        "  call('HSET', bucket, guard_field, guard_record('b', generation, location, op, guard),\n"
        "    field, course_record('b', op, #writes, appointments))\n"
        "  write_bytes(writes)\n"
        "  emit(partition, 'b', person, kind, generation, op, appointments)\n",
        "an error in the middle leaves a booking that Postgres never hears of",
        (f"{SEATS}::test_where_the_event_cannot_be_written_nothing_is",),
    ),
    Bug(
        "event after the seats of a cancellation",
        f"{SCRIPTS}/cancel.lua",
        "  emit(partition, 'x', person, kind, generation, op, appointments)\n"
        "  call('HSET', key, field, course_record('x', booked_by, #appointments / 9, appointments) .. op)\n"
        "  write_bytes(writes)\n",
        "  call('HSET', key, field, course_record('x', booked_by, #appointments / 9, appointments) .. op)\n"
        "  write_bytes(writes)\n"
        "  emit(partition, 'x', person, kind, generation, op, appointments)\n",
        "an error in the middle leaves free seats that Postgres believes to be sold",
        (f"{SEATS}::test_where_the_event_cannot_be_written_nothing_is",),
    ),
    Bug(
        "half a course given back",
        f"{SCRIPTS}/cancel.lua",
        "for at = 1, #appointments, 9 do",
        "for at = 1, 9, 9 do",
        "the seat of dose 2 stays sold to nobody",
        (f"{STEP}::test_cancelling_gives_both_seats_back_and_frees_the_person",),
    ),
    Bug(
        "guard of a later course freed by a cancellation",
        f"{SCRIPTS}/cancel.lua",
        "current == generation and guard_state",
        "guard_state",
        "the person books again beside a live course",
        (f"{LATE}::test_cancelling_another_generation_leaves_the_guard_alone",),
    ),
    Bug(
        "one slot twice",
        f"{SCRIPTS}/take.lua",
        " or slots[place] then",
        " then",
        "both doses get one seat",
        (f"{SEATS}::test_what_is_not_on_sale_is_refused_by_its_dose",),
    ),
    Bug(
        "retry without id",
        "engine/booking/desk.py",
        'op = op_of(person, idempotency_key, b"book", _packed(wishes))',
        'op = op_of(person, str(asyncio.get_running_loop().time()), b"book", _packed(wishes))',
        "a client that repeats its request is told that somebody has booked, or books once more",
        ("tests/integration/test_desk.py::test_a_repeated_request_is_one_booking_and_one_answer",),
    ),
    Bug(
        "told as not booked, and booked later",
        "engine/booking/conclude.py",
        'yield from resolve(person, kind, codec.Live(b"c", guard.generation, guard.location), placement)',
        "pass",
        "no tombstone stands behind the final answer",
        (
            "tests/integration/test_desk.py"
            "::test_a_claim_whose_take_never_came_is_not_booked_after_its_deadline",
        ),
    ),
    Bug(
        "released after taken",
        "engine/outbox/commit.py",
        """    if fold.released:
        await connection.execute(query("batch.release_seats"))
        _expect(
            "cancelled courses", len(fold.released), await connection.execute(query("batch.release_courses"))
        )
    if fold.taken:
        seats = sum(len(item.event.appointments) for item in fold.taken.values())
        _expect("courses", len(fold.taken), await connection.execute(query("batch.take_courses")))
        _expect("appointments", seats, await connection.execute(query("batch.take_seats")))
""",
        """    if fold.taken:
        seats = sum(len(item.event.appointments) for item in fold.taken.values())
        _expect("courses", len(fold.taken), await connection.execute(query("batch.take_courses")))
        _expect("appointments", seats, await connection.execute(query("batch.take_seats")))
    if fold.released:
        await connection.execute(query("batch.release_seats"))
        _expect(
            "cancelled courses", len(fold.released), await connection.execute(query("batch.release_courses"))
        )
""",
        "a seat that was given back and sold again in one batch stops the persister",
        (f"{PERSISTER}::test_what_a_batch_releases_is_taken_in_the_same_batch",),
    ),
    Bug(
        "seats of a batch not compared",
        "engine/outbox/fold.py",
        "if not self._seats.isdisjoint(places):",
        "if not places:",
        "a seat that is sold twice is not seen if it is released later in the batch",
        ("tests/unit/test_fold.py",),
    ),
    Bug(
        "partitions of a batch not compared",
        "engine/outbox/fold.py",
        "        self._compare_partitions()\n",
        "",
        "a person with two live courses stops the persister instead of being quarantined",
        ("tests/unit/test_fold.py",),
    ),
    Bug(
        "event applied twice",
        "engine/availability/board.py",
        "if not _holds(stock, appointment) or not _is_free(stock, appointment):",
        "if not _holds(stock, appointment):",
        "the board counts seats down that were taken before it was loaded",
        (
            "tests/integration/test_follow.py"
            "::test_events_between_noting_the_position_and_reading_the_masks_do_no_harm",
        ),
    ),
    Bug(
        "seats in the other byte order",
        "engine/inventory/codec.py",
        'struct.unpack(f"<{len(packed) // 2}H", packed)',
        'struct.unpack(f">{len(packed) // 2}H", packed)',
        "people are told of another seat than they have",
        (f"{STEP}::test_more_than_eight_lines_fill_every_byte_of_the_slot",),
    ),
    Bug(
        "booked as if nothing were cancelled",
        "engine/inventory/codec.py",
        "appointments(record[COURSE_RECORD.size : end]), record[end:])",
        "appointments(record[COURSE_RECORD.size : end]), NO_OP)",
        "the audit and the rebuild lose who cancelled a course",
        ("tests/unit/test_codec.py",),
    ),
    # Acknowledgement policies
    Bug(
        "a bare WAIT",
        "engine/redis/nodes.py",
        'return [("FCALL", TOUCH, 1, keyspace.wait(partition)), (',
        'return [("EXISTS", keyspace.wait(partition)), (',
        "WAIT waits for its own connection's writes only: another call's is told before replicas have it",
        (f"{ACKNOWLEDGE}::test_a_repeated_answer_waits_for_what_another_call_wrote",),
    ),
    Bug(
        "replicas not counted",
        "engine/redis/nodes.py",
        "isinstance(count, int) and count >= replicas",
        "isinstance(count, int)",
        "a booking is told though no replica has it",
        (f"{ACKNOWLEDGE}::test_an_answer_comes_when_the_replica_has_it",),
    ),
    Bug(
        "Postgres ahead of the replicas",
        "engine/outbox/rounds.py",
        "if self._replicas and entries:",
        "if self._replicas < 0 and entries:",
        "after a failover the survivor lacks what Postgres has, and stays closed",
        (f"{ACKNOWLEDGE}::test_postgres_is_never_ahead_of_the_replica",),
    ),
    Bug(
        "another process's event is waited for",
        "engine/outbox/standing.py",
        "if process != self._certified[partition] or watermark.epoch > before.epoch:",
        "if watermark.epoch > before.epoch:",
        "a Redis that was set back books somebody else under the id that an answer waits for",
        (f"{ACKNOWLEDGE}::test_an_event_of_a_process_that_was_replaced_is_unknown",),
    ),
    Bug(
        "a clock stands still",
        f"{SCRIPTS}/step.lua",
        "return now > stored and last + now - stored or last, now",
        "return now > last and now or last, now",
        "after a host's clock was set back no deadline passes, and what is unknown stays unknown",
        (f"{DOORS}::test_a_clock_that_was_set_back_goes_on_from_where_it_was",),
    ),
    Bug(
        "a repeated answer is told at once",
        f"{SCRIPTS}/step.lua",
        "last_event = last }",
        "last_event = '' }",
        "an answer rests on an event that Postgres does not have, and that Redis may lose",
        (f"{ACKNOWLEDGE}::test_a_reading_tells_nothing_that_postgres_does_not_have",),
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
