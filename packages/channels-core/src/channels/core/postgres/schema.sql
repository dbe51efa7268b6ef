-- Tables and functions of channels.core.postgres, version {version}. Running it again changes nothing.
-- Names are kept as the bytes of their UTF-8 text: so every database encoding carries every name,
-- and their order, in which records are locked, is the same everywhere.

CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL,
    history boolean NOT NULL,   -- whether publish() appends to the record
    notify boolean NOT NULL     -- whether listeners are notified; otherwise they poll
);

-- One record per channel. Whoever appends updates its row, and so holds the lock until the commit:
-- offsets are given in the order of the commits.
CREATE TABLE IF NOT EXISTS {schema}.channel (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name bytea NOT NULL UNIQUE,
    epoch text NOT NULL,
    top bigint NOT NULL,        -- the newest event's offset
    server bigint NOT NULL,     -- which start of which server gave the epoch
    past_epochs text[] NOT NULL DEFAULT '{}',   -- what this record descends from, newest first,
    past_tops bigint[] NOT NULL DEFAULT '{}',   -- and how far it reached at the time
    published_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS {schema}.event (
    channel bigint NOT NULL,
    seq bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (channel, seq)
);

-- Payloads that do not fit a notification, where no history is kept.
CREATE TABLE IF NOT EXISTS {schema}.spill (
    id text PRIMARY KEY,
    data bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What a transaction has published and not committed yet; empty but for open transactions.
CREATE TABLE IF NOT EXISTS {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
    names bytea[] NOT NULL,
    data bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_xact ON {schema}.outbox (xact);

-- The name under which a channel is listened to. A long one is hashed; so is one that this
-- database's encoding may not have.
CREATE OR REPLACE FUNCTION {schema}.notify_name(name bytea) RETURNS text LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN octet_length(name) <= 63
            AND (getdatabaseencoding() = 'UTF8' OR length(name, 'UTF8') = octet_length(name))
        THEN convert_from(name, 'UTF8')
        ELSE '$' || left(encode(sha256(name), 'hex'), 60)
    END
$function$;

-- The channel's field in a frame; it is left out where the notification says it. Readers skip the
-- line breaks that encode() puts into base64; taking them out would cost more than the encoding.
CREATE OR REPLACE FUNCTION {schema}.frame_name(name bytea, listened text) RETURNS text
LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN left(listened, 1) = '$' THEN encode(name, 'base64') ELSE '-' END
$function$;

-- Append events to their channels' records and notify; returns where each channel stands then.
-- names are distinct, each with its count of events; datas has the events of the first name in
-- their order, then those of the second, and owners the number of each one's name.
-- Set-based: however many events, it is one pass, and channels are locked in the order of names.
CREATE OR REPLACE FUNCTION {schema}.append(
    names bytea[], counts bigint[], owners bigint[], datas bytea[], notify boolean
) RETURNS TABLE (nth bigint, epoch text, top bigint) LANGUAGE plpgsql AS $function$
#variable_conflict use_column
DECLARE
    -- Another value after a restart, on another server, and in a copy of the database: any of them
    -- may have come up without the last writes, so that offsets given before may be given again.
    -- So may a server that recovers because a process of its died; it then resets its statistics.
    here bigint := hashtextextended(
        concat_ws(
            ' ',
            pg_relation_filepath('{schema}.channel'),
            extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())
        ),
        (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
    );
    fresh text := left(replace(gen_random_uuid()::text, '-', ''), 12);
BEGIN
    RETURN QUERY
    WITH counted AS MATERIALIZED (
        SELECT d.name, d.n, d.nth, sum(d.n) OVER (ORDER BY d.nth)::bigint AS upto
        FROM unnest(append.names, append.counts) WITH ORDINALITY AS d(name, n, nth)
    ), record AS (
        INSERT INTO {schema}.channel AS c (name, epoch, top, server)
        SELECT d.name, fresh, d.n, here
        FROM counted d
        ORDER BY d.name
        ON CONFLICT (name) DO UPDATE SET
            top = c.top + excluded.top,
            epoch = CASE WHEN c.server = excluded.server THEN c.epoch ELSE excluded.epoch END,
            past_epochs = CASE WHEN c.server = excluded.server THEN c.past_epochs
                ELSE (c.epoch || c.past_epochs)[1:8] END,
            past_tops = CASE WHEN c.server = excluded.server THEN c.past_tops
                ELSE (c.top || c.past_tops)[1:8] END,
            server = excluded.server,
            published_at = now()
        RETURNING c.id, c.name, c.epoch, c.top
    ), numbered AS MATERIALIZED (
        SELECT d.nth, r.id, r.epoch, r.top, r.top - d.upto AS base, l.listened,
            {schema}.frame_name(r.name, l.listened) || ' ' || r.epoch || '-' AS head
        FROM record r
        JOIN counted d ON d.name = r.name
        CROSS JOIN LATERAL (SELECT {schema}.notify_name(r.name) AS listened OFFSET 0) l
    ), placed AS MATERIALIZED (
        SELECT m.data, n.id, n.base + m.ord AS seq, n.listened, n.head
        FROM unnest(append.owners, append.datas) WITH ORDINALITY AS m(owner, data, ord)
        JOIN numbered n ON n.nth = m.owner
        ORDER BY m.ord
    ), stored AS (
        INSERT INTO {schema}.event (channel, seq, data) SELECT p.id, p.seq, p.data FROM placed p
    ), notified AS (
        SELECT count(pg_notify(
            p.listened,
            CASE WHEN octet_length(p.data) <= {inline}
                THEN E'\x011r ' || p.head || p.seq || ' ' || encode(p.data, 'base64')
                ELSE E'\x011R ' || p.head || p.seq
            END
        ))
        FROM placed p WHERE append.notify
    )
    SELECT n.nth, n.epoch, n.top FROM numbered n, notified;
END
$function$;

-- At COMMIT: the first row's trigger moves all that the transaction published, the others find nothing.
CREATE OR REPLACE FUNCTION {schema}.commit_outbox() RETURNS trigger LANGUAGE plpgsql AS $function$
DECLARE
    names bytea[];
    counts bigint[];
    owners bigint[];
    datas bytea[];
BEGIN
    WITH taken AS (
        DELETE FROM {schema}.outbox o WHERE o.xact = pg_current_xact_id()
        RETURNING o.id, o.names, o.data
    ), message AS (
        SELECT n.name, t.data, dense_rank() OVER (ORDER BY n.name) AS owner, t.id, n.ord
        FROM taken t, unnest(t.names) WITH ORDINALITY AS n(name, ord)
    ), counted AS (
        SELECT m.name, count(*) AS n FROM message m GROUP BY m.name
    )
    SELECT c.names, c.counts, m.owners, m.datas
    INTO names, counts, owners, datas
    FROM (
        SELECT array_agg(d.name ORDER BY d.name) AS names, array_agg(d.n ORDER BY d.name) AS counts
        FROM counted d
    ) c, (
        SELECT array_agg(m.owner ORDER BY m.owner, m.id, m.ord) AS owners,
            array_agg(m.data ORDER BY m.owner, m.id, m.ord) AS datas
        FROM message m
    ) m;
    IF names IS NOT NULL THEN
        PERFORM {schema}.append(
            names, counts, owners, datas, (SELECT s.notify FROM {schema}.settings s)
        );
    END IF;
    RETURN NULL;
END
$function$;

DROP TRIGGER IF EXISTS commit_outbox ON {schema}.outbox;
CREATE CONSTRAINT TRIGGER commit_outbox AFTER INSERT ON {schema}.outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.commit_outbox();

-- Publish within a transaction: it happens when the transaction commits, or never.
CREATE OR REPLACE FUNCTION {schema}.publish_to(names bytea[], data bytea) RETURNS void
LANGUAGE plpgsql AS $function$
DECLARE
    name bytea;
    listened text;
    key text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        IF octet_length(name) NOT BETWEEN 1 AND 200 OR get_byte(name, 0) = ascii('$') THEN
            RAISE EXCEPTION 'channel name % is empty, over 200 bytes, or begins with $', name
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    IF (SELECT s.history FROM {schema}.settings s) THEN
        INSERT INTO {schema}.outbox (names, data) VALUES (publish_to.names, publish_to.data);
        RETURN;
    END IF;
    FOREACH name IN ARRAY names LOOP
        listened := {schema}.notify_name(name);
        key := replace(gen_random_uuid()::text, '-', '');
        IF octet_length(data) <= {inline} THEN
            PERFORM pg_notify(listened, E'\x011l ' || {schema}.frame_name(name, listened)
                || ' ' || key || ' ' || encode(data, 'base64'));
        ELSE
            INSERT INTO {schema}.spill (id, data) VALUES (key, publish_to.data);
            PERFORM pg_notify(listened, E'\x011L ' || {schema}.frame_name(name, listened)
                || ' ' || key);
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION {schema}.publish(channel text, data bytea) RETURNS void
LANGUAGE sql AS $function$
    SELECT {schema}.publish_to(ARRAY[convert_to(channel, 'UTF8')], data)
$function$;

CREATE OR REPLACE FUNCTION {schema}.publish(channel text, data text) RETURNS void
LANGUAGE sql AS $function$
    SELECT {schema}.publish_to(ARRAY[convert_to(channel, 'UTF8')], convert_to(data, 'UTF8'))
$function$;

-- Delete, in small portions, what nobody will ask for. Returns how many rows went; one process at
-- a time does it, the others return 0.
CREATE OR REPLACE FUNCTION {schema}.sweep(keep bigint, silent interval, spilled interval)
RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
    total bigint := 0;
    gone bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('{schema}.sweep', 0)) THEN
        RETURN 0;
    END IF;
    DELETE FROM {schema}.spill WHERE id IN (
        SELECT s.id FROM {schema}.spill s WHERE s.created_at < now() - spilled LIMIT 1000
    );
    GET DIAGNOSTICS total = ROW_COUNT;
    IF keep IS NULL THEN
        RETURN total;
    END IF;
    DELETE FROM {schema}.event e USING (
        SELECT c.id, x.seq
        FROM {schema}.channel c, LATERAL (
            SELECT o.seq FROM {schema}.event o WHERE o.channel = c.id AND o.seq <= c.top - keep
            LIMIT 1000
        ) x
        LIMIT 5000
    ) excess WHERE e.channel = excess.id AND e.seq = excess.seq;
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
    WITH forgotten AS (
        SELECT c.id FROM {schema}.channel c WHERE c.published_at < now() - silent
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), emptied AS (
        DELETE FROM {schema}.event e USING forgotten f WHERE e.channel = f.id
    )
    DELETE FROM {schema}.channel c USING forgotten f WHERE c.id = f.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN total + gone;
END
$function$;

INSERT INTO {schema}.settings (version, history, notify) VALUES ({version}, {history}, {notify})
ON CONFLICT (only_row) DO UPDATE SET
    version = excluded.version, history = settings.history OR excluded.history;
