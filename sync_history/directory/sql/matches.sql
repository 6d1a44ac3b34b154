-- Each line of the directory beside the account it means: by clerk_id first, then by e-mail address.
-- What follows `problem` is what the account should hold: a line says nothing by an empty value, and
-- nothing about the address and the identity of an administrator or auditor (else who writes the directory
-- could become one).
CREATE TEMP TABLE directory_matches ON COMMIT DROP AS
WITH same_email AS (
    SELECT email, min(line) AS first FROM directory_lines GROUP BY email HAVING count(*) > 1
),
same_clerk_id AS (
    SELECT clerk_id, min(line) AS first FROM directory_lines
    WHERE clerk_id IS NOT NULL GROUP BY clerk_id HAVING count(*) > 1
),
matched AS (
    SELECT lines.*, by_email.id AS email_id, coalesce(by_clerk.id, by_email.id) AS user_id
    FROM directory_lines AS lines
    LEFT JOIN users AS by_clerk ON by_clerk.clerk_id = lines.clerk_id
    LEFT JOIN users AS by_email ON by_email.email = lines.email
),
same_account AS (
    SELECT user_id, min(line) AS first FROM matched
    WHERE user_id IS NOT NULL GROUP BY user_id HAVING count(*) > 1
)
SELECT m.line, m.user_id, m.email_id, m.is_broken, m.has_left,
       CASE
           WHEN m.is_broken THEN 'reported'
           WHEN same_email.first < m.line THEN 'has the e-mail address of'
           WHEN same_clerk_id.first < m.line THEN 'has the clerk_id of'
           WHEN same_account.first < m.line THEN 'means the same account as'
           -- Where PostgreSQL and Python may disagree about small letters and white space.
           WHEN octet_length(m.email) > length(m.email) AND NOT (
               m.email = lower(m.email) AND m.email ~ '^[^@\s[:cntrl:]]+@[^@\s[:cntrl:]]+$')
               THEN 'has an e-mail address that cannot be used'
           WHEN m.user_id <> m.email_id THEN 'belongs by clerk_id and by e-mail address to two accounts'
           WHEN m.user_id IS NULL THEN NULL
           WHEN NOT u.is_approved THEN 'has an account that is not approved: approve or delete it'
           WHEN rights AND u.email <> m.email
               THEN 'is an administrator or auditor, whose e-mail address only a person changes'
           WHEN u.clerk_id <> m.clerk_id THEN 'has an account with another clerk_id'
       END AS problem,
       CASE
           WHEN m.is_broken THEN NULL
           WHEN same_email.first < m.line THEN same_email.first
           WHEN same_clerk_id.first < m.line THEN same_clerk_id.first
           WHEN same_account.first < m.line THEN same_account.first
       END AS first,
       m.email,
       coalesce(m.display_name, u.display_name) AS display_name,
       coalesce(m.organization, u.organization) AS organization,
       CASE WHEN rights THEN u.clerk_id ELSE coalesce(m.clerk_id, u.clerk_id) END AS clerk_id,
       m.email <> u.email
           OR m.display_name <> coalesce(u.display_name, '')
           OR m.organization <> coalesce(u.organization, '')
           OR (m.clerk_id <> coalesce(u.clerk_id, '') AND NOT rights) AS differs
FROM matched AS m
LEFT JOIN users AS u ON u.id = m.user_id
LEFT JOIN LATERAL (SELECT u.is_admin OR u.is_superuser OR u.is_auditor) AS of_the_account (rights) ON true
LEFT JOIN same_email ON same_email.email = m.email
LEFT JOIN same_clerk_id ON same_clerk_id.clerk_id = m.clerk_id
LEFT JOIN same_account ON same_account.user_id = m.user_id
