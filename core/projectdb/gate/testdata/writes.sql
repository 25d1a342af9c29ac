INSERT INTO plain VALUES (4), (5)
INSERT INTO plain (a) VALUES (DEFAULT)
INSERT INTO plain SELECT a + 10 FROM plain
INSERT INTO plain FROM plain
INSERT INTO plain (SELECT 9)
INSERT INTO plain DEFAULT VALUES
INSERT INTO shop.people BY NAME SELECT 'Zoe' AS name, 9 AS id
INSERT INTO shop.people (id, "name") VALUES (10, 'it''s; DROP TABLE'), (11, 'é') RETURNING id, upper(name) AS u
INSERT INTO shop.people (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING
INSERT INTO shop.people AS p (id, name) VALUES (1, 'x'), (12, 'y') ON CONFLICT (id) DO UPDATE SET name = excluded.name || p.name, city = DEFAULT WHERE p.id < 5
INSERT OR REPLACE INTO shop.people (id, name) VALUES (2, 'new')
INSERT OR IGNORE INTO shop.people (id, name) VALUES (2, 'new'), (13, 'z')
WITH t AS (SELECT 14 AS id, 'w' AS name) INSERT INTO shop.people (id, name) SELECT id, name FROM t
INSERT INTO shop.people (id, name) WITH t(i) AS (VALUES (15), (16)) SELECT i, 'n' || i FROM t
INSERT INTO shop.orders (id, tags, place, props, doc) VALUES (99, ['a'], {'street': 's', 'n': 1}, MAP {'k': 1}, '{"a": 1}')
INSERT INTO shop.orders SELECT * REPLACE (id + 100 AS id) FROM shop.orders WHERE id < 3
INSERT INTO shop.prices VALUES ('e', '2024-01-01', 1e10), ('f', TIMESTAMP '2024-01-02 03:04:05', 1.5e-7)
INSERT INTO shop."odd ""name" ("a b", "select") VALUES (2, 'y')
UPDATE plain SET a = a * 2
UPDATE plain SET a = 7 WHERE a = 1;
UPDATE shop.people SET name = upper(name), city = NULL, boss = DEFAULT WHERE id IN (SELECT person FROM shop.orders WHERE amount > 45) RETURNING *
UPDATE shop.people AS p SET city = o.id::VARCHAR FROM shop.orders AS o WHERE o.id = p.id AND p.city IS DISTINCT FROM 'Paris'
UPDATE shop.people p SET city = CASE WHEN p.id > 2 THEN 'far' ELSE p.city END
UPDATE shop.people SET boss = (SELECT max(id) FROM shop.people), name = name || ', ' || coalesce(city, '(none)')
WITH t AS (SELECT 3 AS i) UPDATE shop.people SET name = 'three' FROM t WHERE id = t.i
UPDATE shop.people SET city = city IS DISTINCT FROM 'Paris', name = 'x' WHERE city IS NOT NULL
DELETE FROM plain
DELETE FROM plain WHERE a BETWEEN 1 AND 2 AND NOT a = 2
DELETE FROM shop.orders WHERE tags[1] = 't1' AND (doc->>'a') > '3' RETURNING id
DELETE FROM shop.orders AS o USING shop.people AS p WHERE o.person = p.id AND p.city = 'Paris'
DELETE FROM shop.orders o WHERE NOT EXISTS (SELECT * FROM shop.people AS p WHERE p.id = o.person AND p.city IS NOT NULL)
WITH old AS (SELECT id FROM shop.orders WHERE ts < '2024-01-05') DELETE FROM shop.orders WHERE id IN (SELECT id FROM old)
MERGE INTO shop.people AS p USING (SELECT 1 AS id, 'merged' AS name UNION ALL SELECT 20, 'fresh') AS s ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)
MERGE INTO shop.people AS p USING shop.orders AS s ON p.id = s.id WHEN MATCHED AND p.city = 'Paris' THEN DELETE WHEN MATCHED THEN DO NOTHING
MERGE INTO plain USING (SELECT 1 AS a) AS s USING (a) WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET a = plain.a + 100
MERGE INTO shop.people USING (SELECT 2 AS id, 'by name' AS name) AS s USING (id) WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME
MERGE INTO plain USING (SELECT 77 AS a) AS s ON plain.a = s.a WHEN NOT MATCHED THEN INSERT *
CREATE TABLE shop.made AS SELECT * FROM shop.people WHERE city IS NOT NULL
CREATE TABLE shop.made (x, "y z") AS SELECT id, name FROM shop.people
CREATE TABLE IF NOT EXISTS shop.people AS SELECT 1
CREATE OR REPLACE TABLE shop.wide AS SELECT k, jan + feb + mar AS total FROM shop.wide WITH DATA
CREATE TABLE shop.empty AS FROM shop.people WITH NO DATA
CREATE TABLE shop.made AS (WITH t AS (SELECT 1 AS a) SELECT a, 1e3 AS b, [1, 2] AS c, {'x': 1} AS d FROM t)
CREATE TABLE shop.made AS PIVOT shop.orders ON person IN (1, 2) USING sum(amount)
CREATE VIEW shop.seen AS SELECT id, name FROM shop.people WHERE name LIKE 'A%'
CREATE OR REPLACE VIEW shop.paris (a, b) AS SELECT id, city FROM shop.people WHERE city = 'Paris'
CREATE VIEW IF NOT EXISTS shop.seen AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r
INSERT INTO plain VALUES (1), (2), (3) ORDER BY 1 LIMIT 2
INSERT INTO shop.wide (jan, feb) SELECT * FROM (VALUES (1)) AS a, (VALUES (2)) AS valueslist
INSERT INTO plain SELECT * FROM (VALUES (1)) AS valueslist WHERE valueslist.col0 > 0
INSERT INTO plain SELECT col0 FROM (VALUES (1, 2)) AS valueslist
