-- name: lock
-- One migration run at a time; freed at the end of the transaction.
select pg_advisory_xact_lock(1685021541)

-- name: create_table
create table if not exists schema_migration (
    version    integer primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default now()
)

-- name: applied
select version, name, checksum from schema_migration order by version

-- name: record
insert into schema_migration (version, name, checksum) values ($1, $2, $3)
