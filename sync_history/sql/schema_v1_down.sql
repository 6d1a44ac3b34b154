-- What does not go with the tables. The functions of the triggers last.
DROP TRIGGER directory_enabled ON users;
DROP TRIGGER rules ON sync_history;
DROP FUNCTION directory_enabled_v1(), sync_history_rules_v1();
