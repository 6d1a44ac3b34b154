ALTER TABLE authenticator_secrets
    RENAME CONSTRAINT authenticator_secrets_user_id_fkey TO authenticator_secrets_user_id_fk;
