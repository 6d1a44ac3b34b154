-- What a run is about to do, in the order in which it does it. $1 is the run.
INSERT INTO directory_changes
    (number, run_id, action, line, user_id, email, display_name, organization, clerk_id)
SELECT row_number() OVER (
           ORDER BY array_position(ARRAY['create', 'return', 'update', 'adopt', 'leave'], action),
                    line, user_id),
       $1, action, line, user_id, email, display_name, organization, clerk_id
FROM (
    SELECT CASE
               WHEN m.user_id IS NULL THEN 'create'
               WHEN people.left_at IS NOT NULL THEN 'return'
               WHEN m.differs THEN 'update'
               WHEN people.user_id IS NULL THEN 'adopt'
           END AS action,
           m.line, m.user_id, m.email, m.display_name, m.organization, m.clerk_id
    FROM directory_matches AS m
    LEFT JOIN directory_people AS people ON people.user_id = m.user_id
    WHERE m.problem IS NULL AND NOT m.has_left
    UNION ALL
    -- A line that is broken in other ways still shows that the person is there.
    SELECT 'leave', gone.line, users.id, users.email, NULL, NULL, NULL
    FROM directory_people AS people
    JOIN users ON users.id = people.user_id
    LEFT JOIN directory_matches AS gone
        ON gone.user_id = people.user_id AND gone.has_left AND gone.problem IS NULL
    WHERE people.left_at IS NULL
      AND NOT EXISTS (SELECT FROM directory_matches AS there WHERE there.user_id = people.user_id
                      AND (there.problem IS NOT NULL OR NOT there.has_left))
      AND NOT EXISTS (SELECT FROM directory_matches AS there WHERE there.email_id = people.user_id
                      AND (there.problem IS NOT NULL OR NOT there.has_left))
) AS changes
WHERE action IS NOT NULL
