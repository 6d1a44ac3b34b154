ALTER TABLE authenticator_secrets
    RENAME CONSTRAINT authenticator_secrets_user_id_fk TO authenticator_secrets_user_id_fkey;
