COPY stories TO '{folder}/out.csv'
COPY (SELECT 1) TO '{frame}'
COPY stories FROM '/etc/passwd'
INSERT INTO stories VALUES ('x', 'y')
UPDATE stories SET title = 'x'
DELETE FROM stories
TRUNCATE stories
MERGE INTO stories USING reviews USING (title) WHEN MATCHED THEN DELETE
CREATE TABLE t AS SELECT 1
CREATE VIEW v AS SELECT 1
CREATE TEMP VIEW stories2 AS FROM stories
CREATE MACRO f(x) AS x
CREATE SCHEMA s
CREATE TYPE mood AS ENUM ('a')
CREATE SECRET s (TYPE s3)
DROP TABLE stories
DROP VIEW stories
ALTER TABLE stories ADD COLUMN x INT
ATTACH '{folder}/metadata/catalog.db' AS c
ATTACH ':memory:' AS c
DETACH memory
USE memory
INSTALL httpfs
LOAD json
UPDATE EXTENSIONS
PRAGMA version
PRAGMA database_list
PRAGMA enable_profiling
CALL pragma_version()
CALL enable_logging()
CALL truncate_duckdb_logs()
SET threads = 1
SET GLOBAL enable_external_access = true
RESET threads
SET VARIABLE x = 1
EXPLAIN SELECT 1
EXPLAIN ANALYZE COPY stories TO '{folder}/out.csv'
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
BEGIN
COMMIT
CHECKPOINT
VACUUM
ANALYZE
EXPORT DATABASE '{folder}/exported'
IMPORT DATABASE '{folder}/exported'
SHOW TABLES
SHOW stories
SHOW DATABASES
SHOW ALL TABLES
PIVOT stories ON author USING count(*)
SELECT 1; SELECT 2
SELECT 1; COPY stories TO '{folder}/out.csv'
FROM stories; DROP TABLE stories
WITH x AS (INSERT INTO stories VALUES ('a', 'b') RETURNING *) FROM x
WITH x AS (DELETE FROM stories RETURNING *) FROM x
WITH x AS (UPDATE stories SET title = 'x' RETURNING *) FROM x
FROM stories WHERE title IN (WITH x AS (DELETE FROM stories RETURNING title) FROM x)
FROM read_text('/etc/passwd')
FROM "read_text"('/etc/passwd')
FROM main.read_text('/etc/passwd')
FROM read_csv('/etc/passwd')
FROM read_parquet('{frame}')
FROM parquet_scan('{frame}')
FROM parquet_metadata('{frame}')
FROM read_json('/etc/passwd')
FROM read_blob('{folder}/*')
FROM glob('/etc/*')
FROM sniff_csv('/etc/passwd')
FROM query('SELECT 1')
FROM query_table('stories')
FROM duckdb_settings()
FROM duckdb_secrets()
FROM duckdb_views()
FROM pragma_table_info('stories')
FROM json_execute_serialized_sql('x')
FROM arrow_scan(1, 2, 3)
FROM pandas_scan(1)
FROM seq_scan('stories')
FROM test_all_types()
SELECT read_text('/etc/passwd')
SELECT json_execute_serialized_sql('x')
SELECT (SELECT content FROM read_text('/etc/passwd'))
SELECT * FROM stories, LATERAL (SELECT * FROM read_text(title))
SELECT * FROM (VALUES (1)) UNION ALL SELECT content FROM read_text('/etc/passwd')
SELECT * FROM stories ORDER BY (SELECT content FROM read_text('/etc/passwd'))
SELECT CASE WHEN EXISTS (FROM glob('/etc/*')) THEN 1 END
SELECT list_transform([1], lambda x: (SELECT count(*) FROM glob('/etc/*')))
SELECT count(*) FILTER (WHERE EXISTS (FROM glob('/etc/*'))) FROM stories
SELECT write_log('x')
SELECT nextval('s')
FROM '/etc/passwd'
FROM '{frame}'
FROM '{folder}/metadata/catalog.db'
FROM "{frame}"
FROM 'https://example.com/x.parquet'
FROM information_schema.tables
FROM pg_catalog.pg_tables
FROM main.stories
FROM memory.main.stories
FROM temp.stories
FROM vault.main.tables
FROM sqlite_master
FROM duckdb_logs
FROM stories AT (VERSION => 1)
FROM vault.secrets
SELEC 1
SELECT
SELECT 'unfinished
()
;
-- nothing
