-- What certification and rebuild need: the digest of the entry at the watermark, the run_id of the Redis process
-- that was compared with it, the mark that the persister left in the partition (scripts/mark.lua), and the op
-- that cancelled a course (its record in Redis has it).

alter table partition add column digest bytea, add column run_id text,
    add column mark bigint not null default 0;

alter table course add column cancel_op bytea;
