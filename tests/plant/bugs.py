"""The bugs that are planted: one small change each, of the kind that a tired person makes.

``old`` occurs exactly once in ``file``; ``suites`` are pytest paths that pass without the change and must
fail with it. A bug belongs here when it would lose, double or tear a booking, and no type checker sees it.
"""

import msgspec

SCRIPTS = "engine/inventory/scripts"
STEP, LATE = "tests/scripts/test_step.py", "tests/scripts/test_late_copies.py"
READING = "tests/integration/test_cluster_reading.py"
FAULTS = "tests/integration/test_cluster_faults.py"
HOLDS, MOVES = "tests/scripts/test_holds.py", "tests/scripts/test_moves.py"
GROUPS, PARTS = "tests/scripts/test_groups.py", "tests/scripts/test_parts.py"
SIMULATION = "tests/simulation/test_simulation.py::test_no_history_breaks_a_rule_and_every_replay_agrees"
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
        "    call('HSET', key, field, course_record({ state = 't', revision = 0, op = NO_OP,"
        " vaccine = 0, day = 0,\n"
        "      appointments = '', changes = '' }))\n",
        "",
        "a take that was given up arrives late and books a second course",
        (f"{LATE}::test_a_late_take_meets_the_tombstone",),
    ),
    Bug(
        "take forgets",
        f"{SCRIPTS}/take.lua",
        "  if courses then return begun_before(partition, courses) end\n",
        "",
        "a repeated take sells two more seats to the same course",
        (SEATS,),
    ),
    Bug(
        "late take granted",
        f"{SCRIPTS}/take.lua",
        "  if partition.now > group.not_after then return 'D' end\n",
        "",
        "a take happens after its caller was told that it cannot",
        (f"{STEP}::test_after_the_deadline_nothing_is_booked",),
    ),
    Bug(
        "event after the seats",
        f"{SCRIPTS}/begin.lua",
        "  if group.ends then tell_end(partition, group.ends, group.op, 'x') end\n",
        "  write_draft(group.draft)\n"
        "  if group.ends then tell_end(partition, group.ends, group.op, 'x') end\n",
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
        "    call('HSET', member.bucket, member.guard_field,\n"
        "      guard_record('b', member.generation, member.number, group.op, member.guard))\n",
        "",
        "the fused booking leaves the person free to book again",
        (f"{STEP}::test_one_live_course_per_person",),
    ),
    Bug(
        "booked over a tombstone",
        f"{SCRIPTS}/book.lua",
        "    if call('HEXISTS', member.bucket, field) == 1 then return 'T' .. char(i) end\n",
        "",
        "a course that was given up comes to life",
        (f"{LATE}::test_nothing_is_booked_over_a_tombstone",),
    ),
    Bug(
        "seats kept by a cancellation",
        f"{SCRIPTS}/end.lua",
        "  write_end(partition, course)\n  write_draft(draft)\n",
        "  write_end(partition, course)\n",
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
        f"{SCRIPTS}/begin.lua",
        "  for _, member in ipairs(group) do\n    member.revision = 1\n",
        "  for _, member in ipairs(group) do claim(member) end\n"
        "  for _, member in ipairs(group) do\n"
        "    member.revision = 1\n",
        "an error in the middle leaves a guard for a booking that Postgres never hears of",
        (f"{SEATS}::test_where_the_event_cannot_be_written_nothing_is",),
    ),
    Bug(
        "event after the seats of a cancellation",
        f"{SCRIPTS}/end.lua",
        "  tell_end(partition, course, op, act)\n  write_end(partition, course)\n",
        "  write_end(partition, course)\n  tell_end(partition, course, op, act)\n",
        "an error in the middle leaves a free guard for a course that Postgres believes to be booked",
        (f"{SEATS}::test_where_the_event_cannot_be_written_nothing_is",),
    ),
    Bug(
        "half a course given back",
        f"{SCRIPTS}/seats.lua",
        "  for at = 1, #appointments, 12 do\n    local _, _, _, session, slot, seat",
        "  for at = 1, 12, 12 do\n    local _, _, _, session, slot, seat",
        "the seat of dose 2 stays sold to nobody",
        (f"{STEP}::test_cancelling_gives_both_seats_back_and_frees_the_person",),
    ),
    Bug(
        "guard of a later course freed by a cancellation",
        f"{SCRIPTS}/end.lua",
        "  if generation == course.generation and state ~= 'f' then",
        "  if state ~= 'f' then",
        "the person books again beside a live course",
        (f"{LATE}::test_cancelling_another_generation_leaves_the_guard_alone",),
    ),
    Bug(
        "one dose twice",
        f"{SCRIPTS}/begin.lua",
        "    local dose = taken == '' and 0 or twice(taken .. member.joined)\n",
        "    local dose = taken == '' and 0 or nil\n",
        "one dose has two seats",
        (f"{SEATS}::test_what_is_not_on_sale_is_refused_by_its_dose", GROUPS),
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
        "given_vaccine, given_day, tuple(_changes(record[end:])))",
        "given_vaccine, given_day, ())",
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
    # Holds, moves, households, seats elsewhere
    Bug(
        "release before take",
        f"{SCRIPTS}/move.lua",
        "  if full then return full end\n",
        "  if full then\n    give_back(draft, here)\n    write_draft(draft)\n    return full\n  end\n",
        "a move that is refused has lost the seat that it had",
        (MOVES,),
    ),
    Bug(
        "a move takes the seat that it gives back",
        f"{SCRIPTS}/move.lua",
        "    draft = new_draft(partition)\n    taken, refusal",
        "    draft = new_draft(partition)\n    give_back(draft, here)\n    taken, refusal",
        "a seat is given back before the new one is taken, and perhaps twice",
        (MOVES,),
    ),
    Bug(
        "move without compare-and-set",
        f"{SCRIPTS}/move.lua",
        "  if course.revision ~= revision then return 'R' .. pack('<I2', course.revision) end\n",
        "",
        "a change of a course that has changed since gives up what nobody asked for",
        (f"{MOVES}::test_what_is_refused_changes_nothing",),
    ),
    Bug(
        "a late move is made",
        f"{SCRIPTS}/move.lua",
        "  if partition.now > not_after then return 'D' end\n",
        "",
        "a dose moves after its caller was told that it cannot",
        (f"{MOVES}::test_what_is_refused_changes_nothing",),
    ),
    Bug(
        "a move is forgotten",
        f"{SCRIPTS}/move.lua",
        "  remember(course, op, 'v', appointments)\n",
        "  course.revision = course.revision + 1\n",
        "a repeated move is refused, though it was made",
        (MOVES,),
    ),
    Bug(
        "a move answers as of now",
        f"{SCRIPTS}/move.lua",
        "  if known then return 'V' .. pack('<I2', made) .. left end\n",
        "  if known then return 'V' .. pack('<I2', course.revision) .. left end\n",
        "a repeated move takes seats that count for old ones, and gives them back",
        (f"{PARTS}::test_a_repeated_move_gives_back_nothing_that_counts", MOVES),
    ),
    Bug(
        "what was booked is forgotten by a move",
        f"{SCRIPTS}/move.lua",
        "  if count_changes(course, 'b') == 0 then\n",
        "  if false then\n",
        "the op that booked is told of other seats than before",
        (f"{MOVES}::test_each_op_keeps_its_answer_after_others",),
    ),
    Bug(
        "resolve does not raise the revision",
        f"{SCRIPTS}/resolve.lua",
        "    course.revision = revision + 1\n",
        "",
        "a move counts a part that the sweep has just given back",
        (f"{PARTS}::test_a_part_is_never_given_back_while_its_home_could_count_it", MOVES),
    ),
    Bug(
        "part given back without asking its home",
        "engine/booking/move.py",
        "    if mine in _counted(answer):\n",
        '    if mine in _counted(b""):\n',
        "the seat of a live course is sold again",
        (SIMULATION,),
    ),
    Bug(
        "part given back without its tombstone",
        f"{SCRIPTS}/part.lua",
        "  call('HSET', key, field, 'x' .. sub(part, 2))\n",
        "  call('HDEL', key, field)\n",
        "a late copy sets a seat aside that nobody ever gives back",
        (f"{PARTS}::test_what_was_given_back_never_comes_back",),
    ),
    Bug(
        "parts left behind by a refused move",
        "engine/booking/move.py",
        "    if found:\n        yield from _give_up(change, home, found)\n",
        "",
        "a seat stays taken for nobody until the sweep comes",
        (f"{PARTS}::test_a_move_that_was_refused_gives_its_part_back",),
    ),
    Bug(
        "another op's part taken for one's own",
        f"{SCRIPTS}/part.lua",
        "      if by ~= op then return nil, 'K' end\n",
        "",
        "two changes count one seat",
        (f"{PARTS}::test_seats_are_set_aside_kept_and_given_back_once",),
    ),
    Bug(
        "half a household",
        f"{SCRIPTS}/begin.lua",
        "    if not taken then return sub(refusal, 1, 1) .. char(i) .. sub(refusal, 2) end\n",
        "    if not taken and i == 1 then return sub(refusal, 1, 1) .. char(i) .. sub(refusal, 2) end\n"
        "    if not taken then\n"
        "      for at = #group, i, -1 do group[at] = nil end\n"
        "      return nil\n"
        "    end\n",
        "one of two is booked, and the other is not",
        (f"{GROUPS}::test_half_a_household_does_not_begin",),
    ),
    Bug(
        "half a household is confirmed",
        f"{SCRIPTS}/hold.lua",
        "    if course.state ~= 'b' and not_running(partition, course) then return 'G' .. char(i) end\n",
        "    if i == 1 and course.state ~= 'b' and not_running(partition, course) then"
        " return 'G' .. char(i) end\n",
        "one of two is booked, and the other is not",
        (f"{HOLDS}::test_some_of_a_household_is_not_confirmed",),
    ),
    Bug(
        "unclaim missing for a household",
        "engine/booking/book.py",
        "                yield from _unclaim(claims, placement)\n                if answer",
        "                if answer",
        "whoever is refused for another's sake stays claimed",
        (f"{LATE}::test_who_is_refused_for_anothers_sake_is_free",),
    ),
    Bug(
        "claims of a household given up by halves",
        "engine/booking/book.py",
        "        yield from quit_all(claim.course, own_parts)\n    return not granted",
        "        yield from quit_all(claim.course, own_parts)\n        break\n    return not granted",
        "the others of a household stay claimed",
        (f"{LATE}::test_a_refused_household_whose_claims_were_joined_is_free",),
    ),
    Bug(
        "confirmed past its time",
        f"{SCRIPTS}/hold.lua",
        "  return course.state ~= 'h' or is_due(partition, course)\n",
        "  return course.state ~= 'h'\n",
        "a hold is confirmed that was over, while its seats are given to another",
        (f"{HOLDS}::test_a_hold_is_over_at_its_millisecond",),
    ),
    Bug(
        "a confirmed hold runs on",
        f"{SCRIPTS}/hold.lua",
        "      call('ZREM', holds_of(partition), course.field)\n",
        "",
        "the janitor expires a course that is booked",
        (f"{HOLDS}::test_a_confirmed_hold_is_booked_and_runs_no_more",),
    ),
    Bug(
        "a confirmation is forgotten",
        f"{SCRIPTS}/hold.lua",
        "    done = done or known == 'same'\n",
        "",
        "a repeated confirmation is refused after a cancellation",
        (HOLDS,),
    ),
    Bug(
        "extension without limit",
        f"{SCRIPTS}/hold.lua",
        "    if count_changes(course, 'w') >= extensions_max then return 'M' .. char(i) end\n",
        "",
        "one person holds a seat for ever",
        (f"{HOLDS}::test_an_extended_hold_ends_later",),
    ),
    Bug(
        "an extended hold ends as before",
        f"{SCRIPTS}/hold.lua",
        "    call('ZADD', holds_of(partition), until_ms, course.field)\n",
        "",
        "the seats are given to another before the time that was told",
        (f"{HOLDS}::test_an_extended_hold_ends_later",),
    ),
    Bug(
        "held for ever",
        f"{SCRIPTS}/begin.lua",
        "    if until_ms > 0 then call('ZADD', holds_of(partition), until_ms, field) end\n",
        "",
        "nobody ends the hold when its time is over",
        (f"{HOLDS}::test_a_hold_is_recorded_and_told_with_its_end_and_what_is_given",),
    ),
    Bug(
        "expired hold keeps its guard",
        f"{SCRIPTS}/end.lua",
        "  if generation == course.generation and state ~= 'f' then"
        " call('HSET', key, field, freed(guard)) end\n",
        "",
        "whoever let a hold run out never books again",
        (f"{HOLDS}::test_an_expired_hold_gives_back_its_seat_and_its_guard",),
    ),
    Bug(
        "expired hold keeps a guard elsewhere",
        "engine/outbox/settle.py",
        "event.type in codec.ENDS",
        'event.type == b"x"',
        "whoever let a hold run out elsewhere never books again",
        (SIMULATION,),
    ),
    Bug(
        "expiry takes what runs",
        f"{SCRIPTS}/expire.lua",
        "'-inf', string.format('%.0f', partition.now)",
        "'-inf', '+inf'",
        "holds end before their time",
        (f"{HOLDS}::test_the_oldest_hold_expires_first_and_what_runs_does_not",),
    ),
    Bug(
        "a full slot ends no hold",
        f"{SCRIPTS}/expire.lua",
        "or byte(refusal) ~= 70 or",
        "or byte(refusal) ~= 71 or",
        "people are told that it is full while holds are over",
        (HOLDS,),
    ),
    Bug(
        "instead without ending the hold",
        f"{SCRIPTS}/begin.lua",
        "  if group.ends then write_end(partition, group.ends) end\n",
        "",
        "two people accept one offer",
        (f"{GROUPS}::test_who_comes_instead_gets_the_seats_and_the_hold_ends",),
    ),
    Bug(
        "instead of a hold that is over",
        f"{SCRIPTS}/begin.lua",
        "  if not course or course.state ~= 'h' or is_due(partition, course) then return nil end\n",
        "  if not course or course.state ~= 'h' then return nil end\n",
        "an offer is accepted after its time",
        (f"{GROUPS}::test_where_no_hold_runs_nobody_comes_instead",),
    ),
    Bug(
        "parts never kept",
        "engine/outbox/settle.py",
        "            yield seat.where, codec.keep(codec.PartId(event.course, seat.dose, seat.revision))",
        "            yield seat.where, codec.quit_part(codec.PartId(event.course, seat.dose, seat.revision))",
        "the seat elsewhere is given back though it counts",
        (SIMULATION,),
    ),
)
