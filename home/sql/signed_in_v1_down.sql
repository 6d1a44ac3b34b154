DROP VIEW signed_in;
