-- The trail of row changes. The trigger functions are SECURITY DEFINER: whoever may change a row is
-- recorded, with or without rights on the trail. Their arguments are arrays of column names:
-- primary key, masked columns, ignored columns.

-- What the trail calls a row: its key, as JSON where that has several columns. A key that is too
-- long ends in a digest of all of it, so that no two rows have the same name.
CREATE FUNCTION audit_key_v1(row_ jsonb, key text[]) RETURNS varchar(255)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    key_ text := row_ ->> key[1];
BEGIN
    IF cardinality(key) > 1 THEN
        SELECT jsonb_agg(row_ -> name ORDER BY place)::text INTO key_
        FROM unnest(key) WITH ORDINALITY AS keys (name, place);
    END IF;
    IF length(key_) > 255 THEN
        RETURN left(key_, 190) || '~' || encode(sha256(convert_to(key_, 'UTF8')), 'hex');
    END IF;
    RETURN key_;
END
$$;

-- What the trail calls a table: with its schema, if that is not the trail's own.
CREATE FUNCTION audit_name_v1(schema_ name, table_ name) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN schema_ = current_schema() THEN table_ ELSE schema_ || '.' || table_ END
$$;

CREATE FUNCTION audit_masked_v1(row_ jsonb, mask text[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY mask LOOP
        IF row_ ->> name IS NOT NULL THEN
            row_ := jsonb_set(row_, ARRAY[name], '"***"');
        END IF;
    END LOOP;
    RETURN row_;
END
$$;

CREATE FUNCTION audit_write_v1(actor_ jsonb, person integer, table_ text, operation text,
                               key_ varchar, details_ jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_logs (user_id, actor, action, resource, resource_id, details,
                            ip_address, request_id, is_admin_action)
    VALUES (person, coalesce(actor_ ->> 'actor', 'db:' || session_user),
            table_ || '.' || lower(operation), table_, key_, details_,
            actor_ ->> 'ip_address', actor_ ->> 'request_id',
            coalesce((actor_ ->> 'is_admin_action')::boolean, false));
END
$$;

-- A record that is more than the plain one of an update.
CREATE FUNCTION audit_rare_v1(actor_ jsonb, table_ text, operation text, key_ varchar,
                              was jsonb, became jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    person integer := actor_ ->> 'user_id';
    details_ jsonb := CASE operation WHEN 'DELETE' THEN jsonb_build_object('before', was)
                      ELSE jsonb_build_object('before', was, 'after', became) END;
BEGIN
    IF person IS NOT NULL AND (operation = 'DELETE' OR pg_trigger_depth() > 1) THEN
        BEGIN  -- whoever acts may be the very person who is being deleted
            PERFORM audit_write_v1(actor_, person, table_, operation, key_, details_);
        EXCEPTION WHEN foreign_key_violation THEN
            PERFORM audit_write_v1(actor_, NULL, table_, operation, key_, details_);
        END;
    ELSE
        PERFORM audit_write_v1(actor_, person, table_, operation, key_, details_);
    END IF;
END
$$;

-- One record for each row that was updated (the columns that changed) or deleted (all of it).
-- It runs for every change, mostly once in a transaction, where each expression has to be prepared
-- anew: there are few of them on the way to the last statement, and what is rarely needed stands
-- behind one condition.
CREATE FUNCTION audit_row_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    was jsonb := to_jsonb(OLD);
    became jsonb := to_jsonb(NEW);
    -- What the record leaves out: ignored columns, and those that are as before.
    apart text[] := TG_ARGV[2]::text[] || ARRAY(
        SELECT name FROM (SELECT jsonb_object_keys(was) AS name) AS columns
        WHERE was -> name = became -> name);
    key text[];
    table_ text;
    actor_ jsonb;
BEGIN
    IF TG_OP = 'UPDATE' AND was - apart = '{}' THEN
        RETURN NULL;
    END IF;
    key := TG_ARGV[0];
    table_ := audit_name_v1(TG_TABLE_SCHEMA, TG_TABLE_NAME);
    actor_ := nullif(current_setting('groundwork.actor', true), '')::jsonb;
    IF TG_OP = 'DELETE' OR pg_trigger_depth() > 1 OR was - apart ?| TG_ARGV[1]::text[]
       OR cardinality(key) > 1 OR length(was ->> key[1]) > 255 THEN
        PERFORM audit_rare_v1(actor_, table_, TG_OP, audit_key_v1(was, key),
                              audit_masked_v1(was - apart, TG_ARGV[1]::text[]),
                              audit_masked_v1(became - apart, TG_ARGV[1]::text[]));
        RETURN NULL;
    END IF;
    INSERT INTO audit_logs (user_id, actor, action, resource, resource_id, details,
                            ip_address, request_id, is_admin_action)
    VALUES ((actor_ ->> 'user_id')::integer, coalesce(actor_ ->> 'actor', 'db:' || session_user),
            table_ || '.update', table_, was ->> key[1],
            jsonb_build_object('before', was - apart, 'after', became - apart),
            actor_ ->> 'ip_address', actor_ ->> 'request_id',
            coalesce((actor_ ->> 'is_admin_action')::boolean, false));
    RETURN NULL;
END
$$;

-- One record for each inserted row, written by one statement however many there are.
CREATE FUNCTION audit_inserted_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    actor_ jsonb := nullif(current_setting('groundwork.actor', true), '')::jsonb;
    table_ text := audit_name_v1(TG_TABLE_SCHEMA, TG_TABLE_NAME);
BEGIN
    INSERT INTO audit_logs (user_id, actor, action, resource, resource_id, details,
                            ip_address, request_id, is_admin_action)
    SELECT (actor_ ->> 'user_id')::integer,
           coalesce(actor_ ->> 'actor', 'db:' || session_user),
           table_ || '.insert',
           table_,
           audit_key_v1(to_jsonb(inserted), TG_ARGV[0]::text[]),
           jsonb_build_object('after', audit_masked_v1(
               to_jsonb(inserted) - TG_ARGV[2]::text[], TG_ARGV[1]::text[])),
           actor_ ->> 'ip_address',
           actor_ ->> 'request_id',
           coalesce((actor_ ->> 'is_admin_action')::boolean, false)
    FROM inserted;
    RETURN NULL;
END
$$;

CREATE FUNCTION audit_truncate_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    actor_ jsonb := nullif(current_setting('groundwork.actor', true), '')::jsonb;
    table_ text := audit_name_v1(TG_TABLE_SCHEMA, TG_TABLE_NAME);
    rows_ bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO rows_;
    PERFORM audit_write_v1(actor_, (actor_ ->> 'user_id')::integer, table_, TG_OP, NULL,
                           jsonb_build_object('rows', rows_));
    RETURN NULL;
END
$$;

-- The trail itself: rows come, and stay as they are. Two ways lead around it, both narrow: the
-- foreign key's SET NULL when a person is deleted (it runs inside a trigger), and what the owner
-- erases, archives or prunes, which is signed.
CREATE FUNCTION audit_append_only_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'audit_logs' AND pg_trigger_depth() > 1 THEN
        IF NEW.user_id IS NULL AND to_jsonb(NEW) - 'user_id' = to_jsonb(OLD) - 'user_id' THEN
            RETURN NEW;
        END IF;
    END IF;
    -- Everybody can set the variable: it counts for the owner alone.
    IF current_setting('groundwork.audit_removal', true) = 'on' AND pg_has_role(
        (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE'
    ) THEN
        IF TG_TABLE_NAME = 'audit_logs' AND TG_OP = 'DELETE'
           OR TG_TABLE_NAME = 'audit_archives' AND TG_OP = 'DELETE' THEN
            RETURN OLD;
        ELSIF TG_TABLE_NAME = 'audit_logs' AND TG_OP = 'UPDATE' THEN
            IF NEW.salt IS DISTINCT FROM OLD.salt AND (NEW.id, NEW.action, NEW.resource, NEW.is_admin_action, NEW.created_at)
               IS NOT DISTINCT FROM
               (OLD.id, OLD.action, OLD.resource, OLD.is_admin_action, OLD.created_at) THEN
                RETURN NEW;
            END IF;
        ELSIF TG_TABLE_NAME IN ('audit_seals', 'audit_archives') AND TG_OP = 'UPDATE' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'piccolo audit erase, archive and prune take things away and keep the proof.';
END
$$;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_logs', 'audit_seals', 'audit_removals', 'audit_archives']
    LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I
                        FOR EACH ROW EXECUTE FUNCTION audit_append_only_v1()', name);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only_v1()', name);
    END LOOP;
END
$$;

-- Move the sequence along behind the seals: it betrays that the last ones were removed. Whoever seals
-- may do this, and only this, with it; a seal whose id does not come next was made by hand.
CREATE FUNCTION audit_note_seals_v1() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    noted bigint := (SELECT last_value FROM audit_seals_id_seq);
BEGIN
    RETURN (
        SELECT setval('audit_seals_id_seq', greatest(noted, (
            SELECT max(id) FROM (
                SELECT id, noted + row_number() OVER (ORDER BY id) AS next
                FROM audit_seals WHERE id > noted
            ) AS later
            WHERE id = next
        )))
        WHERE EXISTS (SELECT FROM audit_seals)
    );
END
$$;

-- A temporary table of the caller must not stand in for the trail.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_row_v1', 'audit_inserted_v1', 'audit_truncate_v1',
                                'audit_note_seals_v1'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
    -- Else a session could have numbers written with fewer digits, and a change look like none.
    ALTER FUNCTION audit_row_v1() SET extra_float_digits = 1;
    ALTER FUNCTION audit_inserted_v1() SET extra_float_digits = 1;
END
$$;
