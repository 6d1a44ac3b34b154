CREATE TABLE braces (document jsonb DEFAULT '{}');
INSERT INTO braces VALUES ('{"a": {}}');
