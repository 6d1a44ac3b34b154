-- What `piccolo home verify` compares: one row for each thing, described as PostgreSQL would write it.
-- $1 is the schema. Names are those of the things, so renaming one is a difference.
WITH relations AS (
    SELECT oid, relname::text, relkind, relrowsecurity, relforcerowsecurity
    FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind IN ('r', 'p', 'v', 'm')
)
SELECT CASE WHEN relkind IN ('v', 'm') THEN 'view' ELSE 'table' END AS kind,
       relname AS relation,
       '' AS name,
       CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid, true)
            ELSE concat_ws(' ', 'table', CASE WHEN relrowsecurity THEN 'ROW LEVEL SECURITY' END,
                           CASE WHEN relforcerowsecurity THEN 'FORCED' END) END AS definition
FROM relations
UNION ALL
SELECT 'column', relname, attname::text,
       concat_ws(' ',
           format_type(atttypid, atttypmod),
           CASE WHEN attnotnull THEN 'NOT NULL' END,
           CASE attgenerated WHEN 's' THEN 'GENERATED' ELSE CASE WHEN atthasdef THEN 'DEFAULT' END END,
           pg_get_expr(adbin, adrelid))
FROM relations
JOIN pg_attribute ON attrelid = relations.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 'index', relname, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM relations JOIN pg_index ON indrelid = relations.oid
UNION ALL
-- PostgreSQL 18 lists NOT NULL as constraints too; columns have said it already.
SELECT 'constraint', relname, conname::text, pg_get_constraintdef(pg_constraint.oid)
FROM relations JOIN pg_constraint ON conrelid = relations.oid
WHERE contype <> 'n'
UNION ALL
SELECT 'trigger', relname, tgname::text,
       concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), CASE tgenabled WHEN 'O' THEN NULL ELSE 'DISABLED' END)
FROM relations JOIN pg_trigger ON tgrelid = relations.oid
WHERE NOT tgisinternal
UNION ALL
SELECT 'policy', relname, polname::text,
       concat_ws(' ', polcmd, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM relations JOIN pg_policy ON polrelid = relations.oid
UNION ALL
SELECT 'rule', relname, rulename::text, pg_get_ruledef(pg_rewrite.oid)
FROM relations JOIN pg_rewrite ON ev_class = relations.oid
WHERE relkind IN ('r', 'p')
UNION ALL
-- They belong to no table. The body counts, and on whose behalf and where it looks.
SELECT 'function', '', proname::text,
       concat_ws(' ', md5(prosrc), CASE WHEN prosecdef THEN 'SECURITY DEFINER' END,
                 replace(array_to_string(proconfig, ' '), quote_ident($1), 'schema'))
FROM pg_proc
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
