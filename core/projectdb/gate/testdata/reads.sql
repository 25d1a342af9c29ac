SELECT 1
SELECT 1 AS one, 'two' AS "two words", NULL AS n, TRUE AS t, 1.50 AS d, -3 AS m
SELECT * FROM shop.people
select P.Name from SHOP.People as p where P.ID = 1
SELECT * FROM shop.people;
FROM shop.people
FROM shop.people SELECT name WHERE city = 'Paris'
TABLE shop.people
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, s)
SELECT * FROM VALUES (1), (2) AS v(n)
SELECT name, city FROM shop.people WHERE city IN ('Paris', 'London') ORDER BY name DESC NULLS LAST LIMIT 2 OFFSET 1
SELECT DISTINCT city FROM shop.people
SELECT DISTINCT ON (city) city, name FROM shop.people ORDER BY city, name
SELECT a: id, b: name FROM shop.people
SELECT * EXCLUDE (boss, born) FROM shop.people
SELECT * REPLACE (upper(name) AS name) FROM shop.people
SELECT * RENAME (name AS who) FROM shop.people
SELECT COLUMNS('n.*') FROM shop.people
SELECT COLUMNS(c -> c LIKE 'n%') FROM shop.people
SELECT COLUMNS(lambda c: c LIKE 'n%') FROM shop.people
SELECT min(COLUMNS(*)) FROM shop.wide
SELECT * FROM shop.wide WHERE COLUMNS(* EXCLUDE (k)) > 0
SELECT * LIKE '%a%' FROM shop.wide
SELECT p.*, o.amount FROM shop.people AS p JOIN shop.orders AS o ON o.person = p.id WHERE o.amount > 45
SELECT p.name, b.name FROM shop.people p LEFT JOIN shop.people b ON p.boss = b.id
SELECT p.name, b.name FROM shop.people p RIGHT JOIN shop.people b ON p.boss = b.id
SELECT p.name, b.name FROM shop.people p FULL OUTER JOIN shop.people b ON p.boss = b.id
SELECT count(*) FROM shop.people CROSS JOIN shop.wide
SELECT count(*) FROM shop.people, shop.wide, plain
SELECT id FROM shop.people JOIN shop.orders USING (id)
SELECT * FROM plain NATURAL JOIN plain AS q
SELECT name FROM shop.people SEMI JOIN shop.orders ON shop.people.id = shop.orders.person
SELECT name FROM shop.people AS p ANTI JOIN shop.people AS b ON b.boss = p.id
SELECT o.id, p.price FROM shop.orders AS o ASOF JOIN shop.prices AS p ON o.ts >= p.ts WHERE o.id < 5
SELECT o.id, p.price FROM shop.orders AS o ASOF LEFT JOIN shop.prices AS p ON p.ticker = 't1' AND o.ts >= p.ts
SELECT * FROM plain POSITIONAL JOIN shop.wide
SELECT p.name, x.total FROM shop.people AS p, LATERAL (SELECT sum(amount) AS total FROM shop.orders AS o WHERE o.person = p.id) AS x
SELECT p.name, x.id FROM shop.people AS p LEFT JOIN LATERAL (SELECT id FROM shop.orders AS o WHERE o.person = p.id ORDER BY id LIMIT 2) AS x ON true
SELECT r.i, l.j FROM range(3) AS r(i), LATERAL (SELECT i * 2) AS l(j)
SELECT * FROM shop.paris
SELECT * FROM main.plain
SELECT a FROM plain WHERE a = 2
SELECT * FROM shop.csv
SELECT * FROM pg_notes
SELECT "a b", "select", "Ümlaut" FROM shop."odd ""name"
SELECT name FROM shop.people WHERE id = (SELECT max(id) FROM shop.people)
SELECT name FROM shop.people WHERE id IN (SELECT person FROM shop.orders WHERE amount > 40)
SELECT name FROM shop.people WHERE id NOT IN (SELECT person FROM shop.orders WHERE amount > 45)
SELECT name FROM shop.people AS p WHERE EXISTS (SELECT * FROM shop.orders AS o WHERE o.person = p.id AND o.amount > 48)
SELECT name FROM shop.people AS p WHERE NOT EXISTS (FROM shop.orders AS o WHERE o.person = p.id AND o.amount > 48)
SELECT name FROM shop.people WHERE id = ANY (SELECT person FROM shop.orders) AND id >= ALL (SELECT 2)
SELECT ARRAY(SELECT name FROM shop.people ORDER BY id)
SELECT (SELECT count(*) FROM shop.orders), (SELECT max(name) FROM shop.people)
WITH big AS (SELECT * FROM shop.orders WHERE amount > 20) SELECT count(*), sum(amount) FROM big
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
WITH a(x) AS MATERIALIZED (SELECT 1) SELECT * FROM a
WITH a AS NOT MATERIALIZED (SELECT 1 AS x) SELECT a.x, c.x FROM a, a AS c
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r
WITH RECURSIVE chain AS (SELECT id, boss, 0 AS depth FROM shop.people WHERE boss IS NULL UNION ALL SELECT p.id, p.boss, c.depth + 1 FROM shop.people AS p JOIN chain AS c ON p.boss = c.id) SELECT * FROM chain
WITH RECURSIVE t(n, s) USING KEY (n) AS (SELECT 1, 1 UNION SELECT n, s + 1 FROM t WHERE s < 5) SELECT * FROM t
SELECT 1 UNION SELECT 2 UNION ALL SELECT 2
SELECT 1 AS a UNION BY NAME SELECT 2 AS b
(SELECT id FROM shop.people EXCEPT SELECT 1) INTERSECT SELECT 3
SELECT unnest([1, 2, 2, 3]) EXCEPT ALL SELECT 2
SELECT city, count(*), count(boss), avg(id), string_agg(name, ', ' ORDER BY name) FROM shop.people GROUP BY city
SELECT city, count(*) AS n FROM shop.people GROUP BY ALL ORDER BY ALL
SELECT city, count(*) AS n FROM shop.people GROUP BY 1 HAVING n > 1 ORDER BY 2 DESC
SELECT city, boss, count(*) FROM shop.people GROUP BY GROUPING SETS ((city), (boss), (city, boss), ())
SELECT city, boss, count(*), grouping(city, boss) FROM shop.people GROUP BY ROLLUP (city, boss)
SELECT city, boss, count(*), grouping_id(city) FROM shop.people GROUP BY CUBE (city, boss)
SELECT count(*) FILTER (WHERE city = 'Paris'), sum(DISTINCT boss), max(id) FROM shop.people
SELECT list(name ORDER BY id DESC), first(name ORDER BY id), arg_max(name, id), mode(city), median(id) FROM shop.people
SELECT quantile_cont(amount, [0.25, 0.5]), percentile_cont(0.5) WITHIN GROUP (ORDER BY amount), approx_count_distinct(person) FROM shop.orders
SELECT histogram(person), corr(id, amount), stddev(id), regr_slope(amount, id), bool_and(id > 0), bit_or(id) FROM shop.orders
SELECT id, row_number() OVER (ORDER BY id), rank() OVER (PARTITION BY city ORDER BY id), lag(name, 1, 'none') OVER (ORDER BY id) FROM shop.people
SELECT id, sum(amount) OVER w, avg(amount) OVER (w ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM shop.orders WINDOW w AS (PARTITION BY person ORDER BY id)
SELECT id, sum(amount) OVER (ORDER BY ts RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW) FROM shop.orders
SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM shop.people
SELECT id, first_value(city IGNORE NULLS) OVER (ORDER BY id), nth_value(name, 2) OVER (ORDER BY id), ntile(2) OVER (ORDER BY id) FROM shop.people
SELECT id, count(*) FILTER (WHERE id > 2) OVER (ORDER BY id GROUPS 1 PRECEDING), cume_dist() OVER (ORDER BY id) FROM shop.people
SELECT person, amount FROM shop.orders QUALIFY row_number() OVER (PARTITION BY person ORDER BY amount DESC) = 1
SELECT * FROM shop.orders USING SAMPLE reservoir(5 ROWS) REPEATABLE (42)
SELECT count(*) FROM shop.orders TABLESAMPLE reservoir(50%) REPEATABLE (7)
SELECT count(*) FROM shop.orders USING SAMPLE 100%
SELECT id FROM shop.orders ORDER BY id LIMIT 50%
PIVOT shop.orders ON person IN (1, 2, 3) USING sum(amount)
PIVOT shop.people ON city IN ('Paris', 'London') USING count(*) AS n, max(id) GROUP BY boss
SELECT * FROM shop.people PIVOT (count(*) FOR city IN ('Paris' AS p, 'London' AS l))
FROM (SELECT city, boss FROM shop.people) PIVOT (count(*) FOR city IN ('Paris', 'London') GROUP BY boss)
UNPIVOT shop.wide ON jan, feb, mar INTO NAME month VALUE n
SELECT * FROM shop.wide UNPIVOT (n FOR month IN (jan, feb, mar))
SELECT * FROM shop.wide UNPIVOT INCLUDE NULLS (n FOR month IN (jan, feb, mar))
SELECT unnest([1, 2, 3]) AS n, unnest(['a', 'b'])
SELECT * FROM unnest([1, 2, 3]) AS u(n)
SELECT * FROM unnest(['a', 'b']) WITH ORDINALITY AS u(s, n)
SELECT unnest([{'a': 1, 'b': [2, 3]}], recursive := true)
SELECT id, unnest(tags) FROM shop.orders WHERE id < 4
SELECT id, t.tag FROM shop.orders, unnest(tags) AS t(tag) WHERE id < 4
SELECT [1, 2, 3][1], [1, 2, 3][-1], [1, 2, 3][1:2], [1, 2, 3][:2], ([1, 2, 3, 4])[1:-1:2], 'abcdef'[2:3]
SELECT list_transform([1, 2, 3], lambda x: x + 1), list_filter([1, 2, 3], lambda x: x > 1), list_reduce([1, 2, 3], lambda a, b: a + b)
SELECT list_transform([1, 2], lambda x, i: x * i), list_reduce([1, 2, 3], lambda a, b: a * b, 10)
SELECT list_transform([[1], [2, 3]], lambda x: list_transform(x, lambda y: y + len(x)))
SELECT list_transform([1, 2, 3], x -> x + 1)
SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1], [upper(s) FOR s IN ['a', 'b']]
SELECT list_sort([3, 1, 2], 'DESC'), list_distinct([1, 1]), list_contains([1], 1), list_aggregate([1, 2], 'sum'), list_zip([1], ['a'])::VARCHAR, flatten([[1], [2]]), len([1, 2])
SELECT array_value(1, 2, 3)::INTEGER[3], list_cosine_similarity([1.0, 2.0], [2.0, 3.0]), [1, 2] && [2], [1] <@ [1, 2], [1, 2] || [3]
SELECT {'a': 1, 'b': 'x'} AS s, struct_pack(c := 1), ROW(1, 'a')::VARCHAR, (1, 'b') = (1, 'b'), {'a': {'b': 3}}.a.b, struct_extract({'a': 5}, 'a')
SELECT place.street, place['n'], (place).n, o.place.street FROM shop.orders AS o WHERE id < 3
SELECT place.* FROM shop.orders WHERE id < 3
SELECT props['k'], map_keys(props), map_extract(props, 'l'), cardinality(props), MAP {'a': 1}['a'], MAP(['x'], [1]) FROM shop.orders WHERE id < 3
SELECT union_value(a := 1), union_tag(union_value(b := 'x'))
SELECT doc->'a', doc->>'$.b.c[2]', doc->'b'->'c'->0, json_extract(doc, '$.b'), json_extract_string(doc, 'a'), json_type(doc), json_array_length(doc->'b'->'c') FROM shop.orders WHERE id < 3
SELECT json_object('a', 1, 'b', [1, 2]), to_json({'a': 1}), json_array(1, 'x'), json_valid('{'), json_keys('{"a": 1}'), json_structure('{"a": 1}'), '{"a": 1}'::JSON, json_merge_patch('{"a": 1}', '{"b": 2}')
SELECT json_group_array(name), json_group_object(id, name) FROM (SELECT * FROM shop.people ORDER BY id)
SELECT from_json('{"a": 1}', '{"a": "INTEGER"}'), json_transform('{"a": "2"}', '{"a": "INTEGER"}')
SELECT key, value, type FROM json_each('{"a": 1, "b": [2]}')
SELECT fullkey, atom FROM json_tree('{"a": {"b": 1}}')
SELECT o.id, e.key, e.value FROM shop.orders AS o, json_each(o.doc) AS e WHERE o.id < 3
SELECT DATE '2024-02-29' + INTERVAL 1 YEAR, DATE '2024-03-01' - DATE '2024-02-01', TIMESTAMP '2024-01-01 10:00:00' - INTERVAL '90 minutes', TIME '10:00:00'
SELECT date_trunc('month', ts), extract(hour FROM ts), date_part('dow', ts), strftime(ts, '%Y-%m'), dayname(ts), last_day(ts::DATE) FROM shop.orders WHERE id < 5
SELECT strptime('2024-01-02', '%Y-%m-%d'), try_strptime('x', '%Y'), make_date(2024, 1, 2), to_timestamp(0), epoch_ms(1000), age(DATE '2024-01-01', DATE '2020-01-01'), date_diff('day', DATE '2024-01-01', DATE '2024-02-01')
SELECT time_bucket(INTERVAL '1 day', ts) AS d, count(*) FROM shop.orders GROUP BY d
SELECT TIMESTAMP '2024-01-01 10:00:00' AT TIME ZONE 'Europe/Berlin', TIMESTAMPTZ '2024-07-01 10:00:00+00' AT TIME ZONE 'Asia/Tokyo', timezone('UTC', TIMESTAMP '2024-01-01 00:00:00')
SELECT now() > TIMESTAMPTZ '2020-01-01', current_date > DATE '2020-01-01', current_timestamp IS NULL, today() IS NULL
SELECT INTERVAL 3 DAYS, INTERVAL (1 + 2) HOURS, INTERVAL '1 month 2 days', to_days(3), '3 weeks'::INTERVAL
SELECT range FROM range(3)
SELECT * FROM range(10, 0, -3)
SELECT * FROM generate_series(1, 3)
SELECT * FROM range(DATE '2024-01-01', DATE '2024-03-01', INTERVAL 1 MONTH)
SELECT regexp_matches('abc', 'b'), regexp_replace('aaa', 'a', 'b', 'g'), regexp_extract('a1b2', '([a-z])(\d)', 2), regexp_extract_all('a1b2', '\d'), 'abc' SIMILAR TO 'a.*', 'abc' ~ 'a.c', regexp_split_to_array('a,b', ',')
SELECT regexp_extract('2024-05', '(\d+)-(\d+)', ['y', 'm'])
SELECT 'abc' LIKE 'a%', 'ABC' ILIKE 'a%', 'a%c' LIKE 'a!%c' ESCAPE '!', 'abc' NOT LIKE 'b%', 'abc' GLOB 'a*', 'x' NOT ILIKE 'Y', starts_with('abc', 'a'), 'abc' ^@ 'a'
SELECT upper('é'), length('日本'), substring('abcdef', 2, 3), substring('abc' FROM 2 FOR 1), position('b' IN 'abc'), trim(' a '), trim(BOTH 'x' FROM 'xax'), lpad('a', 3, '0'), reverse('abc'), concat_ws('-', 1, NULL, 2), split_part('a.b', '.', 2), format('{} {:.2f}', 'a', 1.5), printf('%d', 3), 'a' || 'b'
SELECT 'it''s', E'a\tb\\n\'', $$dollar 'quoted'$$, $tag$a $$ b$tag$, '\x41'::BLOB, '', 'semi; -- colon /* */'
SELECT 1 + 2 * 3 - 4 / 2, 7 // 2, 7 % 3, 2 ** 3, 2 ^ 3, -5, - -5, +3, @(-3), 5!, 6 & 3, 6 | 1, xor(6, 3), ~1, 1 << 3, 8 >> 1
SELECT 1e3, 1.5e-5, 1e10 * 2, 123456789012345678901234567890, 0.1 + 0.2, 1_000_000, 0x1F, 1::FLOAT / 3
SELECT round(2.567, 2), ceil(1.2), floor(-1.2), abs(-1), sqrt(2), ln(10), log(100), pi(), greatest(1, 2, 3), least(1, NULL), sign(-3), gcd(12, 18), trunc(1.9), mod(7, 3), pow(2, 10)
SELECT CASE WHEN id > 2 THEN 'big' WHEN id = 2 THEN 'two' ELSE 'small' END, CASE city WHEN 'Paris' THEN 1 END, if(id > 2, 'a', 'b'), coalesce(city, '?'), nullif(city, 'Paris'), ifnull(city, 'x') FROM shop.people
SELECT id BETWEEN 2 AND 3, id NOT BETWEEN 2 AND 3, city IS NULL, city IS NOT NULL, city IS DISTINCT FROM 'Paris', city IS NOT DISTINCT FROM NULL, NOT (id > 2 AND id < 4 OR id = 1), (id > 1) IS TRUE, (id > 1) IS NOT FALSE, (id > 1) IS NOT UNKNOWN FROM shop.people
SELECT id::VARCHAR, CAST(id AS DOUBLE), TRY_CAST('x' AS INTEGER), '5'::INTEGER + 1, id::DECIMAL(5,1), [1]::BIGINT[], {'a': '1'}::STRUCT(a INTEGER), 'a'::ENUM('a', 'b'), '{a=1}'::MAP(VARCHAR, INTEGER), '{"a": 1}'::JSON->>'a' FROM shop.people WHERE id = 1
SELECT TRY(1 // 0), TRY('x'::INTEGER)
SELECT name COLLATE NOCASE FROM shop.people ORDER BY name COLLATE NOACCENT DESC
SELECT name FROM shop.people ORDER BY upper(name), id DESC NULLS FIRST, 1
SELECT #1, #2 FROM shop.people
SELECT p FROM shop.people AS p WHERE p.id = 1
SELECT name.upper().lower(), name.length() FROM shop.people
SELECT id, id AS x, x + 1 AS y, y * 2 FROM shop.people
SELECT shop.people.name, people.id FROM shop.people
SELECT rowid, id FROM shop.people
SELECT hash('a') = hash('a'), md5('a'), sha256('a'), typeof(1), uuid() IS NOT NULL, random() < 1, base64('a'::BLOB), hex('a'), bin(5), encode('é'), decode('a'::BLOB), version() IS NULL, current_user, current_schema() IS NULL
SELECT bit_count(5), '101'::BIT, get_bit('101'::BIT, 0), bitstring('1', 4), format_bytes(2048), bar(3, 0, 10, 5), levenshtein('a', 'b'), jaccard('ab', 'bc'), jaro_winkler_similarity('a', 'a'), strip_accents('é'), url_encode('a b')
SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'shop'
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'people' ORDER BY ordinal_position
SELECT schema_name FROM information_schema.schemata
DESCRIBE shop.people
DESCRIBE SELECT id, name FROM shop.people
SELECT column_name FROM (DESCRIBE shop.people)
SUMMARIZE shop.wide
SUMMARIZE SELECT jan FROM shop.wide
SELECT column_name, approx_unique FROM (SUMMARIZE shop.wide)
EXPLAIN SELECT 1
EXPLAIN (FORMAT json) SELECT 1
/* one /* nested */ comment */ SELECT /* inside */ name FROM shop.people -- behind
SELECT * FROM (SELECT * FROM (SELECT id FROM shop.people) AS a) AS b WHERE id > (SELECT 1)
SELECT a.id FROM (shop.people AS a JOIN shop.people AS b ON a.boss = b.id) JOIN shop.people AS c ON b.boss = c.id
SELECT sum(amount) AS total, person FROM shop.orders WHERE ts >= '2024-01-03' AND ts < '2024-01-10' GROUP BY person ORDER BY total DESC
SELECT max_by(name, id), min(born), count(DISTINCT city), any_value(city), product(id), sum(id)::BIGINT FROM shop.people
SELECT equi_width_bins(0, 10, 2, true), map_from_entries([('a', 1)]), list_value(1, 2), element_at(MAP {'a': 1}, 'a'), array_position([1, 2], 2), generate_series(1, 3), list_slice([1, 2, 3], 1, 2)
SELECT x.a.b[1].c FROM (SELECT {'a': {'b': [{'c': 5}]}} AS x) AS t
SELECT 1 WHERE 'read_csv(''x.csv'')' <> '' AND 'enable_logging' LIKE '%_log%'
SELECT "read_csv", "current_setting" FROM (SELECT 1 AS read_csv, 2 AS current_setting) AS pg
SELECT * FROM csv.json
SELECT * FROM memory.shop.people
WITH json AS (SELECT 1 AS csv), parquet(x) AS (SELECT 2) SELECT csv, x FROM json, parquet
SELECT * FROM repeat('x', 3)
SELECT name FROM pg_timezone_names() WHERE name = 'UTC'
SELECT count(*) FROM information_schema.table_constraints WHERE table_schema = 'shop'
SELECT 'a' = $$a$$ AND id > 0 AND (name) IS NOT NULL FROM shop.people ORDER BY ALL DESC
