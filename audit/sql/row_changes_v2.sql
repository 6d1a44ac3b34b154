-- Who acts may be deleted by the same statement that empties a column: a foreign key's SET NULL is
-- recorded once that statement is done, and not inside of a trigger. What empties a column is
-- therefore written with care, as what is deleted is.
CREATE OR REPLACE FUNCTION audit_rare_v1(actor_ jsonb, table_ text, operation text, key_ varchar,
                                         was jsonb, became jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    person integer := actor_ ->> 'user_id';
    details_ jsonb := CASE operation WHEN 'DELETE' THEN jsonb_build_object('before', was)
                      ELSE jsonb_build_object('before', was, 'after', became) END;
BEGIN
    IF person IS NOT NULL AND (operation = 'DELETE' OR pg_trigger_depth() > 1
                               OR jsonb_strip_nulls(became) <> became) THEN
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

CREATE OR REPLACE FUNCTION audit_row_v1() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET extra_float_digits = 1 AS $$
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
       OR cardinality(key) > 1 OR length(was ->> key[1]) > 255
       OR jsonb_strip_nulls(became - apart) <> became - apart THEN
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

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION audit_row_v1() SET search_path = %I, pg_temp', current_schema());
END
$$;
