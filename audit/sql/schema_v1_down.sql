-- What does not go with the tables. The functions of the triggers last.
DROP VIEW audit_log;
DROP TRIGGER append_only ON audit_logs;
DROP TRIGGER append_only_truncate ON audit_logs;
DROP TRIGGER append_only ON audit_seals;
DROP TRIGGER append_only_truncate ON audit_seals;
DROP TRIGGER append_only ON audit_removals;
DROP TRIGGER append_only_truncate ON audit_removals;
DROP TRIGGER append_only ON audit_archives;
DROP TRIGGER append_only_truncate ON audit_archives;
DROP FUNCTION audit_append_only_v1(),
              audit_row_v1(),
              audit_inserted_v1(),
              audit_truncate_v1(),
              audit_note_seals_v1(),
              audit_rare_v1(jsonb, text, text, varchar, jsonb, jsonb),
              audit_write_v1(jsonb, integer, text, text, varchar, jsonb),
              audit_masked_v1(jsonb, text[]),
              audit_key_v1(jsonb, text[]),
              audit_name_v1(name, name);
