DROP TRIGGER directory_enabled ON users;
DROP FUNCTION directory_enabled_v1();
ALTER TABLE directory_people RENAME CONSTRAINT directory_people_user_id_fk TO directory_people_user_id_fkey;
