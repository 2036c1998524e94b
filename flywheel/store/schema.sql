-- All tables and views with their columns, types and comments.
SELECT t.name AS "table", t.comment AS meaning, c.column_name AS "column", c.data_type AS type, c.comment AS about
FROM (
    SELECT table_name AS name, comment FROM duckdb_tables() WHERE NOT internal
    UNION ALL
    SELECT view_name, comment FROM duckdb_views() WHERE NOT internal
) AS t
JOIN duckdb_columns() AS c ON c.table_name = t.name AND NOT c.internal
ORDER BY t.name, c.column_index;
